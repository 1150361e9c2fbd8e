#include "sinopia/train/evaluation/picture_quality.h"

#include <array>
#include <cmath>
#include <limits>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr int kWindow = 11;

void check_alike(const Image& a, const Image& b) {
  SINOPIA_CHECK(a.width == b.width && a.height == b.height && a.channels == b.channels && !a.pixels.empty(),
                InvalidArgument, "[picture quality] expected pictures of one size, got {}x{}x{} and {}x{}x{}",
                a.width, a.height, a.channels, b.width, b.height, b.channels);
}

std::array<double, kWindow> gaussian() {
  std::array<double, kWindow> weights{};
  double sum = 0;
  for (int i = 0; i < kWindow; ++i) {
    const double x = (i - kWindow / 2) / 1.5;
    sum += weights[static_cast<size_t>(i)] = std::exp(-0.5 * x * x);
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

double similarity_at(const Image& a, const Image& b, int top, int left, int channel) {
  static const auto weights = gaussian();
  double x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  for (int v = 0; v < kWindow; ++v) {
    for (int u = 0; u < kWindow; ++u) {
      const double weight = weights[static_cast<size_t>(v)] * weights[static_cast<size_t>(u)];
      const double p = a.pixel(top + v, left + u)[channel], q = b.pixel(top + v, left + u)[channel];
      x += weight * p;
      y += weight * q;
      xx += weight * p * p;
      yy += weight * q * q;
      xy += weight * p * q;
    }
  }
  constexpr double c1 = 0.01 * 255 * 0.01 * 255, c2 = 0.03 * 255 * 0.03 * 255;
  return (2 * x * y + c1) * (2 * (xy - x * y) + c2) / ((x * x + y * y + c1) * (xx - x * x + yy - y * y + c2));
}

}  // namespace

double psnr(const Image& a, const Image& b) {
  check_alike(a, b);
  double sum = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    const double apart = static_cast<double>(a.pixels[i]) - b.pixels[i];
    sum += apart * apart;
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.pixels.size()) / sum);
}

double ssim(const Image& a, const Image& b) {
  check_alike(a, b);
  SINOPIA_CHECK(a.width >= kWindow && a.height >= kWindow, InvalidArgument,
                "[ssim] expected at least 11x11 pixels, got {}x{}", a.width, a.height);
  double sum = 0;
  for (int y = 0; y <= a.height - kWindow; ++y) {
    for (int x = 0; x <= a.width - kWindow; ++x) {
      for (int c = 0; c < a.channels; ++c) sum += similarity_at(a, b, y, x, c);
    }
  }
  return sum / (static_cast<double>(a.height - kWindow + 1) * (a.width - kWindow + 1) * a.channels);
}

}  // namespace sinopia
