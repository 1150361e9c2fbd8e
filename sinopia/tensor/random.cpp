#include "sinopia/tensor/random.h"

#include <bit>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

namespace sinopia {
namespace {

constexpr int64_t kBlock = 16;  // torch transforms normal numbers in blocks of 16: 8 radii and 8 angles

// Logarithm, sine and cosine by the polynomials of Moshier's Cephes library with the fused operations of
// torch's AVX2 build, since a correctly rounded function differs from torch's by up to 3 units in the last
// place.
float cephes_log(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  float e = static_cast<float>(static_cast<int>(bits >> 23) - 126);
  x = std::bit_cast<float>((bits & 0x007fffffu) | 0x3f000000u);  // [0.5,1)
  if (x < 0.707106781186547524f) {
    e -= 1.0f;
    x = x - 1.0f + x;
  } else {
    x -= 1.0f;
  }
  const float z = x * x;
  float y = 7.0376836292e-2f;
  for (const float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                        -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f}) {
    y = std::fma(y, x, c);
  }
  y = std::fma(y * x, z, e * -2.12194440e-4f);
  y = std::fma(-z, 0.5f, y);
  return std::fma(e, 0.693359375f, x + y);
}

// 0 <= x < 8192
void cephes_sincos(float x, float& sine, float& cosine) {
  const int octant = (static_cast<int>(x * 1.27323954473516f) + 1) & ~1;
  const float j = static_cast<float>(octant);
  x = std::fma(j, -0.78515625f, x);
  x = std::fma(j, -2.4187564849853515625e-4f, x);
  x = std::fma(j, -3.77489497744594108e-8f, x);
  const float z = x * x;
  float c = std::fma(2.443315711809948e-5f, z, -1.388731625493765e-3f);
  c = std::fma(c, z, 4.166664568298827e-2f) * z;
  c = std::fma(c, z, -(z * 0.5f)) + 1.0f;
  float s = std::fma(-1.9515295891e-4f, z, 8.3321608736e-3f);
  s = std::fma(s, z, -1.6666654611e-1f) * z;
  s = std::fma(s, x, x);
  const bool swapped = octant & 2;
  sine = octant & 4 ? -(swapped ? c : s) : (swapped ? c : s);
  cosine = (octant + 2) & 4 ? -(swapped ? s : c) : (swapped ? s : c);
}

void box_muller_block(float* x) {
  for (int64_t j = 0; j < kBlock / 2; ++j) {
    const float theta = static_cast<float>(2.0 * std::numbers::pi) * x[j + kBlock / 2];
    const float radius = std::sqrt(-2.0f * cephes_log(1.0f - x[j]));
    float sine, cosine;
    cephes_sincos(theta, sine, cosine);
    x[j] = radius * cosine;
    x[j + kBlock / 2] = radius * sine;
  }
}

}  // namespace

const char* to_string(RngKind kind) { return kind == RngKind::TorchCpu ? "cpu" : "cuda"; }

RngKind parse_rng_kind(std::string_view name) {
  if (name == "cpu") return RngKind::TorchCpu;
  if (name == "cuda" || name == "gpu") return RngKind::CudaPhilox;
  fail(ErrorKind::InvalidArgument, "[random] expected the noise source cpu or cuda (gpu), got \"{}\"", name);
}

uint64_t TorchCpuGenerator::random64() {
  const uint64_t high = random32();
  return high << 32 | random32();
}

double TorchCpuGenerator::uniform_double() {
  return static_cast<double>(random64() & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
}

double TorchCpuGenerator::normal_double() {
  if (waiting_normal_) return *std::exchange(waiting_normal_, std::nullopt);
  const double u1 = uniform_double();
  const double u2 = uniform_double();
  const double radius = std::sqrt(-2.0 * std::log1p(-u2));
  const double theta = 2.0 * std::numbers::pi * u1;
  waiting_normal_ = radius * std::sin(theta);
  return radius * std::cos(theta);
}

void TorchCpuGenerator::uniform(std::span<float> out) {
  for (float& x : out) x = static_cast<float>(random32() & ((uint32_t{1} << 24) - 1)) * 0x1p-24f;
}

void TorchCpuGenerator::normal(std::span<float> out) {
  if (out.size() < kBlock) {
    for (float& x : out) x = static_cast<float>(normal_double());
    return;
  }
  uniform(out);
  for (size_t i = 0; i + kBlock <= out.size(); i += kBlock) box_muller_block(out.data() + i);
  if (out.size() % kBlock != 0) {
    const std::span<float> tail = out.last(kBlock);
    uniform(tail);
    box_muller_block(tail.data());
  }
}

void TorchCpuGenerator::randint(int64_t low, int64_t high, std::span<int64_t> out) {
  SINOPIA_CHECK(low < high, InvalidArgument, "[random] expected low < high, got {} and {}", low, high);
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  for (int64_t& x : out) {
    const uint64_t drawn = range >= uint64_t{1} << 28 ? random64() : random32();
    x = static_cast<int64_t>(drawn % range + static_cast<uint64_t>(low));
  }
}

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

void CudaPhiloxGenerator::normal(std::span<float> out) {
  const std::array<uint32_t, 2> key{static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)};
  // cuRAND's constants are floats: 2^-32 is exact, 2 pi 2^-32 is not.
  constexpr double kTurn = static_cast<float>(0x1p-32 * 2.0 * std::numbers::pi);
  for (size_t i = 0; i < out.size(); ++i) {
    const auto words = philox4x32({offset_, 0, static_cast<uint32_t>(i), 0}, key);
    const double u = words[0] * 0x1p-32 + 0x1p-33;
    const double theta = words[1] * kTurn + kTurn / 2;
    out[i] = static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::sin(theta));
  }
  ++offset_;
}

std::unique_ptr<NoiseGenerator> make_generator(RngKind kind, uint64_t seed) {
  if (kind == RngKind::TorchCpu) return std::make_unique<TorchCpuGenerator>(seed);
  return std::make_unique<CudaPhiloxGenerator>(seed);
}

Tensor randn(NoiseGenerator& generator, const Shape& shape) {
  SINOPIA_CHECK(shape.rank() == 4, InvalidArgument, "[randn] expected [N,H,W,C], got {}", to_string(shape));
  const int64_t N = shape[0], HW = shape[1] * shape[2], C = shape[3];
  std::vector<float> drawn(static_cast<size_t>(shape.numel()));
  generator.normal(drawn);
  Tensor result = Tensor::empty(shape);
  float* out = result.data<float>();
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t c = 0; c < C; ++c) {
      const float* plane = drawn.data() + (n * C + c) * HW;
      for (int64_t i = 0; i < HW; ++i) out[(n * HW + i) * C + c] = plane[i];
    }
  }
  return result;
}

}  // namespace sinopia
