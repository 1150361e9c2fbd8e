#include <cmath>
#include <fstream>
#include <numbers>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/train/learning_rate.h"
#include "sinopia/train/loss_weighting.h"
#include "sinopia/train/timestep_sampling.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using Values = std::vector<double>;

const nlohmann::json& golden() {
  static const auto json = nlohmann::json::parse(std::ifstream(SINOPIA_TEST_DATA "/train/schedules.json"));
  return json;
}

void expect_near(double ours, double theirs, double relative) {
  EXPECT_NEAR(ours, theirs, relative * std::abs(theirs) + 1e-18);
}

TEST(LearningRate, IsDiffusers) {
  const double peak = golden()["peak"];
  const int64_t steps = golden()["steps"], warmup = golden()["warmup"];
  const std::pair<const char*, LearningRate> cases[] = {
      {"constant", {.peak = peak, .shape = RateShape::Constant, .warmup_steps = warmup}},
      {"linear", {.peak = peak, .shape = RateShape::Linear, .warmup_steps = warmup}},
      {"cosine", {.peak = peak, .shape = RateShape::Cosine, .warmup_steps = warmup}},
      {"restarts", {.peak = peak, .shape = RateShape::Restarts, .warmup_steps = warmup, .cycles = 3}},
      {"cosine_at_once", {.peak = peak, .shape = RateShape::Cosine}}};
  for (const auto& [name, rate] : cases) {
    const Values expected = golden()["rates"][name];
    for (size_t i = 0; i < expected.size(); ++i) {
      SCOPED_TRACE(fmt::format("{} at step {}", name, i));
      // diffusers' cosine rises again past the end of the run; ours stays at the end.
      if (static_cast<int64_t>(i) > steps && rate.shape == RateShape::Cosine) continue;
      EXPECT_NEAR(learning_rate(rate, static_cast<int64_t>(i), steps), expected[i], 1e-15 * peak);
    }
  }
}

TEST(LearningRate, EndsWhereItIsTold) {
  const LearningRate rate{.peak = 3, .shape = RateShape::Cosine, .warmup_steps = 4, .last_share = 0.25};
  EXPECT_DOUBLE_EQ(learning_rate(rate, 4, 20), 3);
  EXPECT_DOUBLE_EQ(learning_rate(rate, 12, 20), 3 * 0.625);
  EXPECT_DOUBLE_EQ(learning_rate(rate, 20, 20), 0.75);
  EXPECT_DOUBLE_EQ(learning_rate(rate, 99, 20), 0.75);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 8, .shape = RateShape::InverseSqrt, .warmup_steps = 25}, 100, 0),
                   4);
}

TEST(LearningRate, RefusesWhatMakesNoSense) {
  using enum ErrorKind;
  const auto rate_of = [](LearningRate rate, int64_t step) {
    return testing::kind_of([&] { learning_rate(rate, step, 10); });
  };
  EXPECT_EQ(rate_of({}, -1), InvalidArgument);
  EXPECT_EQ(rate_of({.peak = -1}, 0), InvalidArgument);
  EXPECT_EQ(rate_of({.peak = std::nan("")}, 0), InvalidArgument);
  EXPECT_EQ(rate_of({.warmup_steps = -2}, 0), InvalidArgument);
  EXPECT_EQ(rate_of({.last_share = 1.5}, 0), InvalidArgument);
  EXPECT_EQ(rate_of({.cycles = 0}, 0), InvalidArgument);
  EXPECT_EQ(rate_of({.shape = RateShape::InverseSqrt}, 5), InvalidArgument);
}

TEST(Timesteps, HaveDiffusersDensities) {
  const auto& normal = golden()["logit_normal"];
  const Values drawn = normal["drawn"], levels = normal["levels"];
  for (size_t i = 0; i < drawn.size(); ++i)
    expect_near(logit_normal_level(drawn[i], normal["logit_mean"], normal["logit_std"]), levels[i], 1e-6);
  const auto& mode = golden()["mode"];
  const Values uniform = mode["drawn"], expected = mode["levels"];
  for (size_t i = 0; i < uniform.size(); ++i)
    EXPECT_NEAR(mode_level(uniform[i], mode["mode_scale"]), expected[i], 5e-7);
}

// The share of levels below t, integrated from the density that the weights of CosMap are.
TEST(Timesteps, CosMapInvertsItsDistribution) {
  const LossWeightingConfig density{.kind = LossWeighting::CosMap};
  for (const double u : {0.01, 0.2, 0.5, 0.77, 0.99}) {
    const double level = cosmap_level(u);
    double below = 0;
    constexpr int kPieces = 4000;
    for (int i = 0; i < kPieces; ++i)
      below += loss_weight(density, Prediction::Flow, level * (i + 0.5) / kPieces) * level / kPieces;
    EXPECT_NEAR(below, u, 1e-6);
  }
}

TEST(Timesteps, AreDrawnFromTheDensityAndShifted) {
  constexpr int kCount = 20000;
  const auto mean_of = [](const TimestepSampling& sampling) {
    double sum = 0;
    for (int i = 0; i < kCount; ++i) {
      Draws draws(5, Purpose::Timestep, 0, static_cast<uint32_t>(i));
      const double level = draw_level(sampling, draws);
      EXPECT_GT(level, 0);
      EXPECT_LT(level, 1);
      sum += level;
    }
    return sum / kCount;
  };
  // Standard errors of these means are at most 0.289 / sqrt(20000) = 0.002.
  EXPECT_NEAR(mean_of({}), 0.5, 0.01);
  EXPECT_NEAR(mean_of({.density = TimestepDensity::LogitNormal, .logit_mean = -1}), 0.3033, 0.01);
  EXPECT_NEAR(mean_of({.density = TimestepDensity::Mode}), 0.5, 0.01);
  EXPECT_NEAR(mean_of({.density = TimestepDensity::CosMap}), 0.5, 0.01);
  // a (a - 1 - log a) / (a - 1)^2 with a = 3
  EXPECT_NEAR(mean_of({.shift = 3}), 3 * (2 - std::log(3.0)) / 4, 0.01);
  EXPECT_DOUBLE_EQ(resolution_shift(1024 * 1024, 512 * 512), 2);
}

TEST(Timesteps, RefuseWhatMakesNoSense) {
  using enum ErrorKind;
  const auto draw = [](TimestepSampling sampling) {
    return testing::kind_of([&] {
      Draws draws(1, Purpose::Timestep, 0);
      draw_level(sampling, draws);
    });
  };
  EXPECT_EQ(draw({.logit_deviation = 0}), InvalidArgument);
  EXPECT_EQ(draw({.shift = -1}), InvalidArgument);
  EXPECT_EQ(draw({.density = TimestepDensity::Mode, .mode_scale = 1.8}), InvalidArgument);
  EXPECT_EQ(testing::kind_of([] { resolution_shift(0, 1); }), InvalidArgument);
}

TEST(LossWeight, IsTheReferences) {
  const auto& weights = golden()["weights"];
  const Values sigmas = weights["sigma"], p2 = weights["p2_gamma_half_k_2"];
  const LossWeightingConfig min_snr{.kind = LossWeighting::MinSnr, .min_snr_gamma = 5};
  const LossWeightingConfig p2_config{.kind = LossWeighting::P2, .p2_gamma = 0.5, .p2_k = 2};
  for (size_t i = 0; i < sigmas.size(); ++i) {
    for (const char* name : {"epsilon", "v_prediction", "sample"})
      expect_near(loss_weight(min_snr, parse_prediction(name), sigmas[i]), weights["min_snr_5"][name][i],
                  2e-6);
    expect_near(loss_weight(p2_config, Prediction::Epsilon, sigmas[i]), p2[i], 2e-6);
  }
  const Values levels = weights["flow_sigma"], cosmap = weights["cosmap"];
  for (size_t i = 0; i < levels.size(); ++i)
    expect_near(loss_weight({.kind = LossWeighting::CosMap}, Prediction::Flow, levels[i]), cosmap[i], 1e-12);
}

// One error of x0 must count the same whatever the network predicts.
TEST(LossWeight, DoesNotDependOnThePrediction) {
  for (const LossWeighting kind : {LossWeighting::MinSnr, LossWeighting::P2}) {
    const LossWeightingConfig config{.kind = kind, .p2_gamma = 0.7};
    for (const double sigma : {0.05, 0.6, 1.0, 9.0}) {
      const double alpha = 1 / std::sqrt(1 + sigma * sigma), noise = sigma * alpha;
      const double of_x0 = loss_weight(config, Prediction::Sample, sigma);
      // With x_t given, an error e of x0 is one of -e alpha / noise of eps, and of -e / noise of v.
      expect_near(loss_weight(config, Prediction::Epsilon, sigma) * alpha * alpha / (noise * noise), of_x0,
                  1e-12);
      expect_near(loss_weight(config, Prediction::V, sigma) / (noise * noise), of_x0, 1e-12);
    }
    // A flow's level s has the SNR of sigma = s / (1 - s), and an error e of x0 is one of -e / s.
    const double level = 0.3;
    expect_near(loss_weight(config, Prediction::Flow, level) / (level * level),
                loss_weight(config, Prediction::Sample, level / (1 - level)), 1e-12);
  }
}

TEST(RateWithPeak, GoesAlongWithTheRate) {
  const LearningRate rate{.peak = 2e-3, .shape = RateShape::Linear, .warmup_steps = 10};
  for (const int64_t step : {0, 3, 10, 57}) {
    const double given = learning_rate(rate, step, 100);
    EXPECT_DOUBLE_EQ(rate_with_peak(rate, given, 5e-4), given / 4);
    EXPECT_EQ(rate_with_peak(rate, given, 0), given);
  }
  EXPECT_EQ(rate_with_peak({.peak = 0}, 0, 5e-4), 0);
}

TEST(LossWeight, RefusesWhatMakesNoSense) {
  using enum ErrorKind;
  const auto weight = [](LossWeightingConfig config, Prediction prediction, double sigma) {
    return testing::kind_of([&] { loss_weight(config, prediction, sigma); });
  };
  EXPECT_EQ(weight({}, Prediction::Epsilon, 0), InvalidArgument);
  EXPECT_EQ(weight({.kind = LossWeighting::MinSnr, .min_snr_gamma = 0}, Prediction::V, 1), InvalidArgument);
  EXPECT_EQ(weight({.kind = LossWeighting::P2, .p2_k = 0}, Prediction::V, 1), InvalidArgument);
  EXPECT_EQ(weight({.kind = LossWeighting::CosMap}, Prediction::V, 1), InvalidArgument);
}

}  // namespace
}  // namespace sinopia
