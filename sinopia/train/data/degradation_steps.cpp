#include "sinopia/train/data/degradation_steps.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "sinopia/base/error.h"
#include "sinopia/base/threads.h"
#include "sinopia/io/image.h"
#include "sinopia/ops/resize.h"

namespace sinopia {
namespace {

constexpr int64_t kChannels = 3;
constexpr int kMaxRadius = 256;

void check_picture(const char* where, const Tensor& x) {
  SINOPIA_CHECK(x.defined() && x.dtype() == DType::F32 && x.device().is_cpu() && x.rank() == 3 &&
                    x.dim(2) == kChannels && x.numel() > 0,
                InvalidArgument, "[{}] expected f32 [H,W,3] on the CPU, got {}", where, describe(x));
}

float clamped(double value) { return static_cast<float>(std::clamp(value, 0.0, 1.0)); }

/// Where a place beyond [0,count) is found in the mirror, or in the mirror of the mirror.
int64_t mirrored(int64_t at, int64_t count) {
  if (count == 1) return 0;
  const int64_t period = 2 * (count - 1);
  const int64_t within = (at % period + period) % period;
  return std::min(within, period - within);
}

/// What of each old pixel of an axis lies in a new one, of sum 1.
struct AreaShares {
  int64_t begin = 0;
  std::vector<float> shares;
};

std::vector<AreaShares> area_shares(int64_t from, int64_t to) {
  std::vector<AreaShares> result(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    // In units of 1/to of an old pixel all borders are whole numbers.
    const int64_t begin = i * from, end = begin + from;
    AreaShares& pixel = result[static_cast<size_t>(i)];
    pixel.begin = begin / to;
    for (int64_t old = pixel.begin; old * to < end; ++old) {
      const int64_t overlap = std::min(end, (old + 1) * to) - std::max(begin, old * to);
      pixel.shares.push_back(static_cast<float>(static_cast<double>(overlap) / static_cast<double>(from)));
    }
  }
  return result;
}

/// x as [outer,from,inner] -> [outer,to,inner].
Tensor area_along(const Tensor& x, int64_t outer, int64_t from, int64_t to, int64_t inner) {
  Tensor y = Tensor::empty({outer, to, inner});
  const auto axis = area_shares(from, to);
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < to; ++i) {
      float* out = y.data<float>() + (o * to + i) * inner;
      std::fill_n(out, inner, 0.0f);
      const AreaShares& pixel = axis[static_cast<size_t>(i)];
      const float* in = x.data<float>() + (o * from + pixel.begin) * inner;
      for (const float share : pixel.shares) {
        for (int64_t k = 0; k < inner; ++k) out[k] += share * in[k];
        in += inner;
      }
    }
  }
  return y;
}

Tensor clamp_unit(Tensor x) {
  float* values = x.data<float>();
  for (int64_t i = 0; i < x.numel(); ++i) values[i] = std::clamp(values[i], 0.0f, 1.0f);
  return x;
}

}  // namespace

Tensor gaussian_kernel(int radius, double variance_a, double variance_b, double angle, double shift) {
  SINOPIA_CHECK(
      radius >= 0 && radius <= kMaxRadius && variance_a >= 0 && variance_b >= 0 &&
          std::isfinite(variance_a + variance_b + angle) && std::abs(shift) <= radius,
      InvalidArgument,
      "[blur] expected a radius of 0 to {}, finite variances from 0 and a shift within the radius, got "
      "{}, {}, {} and {}",
      kMaxRadius + 0, radius, variance_a, variance_b, shift);
  constexpr double kLeastVariance = 1e-3;  // all of it within a pixel
  const double a = std::max(variance_a, kLeastVariance), b = std::max(variance_b, kLeastVariance);
  const int size = 2 * radius + 1;
  // Counted from the least exponent, so that a narrow kernel between two pixels does not vanish.
  std::vector<double> exponents;
  for (int row = 0; row < size; ++row) {
    for (int column = 0; column < size; ++column) {
      const double y = row - radius - shift, x = column - radius - shift;
      const double along = x * std::cos(angle) + y * std::sin(angle);
      const double across = y * std::cos(angle) - x * std::sin(angle);
      exponents.push_back((along * along / a + across * across / b) / 2);
    }
  }
  const double least = *std::ranges::min_element(exponents);
  double sum = 0;
  for (double& e : exponents) sum += e = std::exp(least - e);
  Tensor kernel = Tensor::empty({size, size});
  std::ranges::transform(exponents, kernel.data<float>(),
                         [&](double w) { return static_cast<float>(w / sum); });
  return kernel;
}

Tensor blur(const Tensor& x, const Tensor& kernel) {
  check_picture("blur", x);
  SINOPIA_CHECK(kernel.defined() && kernel.dtype() == DType::F32 && kernel.rank() == 2 &&
                    kernel.dim(0) == kernel.dim(1) && kernel.dim(0) % 2 == 1,
                InvalidArgument, "[blur] expected a kernel f32 [2r+1,2r+1], got {}", describe(kernel));
  const int64_t H = x.dim(0), W = x.dim(1), size = kernel.dim(0), radius = size / 2;
  const int64_t padded_row = (W + 2 * radius) * kChannels, row = W * kChannels;
  std::vector<float> padded(static_cast<size_t>(H * padded_row));
  for (int64_t y = 0; y < H; ++y) {
    float* to = padded.data() + y * padded_row;
    for (int64_t at = -radius; at < W + radius; ++at, to += kChannels)
      std::copy_n(x.data<float>() + y * row + mirrored(at, W) * kChannels, kChannels, to);
  }
  Tensor result = empty_like(x);
  const float* weights = kernel.data<float>();
  parallel_for(H, 8, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      float* out = result.data<float>() + y * row;
      std::fill_n(out, row, 0.0f);
      for (int64_t ky = 0; ky < size; ++ky) {
        const float* in = padded.data() + mirrored(y + ky - radius, H) * padded_row;
        for (int64_t kx = 0; kx < size; ++kx) {
          const float weight = weights[ky * size + kx];
          const float* from = in + kx * kChannels;
          for (int64_t i = 0; i < row; ++i) out[i] += weight * from[i];
        }
      }
    }
  });
  return clamp_unit(std::move(result));
}

Tensor rescale(const Tensor& x, int64_t height, int64_t width, RescaleFilter filter) {
  check_picture("rescale", x);
  SINOPIA_CHECK(height >= 1 && width >= 1 && height <= kMaxImagePixels / width, InvalidArgument,
                "[rescale] expected sides from 1 and at most {} pixels, got {}x{}", kMaxImagePixels + 0,
                width, height);
  const int64_t H = x.dim(0), W = x.dim(1);
  Tensor y;
  if (filter == RescaleFilter::Area) {
    y = area_along(area_along(x, H, W, width, kChannels), 1, H, height, width * kChannels);
  } else {
    const auto kernel = filter == RescaleFilter::Bilinear ? ResizeFilter::Bilinear : ResizeFilter::Bicubic;
    y = resize(x.reshape({1, H, W, kChannels}), height, width, kernel, filter == RescaleFilter::Sharp);
  }
  return clamp_unit(y.reshape({height, width, kChannels}));
}

Tensor decimate(const Tensor& x, int factor) {
  check_picture("decimate", x);
  SINOPIA_CHECK(factor >= 1, InvalidArgument, "[decimate] expected a factor from 1, got {}", factor);
  const int64_t W = x.dim(1), rows = (x.dim(0) + factor - 1) / factor, columns = (W + factor - 1) / factor;
  Tensor y = Tensor::empty({rows, columns, kChannels});
  float* to = y.data<float>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column, to += kChannels)
      std::copy_n(x.data<float>() + (row * W + column) * factor * kChannels, kChannels, to);
  }
  return y;
}

NoiseRoot gray_noise(double deviation) { return {deviation, 0, 0, deviation, 0, 0, deviation, 0, 0}; }

NoiseRoot color_noise(double deviation) { return {deviation, 0, 0, 0, deviation, 0, 0, 0, deviation}; }

NoiseRoot correlated_noise(double deviation, Draws& draws) {
  // Two normal vectors made orthonormal, and what stands upright on both.
  std::array<double, 3> a, b;
  for (double& v : a) v = draws.normal();
  for (double& v : b) v = draws.normal();
  const auto dot = [](const auto& p, const auto& q) { return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]; };
  const auto to_length_one = [&](auto& p) {
    const double length = std::sqrt(dot(p, p));
    for (double& v : p) v /= length;
  };
  to_length_one(a);
  const double along = dot(a, b);
  for (size_t i = 0; i < 3; ++i) b[i] -= along * a[i];
  to_length_one(b);
  const std::array<double, 3> c{a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2],
                                a[0] * b[1] - a[1] * b[0]};
  NoiseRoot root;
  size_t column = 0;
  for (const auto& axis : {a, b, c}) {
    const double spread = deviation * std::sqrt(draws.uniform());
    for (size_t channel = 0; channel < 3; ++channel) root[channel * 3 + column] = spread * axis[channel];
    ++column;
  }
  return root;
}

Tensor add_gaussian_noise(const Tensor& x, const NoiseRoot& root, Draws& draws) {
  check_picture("noise", x);
  // A column of zeros takes no number: grey noise draws one a pixel.
  const auto used = [&](size_t j) { return root[j] != 0 || root[3 + j] != 0 || root[6 + j] != 0; };
  const std::array<bool, 3> draw_column{used(0), used(1), used(2)};
  Tensor y = empty_like(x);
  for (int64_t i = 0; i < x.numel(); i += kChannels) {
    std::array<double, 3> normal{};
    for (size_t j = 0; j < 3; ++j) normal[j] = draw_column[j] ? draws.normal() : 0;
    for (size_t c = 0; c < 3; ++c) {
      const double* r = root.data() + 3 * c;
      const int64_t at = i + static_cast<int64_t>(c);
      const double noise = r[0] * normal[0] + r[1] * normal[1] + r[2] * normal[2];
      y.data<float>()[at] = clamped(static_cast<double>(x.data<float>()[at]) + noise);
    }
  }
  return y;
}

double srgb_to_linear(double value) {
  return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

double linear_to_srgb(double value) {
  return value <= 0.0031308 ? value * 12.92 : 1.055 * std::pow(value, 1 / 2.4) - 0.055;
}

Tensor add_camera_noise(const Tensor& x, double shot, double read, Draws& draws) {
  check_picture("noise", x);
  SINOPIA_CHECK(shot >= 0 && read >= 0 && std::isfinite(shot + read), InvalidArgument,
                "[noise] expected variances from 0, got {} and {}", shot, read);
  Tensor y = empty_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double light = srgb_to_linear(static_cast<double>(x.data<float>()[i]));
    const double seen = light + std::sqrt(shot * std::max(light, 0.0) + read) * draws.normal();
    y.data<float>()[i] = clamped(linear_to_srgb(std::clamp(seen, 0.0, 1.0)));
  }
  return y;
}

Tensor jpeg_round_trip(const Tensor& x, int quality) {
  check_picture("jpeg", x);
  Image image = make_image(static_cast<int>(x.dim(1)), static_cast<int>(x.dim(0)), 3);
  std::ranges::transform(x.values<float>(), image.pixels.begin(), [](float value) {
    return static_cast<uint8_t>(std::nearbyint(std::clamp(value, 0.0f, 1.0f) * 255.0f));
  });
  image = decode_image(encode_image(image, ImageFormat::Jpeg, {.quality = quality}));
  Tensor y = empty_like(x);
  std::ranges::transform(image.pixels, y.data<float>(),
                         [](uint8_t value) { return static_cast<float>(value) / 255.0f; });
  return y;
}

}  // namespace sinopia
