#include "sinopia/io/image_resize.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "sinopia/base/error.h"
#include "sinopia/base/threads.h"

namespace sinopia {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;

struct Filter {
  double (*weight)(double);
  double support;
};

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

// Keys' cubic with a = -1/2.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

Filter filter_of(Resampling resampling) {
  switch (resampling) {
    case Resampling::Box:
      return {box, 0.5};
    case Resampling::Bilinear:
      return {bilinear, 1.0};
    case Resampling::Bicubic:
      return {bicubic, 2.0};
    default:
      return {lanczos, 3.0};
  }
}

// For each place of one axis: where its weights begin, how many count, and the weights in fixed point.
struct Taps {
  int width = 0;  // weights kept for each place
  std::vector<int> begin, count;
  std::vector<int> weights;
};

Taps make_taps(int in, int out, const Filter& filter) {
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  Taps taps;
  taps.width = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.begin.resize(static_cast<size_t>(out));
  taps.count.resize(static_cast<size_t>(out));
  taps.weights.resize(static_cast<size_t>(out) * static_cast<size_t>(taps.width));
  std::vector<double> weight(static_cast<size_t>(taps.width));
  for (int i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int count = std::min(static_cast<int>(center + support + 0.5), in) - begin;
    double sum = 0.0;
    for (int k = 0; k < count; ++k) {
      weight[static_cast<size_t>(k)] = filter.weight((k + begin - center + 0.5) * inverse);
      sum += weight[static_cast<size_t>(k)];
    }
    int* fixed = taps.weights.data() + static_cast<size_t>(i) * static_cast<size_t>(taps.width);
    for (int k = 0; k < count; ++k) {
      double w = weight[static_cast<size_t>(k)];
      if (sum != 0.0) w /= sum;
      fixed[k] = static_cast<int>((w < 0 ? -0.5 : 0.5) + w * (1 << kPrecisionBits));
    }
    taps.begin[static_cast<size_t>(i)] = begin;
    taps.count[static_cast<size_t>(i)] = count;
  }
  return taps;
}

uint8_t round_and_clip(int sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

Image filter_rows(const Image& image, int width, const Taps& taps) {
  Image result = make_image(width, image.height, image.channels);
  const int channels = image.channels;
  parallel_for(image.height, 16, [&](int64_t first, int64_t last) {
    for (int y = static_cast<int>(first); y < last; ++y) {
      for (int x = 0; x < width; ++x) {
        const auto place = static_cast<size_t>(x);
        const uint8_t* from = image.pixel(y, taps.begin[place]);
        const int* weight = taps.weights.data() + place * static_cast<size_t>(taps.width);
        int sum[4] = {1 << (kPrecisionBits - 1), 1 << (kPrecisionBits - 1), 1 << (kPrecisionBits - 1),
                      1 << (kPrecisionBits - 1)};
        for (int k = 0; k < taps.count[place]; ++k) {
          for (int c = 0; c < channels; ++c) sum[c] += *from++ * weight[k];
        }
        for (int c = 0; c < channels; ++c) result.pixel(y, x)[c] = round_and_clip(sum[c]);
      }
    }
  });
  return result;
}

Image filter_columns(const Image& image, int height, const Taps& taps) {
  Image result = make_image(image.width, height, image.channels);
  const size_t row = static_cast<size_t>(image.width) * static_cast<size_t>(image.channels);
  parallel_for(height, 16, [&](int64_t first, int64_t last) {
    std::vector<int> sum(row);
    for (int y = static_cast<int>(first); y < last; ++y) {
      const auto place = static_cast<size_t>(y);
      const int* weight = taps.weights.data() + place * static_cast<size_t>(taps.width);
      std::ranges::fill(sum, 1 << (kPrecisionBits - 1));
      for (int k = 0; k < taps.count[place]; ++k) {
        const uint8_t* from = image.pixel(taps.begin[place] + k, 0);
        for (size_t i = 0; i < row; ++i) sum[i] += from[i] * weight[k];
      }
      uint8_t* to = result.pixel(y, 0);
      for (size_t i = 0; i < row; ++i) to[i] = round_and_clip(sum[i]);
    }
  });
  return result;
}

// Steps are added up rather than multiplied, as Pillow does, for the same rounding.
std::vector<int> nearest_places(int in, int out) {
  const double scale = static_cast<double>(in) / out;
  std::vector<int> places(static_cast<size_t>(out));
  double at = scale * 0.5;
  for (int& place : places) {
    place = std::min(static_cast<int>(at), in - 1);
    at += scale;
  }
  return places;
}

Image resize_nearest(const Image& image, int width, int height) {
  const std::vector<int> columns = nearest_places(image.width, width);
  const std::vector<int> rows = nearest_places(image.height, height);
  Image result = make_image(width, height, image.channels);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const uint8_t* from = image.pixel(rows[static_cast<size_t>(y)], columns[static_cast<size_t>(x)]);
      std::copy_n(from, image.channels, result.pixel(y, x));
    }
  }
  return result;
}

void premultiply(Image& image) {
  const int last = image.channels - 1;
  for (size_t i = 0; i < image.pixels.size(); i += static_cast<size_t>(image.channels)) {
    uint8_t* pixel = image.pixels.data() + i;
    for (int c = 0; c < last; ++c) {
      const int product = pixel[c] * pixel[last] + 128;
      pixel[c] = static_cast<uint8_t>(((product >> 8) + product) >> 8);
    }
  }
}

void divide_by_alpha(Image& image) {
  const int last = image.channels - 1;
  for (size_t i = 0; i < image.pixels.size(); i += static_cast<size_t>(image.channels)) {
    uint8_t* pixel = image.pixels.data() + i;
    if (pixel[last] == 0 || pixel[last] == 255) continue;
    for (int c = 0; c < last; ++c)
      pixel[c] = static_cast<uint8_t>(std::min(255 * pixel[c] / pixel[last], 255));
  }
}

}  // namespace

Image resize(const Image& image, int width, int height, Resampling resampling) {
  // Since its version 13 Pillow runs along y first where that takes away more than twice as many rows as
  // columns.
  const bool columns_first =
      height < image.height && int64_t{image.height} - height > 2 * (int64_t{image.width} - width);
  SINOPIA_CHECK(width > 0 && height > 0 && int64_t{width} * height <= kMaxImagePixels, InvalidArgument,
                "[resize] expected sides from 1 and at most {} pixels, got {}x{}", kMaxImagePixels + 0, width,
                height);
  if (width == image.width && height == image.height) return image;
  Image result;
  if (resampling == Resampling::Nearest) {
    result = resize_nearest(image, width, height);
  } else {
    const Filter filter = filter_of(resampling);
    const auto rows = [&] {
      if (width != image.width) result = filter_rows(result, width, make_taps(image.width, width, filter));
    };
    result = image;
    if (image.has_alpha()) premultiply(result);
    if (!columns_first) rows();
    if (height != image.height)
      result = filter_columns(result, height, make_taps(image.height, height, filter));
    if (columns_first) rows();
    if (image.has_alpha()) divide_by_alpha(result);
  }
  result.text = image.text;
  return result;
}

}  // namespace sinopia
