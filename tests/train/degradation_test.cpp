#include "sinopia/train/data/degradation.h"

#include <cmath>
#include <fstream>
#include <numbers>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/io/safetensors.h"
#include "sinopia/train/data/degradation_steps.h"
#include "tests/kind_of.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using testing::expect_close;
using testing::expect_same_for_any_thread_count;
using testing::kEpsilon;
using testing::kind_of;
using testing::same_bits;

const TensorMap& golden() {
  static const TensorFile file = read_safetensors(SINOPIA_TEST_DATA "/train/training_data.safetensors");
  return file.tensors;
}

const nlohmann::json& cases() {
  static const auto json =
      nlohmann::json::parse(std::ifstream(SINOPIA_TEST_DATA "/train/training_data.json"));
  return json;
}

Tensor unit(const Tensor& bytes) {
  Tensor x = Tensor::empty(bytes.shape());
  for (int64_t i = 0; i < x.numel(); ++i)
    x.data<float>()[i] = static_cast<float>(bytes.data<uint8_t>()[i]) / 255.0f;
  return x;
}

Tensor plain(int64_t height, int64_t width, float value) {
  return Tensor::from({height, width, 3}, std::vector<float>(static_cast<size_t>(height * width * 3), value));
}

/// Means of the channels, and the covariance of what differs from `mean`, [3][3].
struct Moments {
  std::array<double, 3> mean{};
  std::array<std::array<double, 3>, 3> covariance{};
};

template <class Value>
Moments moments_of(const Tensor& x, const Value& value) {
  Moments result;
  const int64_t count = x.numel() / 3;
  std::array<double, 3> v{};
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t i = 0; i < count; ++i) {
      for (size_t c = 0; c < 3; ++c)
        v[c] = value(static_cast<double>(x.data<float>()[3 * i + static_cast<int64_t>(c)]));
      for (size_t a = 0; a < 3; ++a) {
        if (pass == 0) result.mean[a] += v[a] / static_cast<double>(count);
        for (size_t b = 0; b < 3 && pass == 1; ++b)
          result.covariance[a][b] +=
              (v[a] - result.mean[a]) * (v[b] - result.mean[b]) / static_cast<double>(count);
      }
    }
  }
  return result;
}

constexpr auto kAsItIs = [](double v) { return v; };

TEST(Degradation, KernelsAreScipys) {
  for (size_t n = 0; n < cases()["kernels"].size(); ++n) {
    SCOPED_TRACE(n);
    const auto& k = cases()["kernels"][n];
    const Tensor kernel =
        gaussian_kernel(k["radius"], k["variance_a"], k["variance_b"], k["angle"], k["shift"]);
    expect_close(kernel, testing::doubles(golden().at(fmt::format("kernel.{}", n))), 1e-9, 4 * kEpsilon);
  }
}

TEST(Degradation, AKernelWithoutWidthKeepsThePicture) {
  const Tensor x = unit(golden().at("picture.whole"));
  EXPECT_TRUE(same_bits(blur(x, gaussian_kernel(5, 0, 0, 0.3)), x));
  EXPECT_TRUE(same_bits(blur(x, gaussian_kernel(0, 9, 9, 0)), x));
  double sum = 0;
  for (const float w : gaussian_kernel(1, 0, 0, 0, 0.5).values<float>()) sum += static_cast<double>(w);
  EXPECT_NEAR(sum, 1, 4 * kEpsilon) << "between four pixels";
}

TEST(Degradation, BlurIsScipys) {
  for (size_t n = 0; n < cases()["kernels"].size(); ++n) {
    const Tensor& kernel = golden().at(fmt::format("kernel.{}", n));
    for (const char* name : {"whole", "small", "row"}) {
      SCOPED_TRACE(fmt::format("{} {}", name, n));
      const Tensor y = blur(unit(golden().at(fmt::format("picture.{}", name))), kernel);
      // A sum of K products of weights that are rounded, all together at most 1.
      const double tolerance = static_cast<double>(kernel.numel()) * kEpsilon;
      expect_close(y, testing::doubles(golden().at(fmt::format("blur.{}.{}", name, n))), tolerance, 0);
    }
  }
}

TEST(Degradation, RescaleIsOpenCvs) {
  const Tensor x = unit(golden().at("picture.whole"));
  const std::pair<const char*, RescaleFilter> filters[] = {{"bilinear", RescaleFilter::Bilinear},
                                                           {"bicubic", RescaleFilter::Bicubic},
                                                           {"area", RescaleFilter::Area},
                                                           {"sharp", RescaleFilter::Sharp}};
  for (const auto& [name, filter] : filters) {
    for (const auto& [h, w] : {std::pair(9, 12), {17, 7}, {5, 23}, {1, 1}, {19, 31}}) {
      SCOPED_TRACE(fmt::format("{} {}x{}", name, h, w));
      const Tensor y = rescale(x, h, w, filter);
      ASSERT_EQ(y.shape(), Shape({h, w, 3}));
      // Places are counted in float there: an error of 23 eps in a weight, and sums of up to 17 x 23
      // products.
      expect_close(y, testing::doubles(golden().at(fmt::format("rescale.{}.{}x{}", name, h, w))),
                   64 * kEpsilon, 0);
    }
  }
}

TEST(Degradation, DecimateTakesTheFirstOfEach) {
  const Tensor x = testing::random_tensor({5, 7, 3}, 1);
  const Tensor y = decimate(x, 3);
  ASSERT_EQ(y.shape(), Shape({2, 3, 3}));
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t i = 0; i < 9; ++i)
      EXPECT_EQ(y.data<float>()[row * 9 + i], x.data<float>()[(row * 3 * 7 + i / 3 * 3) * 3 + i % 3]);
  }
  EXPECT_TRUE(same_bits(decimate(x, 1), x));
}

// A gradient does not move when every f-th pixel of a shifted blur is taken for the mean of f x f.
TEST(Degradation, AShiftedKernelPointsAtTheMiddle) {
  constexpr int kFactor = 4;
  Tensor x = Tensor::empty({64, 64, 3});
  for (int64_t i = 0; i < x.numel(); ++i)
    x.data<float>()[i] = static_cast<float>(i / 3 % 64 + 2 * (i / 3 / 64)) / 200.0f;
  const Tensor blurred = decimate(blur(x, gaussian_kernel(12, 4, 4, 0, 1.5)), kFactor);
  const Tensor means = rescale(x, 16, 16, RescaleFilter::Area);
  for (int64_t row = 4; row < 12; ++row) {
    for (int64_t column = 4; column < 12; ++column) {
      const int64_t at = (row * 16 + column) * 3;
      EXPECT_NEAR(blurred.data<float>()[at], means.data<float>()[at], 1e-5);
    }
  }
}

TEST(Degradation, NoiseHasTheCovarianceThatItsRootSays) {
  const Tensor x = plain(160, 200, 0.5f);
  Draws draws(1, Purpose::Degradation, 0);
  const NoiseRoot roots[] = {gray_noise(0.05), color_noise(0.07), correlated_noise(0.1, draws)};
  for (const NoiseRoot& root : roots) {
    const Moments m = moments_of(add_gaussian_noise(x, root, draws), kAsItIs);
    for (size_t a = 0; a < 3; ++a) {
      EXPECT_NEAR(m.mean[a], 0.5, 5 * 0.1 / std::sqrt(32000.0));
      for (size_t b = 0; b < 3; ++b) {
        double expected = 0;
        for (size_t k = 0; k < 3; ++k) expected += root[3 * a + k] * root[3 * b + k];
        // The deviation of a covariance of 32000 pixels is at most its largest variance times sqrt(2/32000).
        EXPECT_NEAR(m.covariance[a][b], expected, 5 * 0.01 * std::sqrt(2 / 32000.0)) << a << b;
      }
    }
  }
}

TEST(Degradation, GrayNoiseIsTheSameInAllChannels) {
  Draws draws(2, Purpose::Degradation, 0);
  const Tensor y = add_gaussian_noise(plain(9, 11, 0.5f), gray_noise(0.1), draws);
  std::set<float> values;
  for (int64_t i = 0; i < y.numel(); i += 3) {
    values.insert(y.data<float>()[i]);
    EXPECT_EQ(y.data<float>()[i], y.data<float>()[i + 1]);
    EXPECT_EQ(y.data<float>()[i], y.data<float>()[i + 2]);
  }
  EXPECT_EQ(values.size(), 99u);
}

TEST(Degradation, CorrelatedNoiseHasAnOrthogonalRootOfEvenVariances) {
  constexpr int kCount = 500;
  double mean = 0;
  for (uint32_t step = 0; step < kCount; ++step) {
    Draws draws(3, Purpose::Degradation, step);
    const NoiseRoot r = correlated_noise(0.2, draws);
    const auto dot = [&](size_t j, size_t k) {
      return r[j] * r[k] + r[3 + j] * r[3 + k] + r[6 + j] * r[6 + k];
    };
    for (size_t j = 0; j < 3; ++j) {
      EXPECT_LE(dot(j, j), 0.04 * (1 + 1e-12));
      mean += dot(j, j) / 0.04 / (3 * kCount);
      for (size_t k = 0; k < j; ++k) EXPECT_NEAR(dot(j, k), 0, 1e-12);
    }
  }
  EXPECT_NEAR(mean, 0.5, 5 * std::sqrt(1 / 12.0 / (3 * kCount)));
}

TEST(Degradation, LightIsLinearisedAsTheStandardSays) {
  EXPECT_NEAR(srgb_to_linear(0.5), 0.214041140482, 1e-12);
  EXPECT_NEAR(srgb_to_linear(0.02), 0.02 / 12.92, 1e-15);
  EXPECT_NEAR(linear_to_srgb(0.18), 0.461356129, 1e-8);
  for (double v = 0; v <= 1; v += 0.01) EXPECT_NEAR(linear_to_srgb(srgb_to_linear(v)), v, 1e-7);
}

TEST(Degradation, CameraNoiseGrowsWithTheLight) {
  constexpr double kShot = 0.004, kRead = 0.0002;
  Draws draws(4, Purpose::Degradation, 0);
  for (const double light : {0.1, 0.3, 0.6}) {
    const Tensor x = plain(160, 200, static_cast<float>(linear_to_srgb(light)));
    const Moments m = moments_of(add_camera_noise(x, kShot, kRead, draws), srgb_to_linear);
    const double variance = kShot * light + kRead;
    for (size_t a = 0; a < 3; ++a) {
      EXPECT_NEAR(m.mean[a], light, 5 * std::sqrt(variance / 32000));
      for (size_t b = 0; b < 3; ++b)
        EXPECT_NEAR(m.covariance[a][b], a == b ? variance : 0, 5 * variance * std::sqrt(2 / 32000.0));
    }
  }
  const Tensor x = unit(golden().at("picture.whole"));
  expect_close(add_camera_noise(x, 0, 0, draws), testing::doubles(x), 1e-6, 0);
}

TEST(Degradation, JpegIsPillows) {
  const Tensor x = unit(golden().at("picture.whole"));
  for (const int quality : {30, 80, 95}) {
    SCOPED_TRACE(quality);
    const Tensor expected = unit(golden().at(fmt::format("jpeg.{}", quality)));
    expect_close(jpeg_round_trip(x, quality), testing::doubles(expected), 2.01 / 255, 0);
  }
}

TEST(Degradation, HasTheRightSizeAndDependsOnItsDrawsAlone) {
  for (const int factor : {1, 2, 3, 4}) {
    const Tensor x = testing::random_tensor({12 * factor, 17 * factor, 3}, 5, 0.4f);
    std::vector<Tensor> seen;
    for (uint32_t step = 0; step < 12; ++step) {
      for (const Degradation& options : {Degradation{}, light_degradation()}) {
        const auto make = [&] { return degrade(x, factor, options, Draws(6, Purpose::Degradation, step)); };
        const Tensor y = make();
        ASSERT_EQ(y.shape(), Shape({12, 17, 3}));
        for (const float v : y.values<float>()) {
          ASSERT_GE(v, -1);
          ASSERT_LE(v, 1);
        }
        expect_same_for_any_thread_count(make);
        for (const Tensor& other : seen) EXPECT_FALSE(same_bits(y, other));
        seen.push_back(y);
      }
    }
  }
}

// A picture that nothing can spoil but noise and JPEG stays what it is, whatever steps were drawn.
TEST(Degradation, KeepsPlainPicturesPlain) {
  Degradation quiet;
  quiet.noise_level = {0, 0};
  quiet.camera_probability = 0;
  quiet.jpeg_quality = {100, 100};
  for (uint32_t step = 0; step < 40; ++step) {
    const Tensor y = degrade(plain(32, 40, 0.25f), 4, quiet, Draws(7, Purpose::Degradation, step));
    for (const float v : y.values<float>()) ASSERT_NEAR(v, 0.25, 3.5 / 255) << step;
  }
}

TEST(Degradation, LightIsLighterThanTheFull) {
  const Tensor source = rescale(unit(golden().at("picture.whole")), 68, 92, RescaleFilter::Sharp);
  Tensor x = empty_like(source);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = 2 * source.data<float>()[i] - 1;
  const Tensor clean = rescale(source, 17, 23, RescaleFilter::Area);
  double error[2] = {0, 0};
  for (uint32_t step = 0; step < 30; ++step) {
    for (const int light : {0, 1}) {
      const Tensor y =
          degrade(x, 4, light ? light_degradation() : Degradation{}, Draws(8, Purpose::Degradation, step));
      for (int64_t i = 0; i < y.numel(); ++i)
        error[light] += std::abs(static_cast<double>((y.data<float>()[i] + 1) / 2 - clean.data<float>()[i]));
    }
  }
  EXPECT_LT(error[1], 0.6 * error[0]);
  EXPECT_GT(error[1], 0);
}

TEST(Degradation, RefusesWhatMakesNoSense) {
  const Tensor x = plain(8, 8, 0);
  const auto kind_for = [&](const Tensor& picture, int factor, const Degradation& options) {
    return kind_of([&] { degrade(picture, factor, options, Draws(1, Purpose::Degradation, 0)); });
  };
  using enum ErrorKind;
  EXPECT_EQ(kind_for(x, 3, {}), InvalidArgument);
  EXPECT_EQ(kind_for(x, 0, {}), InvalidArgument);
  EXPECT_EQ(kind_for(Tensor::empty({8, 8, 1}), 2, {}), InvalidArgument);
  EXPECT_EQ(kind_for({}, 2, {}), InvalidArgument);
  Degradation options;
  options.gray_probability = options.color_probability = 0.6;
  EXPECT_EQ(kind_for(x, 2, options), InvalidArgument);
  options = {};
  options.jpeg_quality = {0, 95};
  EXPECT_EQ(kind_for(x, 2, options), InvalidArgument);
  options = {};
  options.noise_level = {5, 2};
  EXPECT_EQ(kind_for(x, 2, options), InvalidArgument);
  EXPECT_EQ(kind_of([&] { blur(x, Tensor::empty({2, 2})); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { gaussian_kernel(3, -1, 1, 0); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { gaussian_kernel(3, NAN, 1, 0); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { rescale(x, 0, 4, RescaleFilter::Area); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { decimate(x, 0); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { jpeg_round_trip(x, 101); }), InvalidArgument);
}

}  // namespace
}  // namespace sinopia
