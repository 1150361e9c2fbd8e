#include <cmath>
#include <deque>

#include <gtest/gtest.h>

#include "golden.h"
#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

// The posterior mean for data at +-0.8 with deviation 0.3, as tools/golden/samplers.py has it.
Tensor denoise_mixture(const Tensor& x, double sigma) {
  constexpr double M = 0.8, S = 0.3;
  const double v = S * S + sigma * sigma;
  std::vector<float> x0 = x.to_vector<float>();
  for (float& value : x0) {
    value = static_cast<float>((S * S * value + sigma * sigma * M * std::tanh(M * value / v)) / v);
  }
  return Tensor::from<float>(x.shape(), x0);
}

// Test names may hold letters and digits only.
struct PrintName {
  static std::string text(const std::string& name) { return name; }
  static std::string text(const std::pair<const char*, double>& row) { return row.first; }
  template <class T>
  std::string operator()(const testing::TestParamInfo<T>& test) const {
    std::string name = text(test.param);
    for (char& c : name) c = c == '+' ? 'p' : std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
    return name;
  }
};

struct Recorded {
  std::vector<Tensor> steps;
  size_t draws = 0;
};

class SamplerGolden : public testing::TestWithParam<std::string> {};

TEST_P(SamplerGolden, FollowsTheReference) {
  const TensorFile& golden = golden_file("samplers");
  const std::string name = GetParam();
  const nlohmann::json options = golden_cases(golden).at(name);
  const auto levels = golden.tensors.at(name + ".sigmas").values<double>();
  Sigmas sigmas(levels.begin(), levels.end());
  NoiseSchedule schedule({});
  SamplerContext context;
  context.schedule = &schedule;
  if (!options["order"].is_null()) context.order = options["order"].get<int>();
  if (!options["eta"].is_null()) context.eta = options["eta"].get<double>();
  context.s_noise = options["s_noise"];
  context.s_churn = options["s_churn"];
  Recorded recorded;
  if (const auto noise = golden.tensors.find(name + ".noise"); noise != golden.tensors.end()) {
    context.noise = [&recorded, drawn = noise->second](double, double) {
      const auto i = static_cast<int64_t>(recorded.draws++);
      return drawn.slice(i, i + 1).reshape({1, 60});
    };
  }
  context.on_step = [&](const StepInfo& info) { recorded.steps.push_back(info.x); };
  const Tensor x = golden.tensors.at(name + ".x");
  const Tensor end =
      run_sampler(find_sampler(name.substr(0, name.find('.'))), denoise_mixture, x, sigmas, context);

  const Tensor expected = golden.tensors.at(name + ".steps");
  const int64_t K = expected.dim(0);
  ASSERT_EQ(end.numel(), 60);
  double worst = 0;
  for (int64_t i = 0; i < K; ++i) {
    const Tensor got = K == 1 ? end : recorded.steps.at(static_cast<size_t>(i));
    const auto want = expected.slice(i, i + 1).values<float>();
    // Relative to the scale of the latent at this level: data of deviation about 0.85 under noise.
    const double level = sigmas.at(sigmas.size() - static_cast<size_t>(K - i));
    const double scale = std::sqrt(level * level + 0.73);
    for (int64_t j = 0; j < 60; ++j) {
      worst = std::max(
          worst, std::abs(static_cast<double>(got.data<float>()[j]) - want[static_cast<size_t>(j)]) / scale);
    }
  }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_LT(worst, 1e-4);
}

std::vector<std::string> case_names() {
  const nlohmann::json cases = golden_cases(golden_file("samplers"));
  std::vector<std::string> names;
  for (const auto& [name, options] : cases.items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, SamplerGolden, testing::ValuesIn(case_names()), PrintName());

// Data N(0, 0.5^2): the posterior mean is linear, and along the probability flow x grows as sqrt(0.25 +
// sigma^2).
constexpr double kData = 0.5;
Tensor denoise_gaussian(const Tensor& x, double sigma) {
  return x * (kData * kData / (kData * kData + sigma * sigma));
}

double flow_scale(double sigma) { return std::sqrt(kData * kData + sigma * sigma); }

Sigmas geometric(int steps, double high, double low) {
  Sigmas sigmas;
  for (int i = 0; i <= steps; ++i)
    sigmas.push_back(high * std::pow(low / high, static_cast<double>(i) / steps));
  return sigmas;
}

// The error at sigma 0.1 from sigma 4 in so many steps.
double gaussian_error(const SamplerInfo& sampler, int steps, const Denoiser& denoise) {
  const Sigmas sigmas = geometric(steps, 4, 0.1);
  NoiseSchedule schedule({});
  SamplerContext context;
  context.eta = 0;
  context.s_noise = 0;
  context.schedule = &schedule;
  context.noise = [](double, double) { return zeros({1, 1}); };
  const Tensor x = Tensor::from<float>({1, 1}, std::vector<float>{static_cast<float>(flow_scale(4))});
  const Tensor y = run_sampler(sampler, denoise, x, sigmas, context);
  return std::abs(y.data<float>()[0] - flow_scale(0.1));
}

class SamplerOrder : public testing::TestWithParam<std::pair<const char*, double>> {};

TEST_P(SamplerOrder, ConvergesToTheKnownAnswer) {
  const auto& [name, order] = GetParam();
  const SamplerInfo& sampler = find_sampler(name);
  const double coarse = gaussian_error(sampler, 10, denoise_gaussian);
  const double fine = gaussian_error(sampler, 80, denoise_gaussian);
  RecordProperty("order", std::to_string(std::log2(coarse / fine) / 3));
  // Below 2e-6 it is float rounding that is left.
  if (fine > 2e-6) {
    EXPECT_GT(std::log2(coarse / fine) / 3, order - 0.35) << coarse << " " << fine;
  }
  EXPECT_LT(fine, order == 1 ? 1e-2 : 1e-3);
}

std::vector<std::pair<const char*, double>> deterministic_samplers() {
  std::vector<std::pair<const char*, double>> rows;
  for (const SamplerInfo& sampler : samplers()) {
    if (!sampler.uses_noise) rows.emplace_back(sampler.name.data(), sampler.order);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Deterministic, SamplerOrder, testing::ValuesIn(deterministic_samplers()),
                         PrintName());

// Without noise the others follow the probability flow too, except for lcm, which has no way to, ddpm and
// er_sde, whose drift belongs to their noise, and restart, whose noise is part of the method; tcd only on the
// model's own levels.
INSTANTIATE_TEST_SUITE_P(WithoutNoise, SamplerOrder,
                         testing::Values(std::pair{"euler_a", 1.0}, std::pair{"dpm2_a", 2.0},
                                         std::pair{"dpm++2s_a", 2.0}, std::pair{"dpm++2m_sde", 2.0},
                                         std::pair{"dpm++2m_sde_heun", 2.0}, std::pair{"dpm++3m_sde", 2.0},
                                         std::pair{"dpm++sde", 2.0}, std::pair{"sa_solver", 2.0}),
                         PrintName());

// With a linear denoiser the result is a sum of the start and the draws; element j carries draw j alone, so
// that one run gives every factor, and with them the variance of the result exactly.
double variance_of_result(const SamplerInfo& sampler, int steps) {
  constexpr int64_t kDraws = 400;
  NoiseSchedule schedule({});
  SamplerContext context;
  context.schedule = &schedule;
  int64_t draws = 0;
  context.noise = [&](double, double) {
    std::vector<float> unit(kDraws + 1, 0.0f);
    unit.at(static_cast<size_t>(++draws)) = 1;
    return Tensor::from<float>({1, kDraws + 1}, unit);
  };
  const Sigmas sigmas = geometric(steps, 14, 0.1);
  std::vector<float> start(kDraws + 1, 0.0f);
  start[0] = static_cast<float>(flow_scale(14));
  const Tensor y =
      run_sampler(sampler, denoise_gaussian, Tensor::from<float>({1, kDraws + 1}, start), sigmas, context);
  EXPECT_GT(draws, 0);
  double variance = 0;
  for (const float factor : y.values<float>()) variance += static_cast<double>(factor) * factor;
  return variance;
}

class SamplerVariance : public testing::TestWithParam<const char*> {};

TEST_P(SamplerVariance, ApproachesThatOfTheData) {
  const SamplerInfo& sampler = find_sampler(GetParam());
  const double truth = flow_scale(0.1) * flow_scale(0.1);
  const double coarse = std::abs(variance_of_result(sampler, 40) - truth);
  const double fine = std::abs(variance_of_result(sampler, 160) - truth);
  RecordProperty("coarse", std::to_string(coarse));
  RecordProperty("fine", std::to_string(fine));
  // At least first order: four times the steps, a third of the error.
  EXPECT_LT(fine, std::max(coarse / 3, 1e-3 * truth));
  EXPECT_LT(fine, 0.05 * truth);
}

// All that draw noise but those of consistency models, whose few steps approach nothing here.
std::vector<const char*> stochastic_samplers() {
  std::vector<const char*> names;
  for (const SamplerInfo& sampler : samplers()) {
    if (sampler.uses_noise && sampler.name != "lcm" && sampler.name != "tcd")
      names.push_back(sampler.name.data());
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Stochastic, SamplerVariance, testing::ValuesIn(stochastic_samplers()), PrintName());

// A flow x = (1-s) x0 + s eps on the same data: x scales as sqrt((1-s)^2 0.25 + s^2).
TEST(FlowSamplers, ConvergeToTheKnownAnswer) {
  const auto scale = [](double s) { return std::sqrt((1 - s) * (1 - s) * kData * kData + s * s); };
  const Denoiser denoise = [&](const Tensor& x, double s) {
    return x * ((1 - s) * kData * kData / (scale(s) * scale(s)));
  };
  for (const SamplerInfo& sampler : samplers()) {
    if (!sampler.supports_flow) continue;
    double errors[2];
    for (int k = 0; k < 2; ++k) {
      const int steps = 40 << k;
      Sigmas sigmas;
      for (int i = 0; i <= steps; ++i) sigmas.push_back(0.98 - 0.9 * i / steps);
      SamplerContext context;
      const Tensor x = Tensor::from<float>({1, 1}, std::vector<float>{static_cast<float>(scale(0.98))});
      const Tensor y = run_sampler(sampler, denoise, x, sigmas, context);
      errors[k] = std::abs(y.data<float>()[0] - scale(sigmas.back()));
    }
    EXPECT_GT(std::log2(errors[0] / errors[1]), sampler.order - 0.35) << sampler.name;
    EXPECT_LT(errors[1], 1e-2) << sampler.name;
  }
}

TEST(Lcm, NoisesEachEstimateToTheNextLevel) {
  SamplerContext context;
  context.noise = [](double, double to) { return full({1, 2}, static_cast<float>(10 * to)); };
  context.s_noise = 0.5;
  const Tensor x = Tensor::from<float>({1, 2}, std::vector<float>{3, -11});
  const Sigmas sigmas{4, 2, 0};
  const Tensor again = denoise_mixture(x, 4) + full({1, 2}, 20);  // 2 * 0.5 * 20
  EXPECT_EQ(run_sampler(find_sampler("lcm"), denoise_mixture, x, sigmas, context).to_vector<float>(),
            denoise_mixture(again, 2).to_vector<float>());
}

TEST(Tcd, IsEulerWithoutNoise) {
  const NoiseSchedule schedule({});
  SamplerContext context;
  context.schedule = &schedule;
  context.eta = 0;
  const Sigmas sigmas{schedule.sigma(999), schedule.sigma(600), schedule.sigma(37), schedule.sigma(0)};
  const Tensor x = Tensor::from<float>({1, 2}, std::vector<float>{3, -11});
  context.noise = [](double, double) -> Tensor { throw std::logic_error("no noise is due"); };
  EXPECT_EQ(run_sampler(find_sampler("tcd"), denoise_mixture, x, sigmas, context).to_vector<float>(),
            run_sampler(find_sampler("euler"), denoise_mixture, x, sigmas, context).to_vector<float>());
}

TEST(Restart, IsHeunBelowTwentySteps) {
  SamplerContext context;
  context.noise = [](double, double) -> Tensor { throw std::logic_error("no noise is due"); };
  Sigmas sigmas = geometric(18, 14, 0.03);
  sigmas.push_back(0);
  const Tensor x = Tensor::from<float>({1, 2}, std::vector<float>{3, -11});
  const auto restart = run_sampler(find_sampler("restart"), denoise_mixture, x, sigmas, context);
  EXPECT_EQ(restart.to_vector<float>(),
            run_sampler(find_sampler("heun"), denoise_mixture, x, sigmas, context).to_vector<float>());
}

TEST(Registry, FindsTheNamesOfOtherTools) {
  EXPECT_EQ(find_sampler("Euler a").name, "euler_a");
  EXPECT_EQ(find_sampler("dpmpp_2m").name, "dpm++2m");
  EXPECT_EQ(find_sampler("DPM++ 3M SDE").name, "dpm++3m_sde");
  EXPECT_EQ(find_sampler("plms").name, "pndm");
  try {
    find_sampler("eular");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument);
    EXPECT_NE(std::string(error.what()).find("dpm++2m"), std::string::npos);
  }
}

TEST(RunSampler, RefusesBadArgumentsAndStops) {
  const Tensor x = Tensor::from<float>({1, 1}, std::vector<float>{1});
  SamplerContext context;
  const SamplerInfo& euler = find_sampler("euler");
  EXPECT_THROW(run_sampler(euler, denoise_gaussian, x, {1}, context), Error);
  EXPECT_THROW(run_sampler(euler, denoise_gaussian, x, {1, 1, 0}, context), Error);
  EXPECT_THROW(run_sampler(euler, denoise_gaussian, x, {1, -1}, context), Error);
  EXPECT_THROW(run_sampler(euler, denoise_gaussian, x, {std::nan(""), 0}, context), Error);
  EXPECT_THROW(run_sampler(find_sampler("euler_a"), denoise_gaussian, x, {1, 0.5, 0}, context), Error);
  context.order = 5;
  EXPECT_THROW(run_sampler(find_sampler("lms"), denoise_gaussian, x, {1, 0.5, 0}, context), Error);

  std::stop_source source;
  context.stop = source.get_token();
  int steps = 0;
  context.on_step = [&](const StepInfo& info) {
    EXPECT_EQ(info.step, static_cast<size_t>(++steps));
    EXPECT_EQ(info.steps, 3u);
    if (steps == 2) source.request_stop();
  };
  try {
    run_sampler(euler, denoise_gaussian, x, {3, 2, 1, 0}, context);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Cancelled);
  }
  EXPECT_EQ(steps, 2);
}

}  // namespace
}  // namespace sinopia
