#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "sinopia/backend/kernels.h"

namespace sinopia::cuda {

enum class ConvolutionKind : uint8_t { Forward, BackwardData, BackwardFilter };
/// What is added to the sums: nothing, an image like y, or [N,O], one number for every pixel of an image.
enum class AddedShape : uint8_t { None, Pixels, Images };

/// What a convolution's graph does with the sums of Forward before it rounds them to y.
struct FusedEnding {
  AddedShape add = AddedShape::None;  ///< of y's dtype, as is the bias [O]
  bool bias = false;
  Activation activation = Activation::None;
  auto operator<=>(const FusedEnding&) const = default;
  bool any() const { return add != AddedShape::None || bias || activation != Activation::None; }
};

/// All that a plan of a convolution depends on. Images x [N,H,W,I] and y [N,OH,OW,O] and filters w
/// [O,KH,KW,I] are of one dtype and packed, sums are f32. Forward computes y, BackwardData x and
/// BackwardFilter w, each from the other two.
struct Convolution {
  ConvolutionKind kind = ConvolutionKind::Forward;
  DType dtype = DType::F32;
  int64_t N = 0, H = 0, W = 0, I = 0, OH = 0, OW = 0, O = 0, KH = 0, KW = 0;
  int64_t stride = 1;
  std::array<int64_t, 2> before{}, after{};  ///< zeros above and left of x, below and right of it
  FusedEnding ending;
  bool tf32 = false;     ///< factors in f32 may be rounded to 10 bits
  bool compile = false;  ///< engines that compile a kernel for the problem may be taken: seconds
  auto operator<=>(const Convolution&) const = default;
};

/// Addresses on the device, multiples of kConvolutionAlignment; bias and add where the ending has them. What
/// the kind computes is written to.
struct ConvolutionBuffers {
  const void *x = nullptr, *w = nullptr, *y = nullptr, *bias = nullptr, *add = nullptr;
};

inline constexpr size_t kConvolutionAlignment = 16;

/// A way in which cuDNN computes one convolution, on the device that was current when it was made.
class ConvolutionPlan {
 public:
  virtual ~ConvolutionPlan() = default;
  virtual size_t workspace_bytes() const = 0;
  /// Queues it on the device's stream. `workspace` has that many bytes.
  virtual void run(const ConvolutionBuffers& buffers, void* workspace) const = 0;
};

/// Up to `most` plans, those first that cuDNN expects to be fastest; none if it cannot do the convolution.
/// Their results depend on nothing but the inputs: no engine that adds in changing order, rounds sums to
/// less than f32, or multiplies in another domain (Winograd, FFT). If all need more than `workspace` bytes,
/// the one that needs least. Work of the host alone.
std::vector<std::unique_ptr<ConvolutionPlan>> convolution_plans(const Convolution& problem, size_t most,
                                                                size_t workspace);

}  // namespace sinopia::cuda
