#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string_view>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Which tool's noise a seed stands for.
enum class RngKind {
  TorchCpu,    ///< torch.Generator("cpu"): ComfyUI, diffusers with a CPU generator
  CudaPhilox,  ///< torch.Generator("cuda"): AUTOMATIC1111, stable-diffusion.cpp
};

/// "cpu" or "cuda".
const char* to_string(RngKind kind);

/// Accepts "cpu", "cuda" and "gpu". Throws InvalidArgument for another name.
RngKind parse_rng_kind(std::string_view name);

/// A seeded stream of standard normal numbers. Each call is one torch.randn of that many elements: how a
/// stream is cut into calls changes the numbers. Not thread safe.
class NoiseGenerator {
 public:
  virtual ~NoiseGenerator() = default;
  virtual void normal(std::span<float> out) = 0;
};

/// torch.Generator("cpu") of PyTorch 2.x: mt19937 seeded with the lower 32 bits. All numbers are bit equal to
/// those of torch's AVX2 kernels, the usual ones on x86, except for normal draws of fewer than 16, which are
/// equal to rounding of the C library's functions. All draws share one stream, as they do there.
class TorchCpuGenerator final : public NoiseGenerator {
 public:
  explicit TorchCpuGenerator(uint64_t seed) : engine_(static_cast<uint32_t>(seed)) {}

  uint32_t random32() { return static_cast<uint32_t>(engine_()); }
  uint64_t random64();
  /// torch.randn(n): from 16 elements on the blocked Box-Muller transform, below it one in double, whose
  /// second number waits for the next such call.
  void normal(std::span<float> out) override;
  /// torch.rand(n), [0,1).
  void uniform(std::span<float> out);
  /// torch.randint(low, high, (n,)), [low,high). Throws InvalidArgument unless low < high.
  void randint(int64_t low, int64_t high, std::span<int64_t> out);

 private:
  double uniform_double();
  double normal_double();

  std::mt19937 engine_;
  std::optional<double> waiting_normal_;
};

/// torch.Generator("cuda") as AUTOMATIC1111 reproduces it without a GPU (modules/rng_philox.py):
/// Philox4x32-10 with the seed as its key; element i of call k has the counter (k,0,i,0) and is the sine half
/// of Box-Muller on the first two words. This is what a GPU draws as long as each of its threads has at most
/// one element.
class CudaPhiloxGenerator final : public NoiseGenerator {
 public:
  explicit CudaPhiloxGenerator(uint64_t seed) : seed_(seed) {}
  void normal(std::span<float> out) override;

 private:
  uint64_t seed_;
  uint32_t offset_ = 0;
};

/// Philox4x32-10 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

std::unique_ptr<NoiseGenerator> make_generator(RngKind kind, uint64_t seed);

/// One draw of N*C*H*W normal numbers in [N,C,H,W] order, as the references draw a latent, laid out as
/// [N,H,W,C]. `shape` is [N,H,W,C]; throws InvalidArgument for another rank.
Tensor randn(NoiseGenerator& generator, const Shape& shape);

}  // namespace sinopia
