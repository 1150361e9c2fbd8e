#include "sinopia/diffusion/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

#include "golden.h"
#include "sinopia/diffusion/beta_quantile.h"
#include "sinopia/diffusion/plan.h"
#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia {
namespace {

TEST(NoiseSchedule, HasDiffusersAlphas) {
  const TensorFile& golden = golden_file("schedules");
  for (const char* name : {"scaled_linear", "linear", "cosine", "zero_snr", "trained", "short"}) {
    const std::string key = std::string("schedule.") + name;
    SchedulerConfig config = parse_scheduler_config(golden_cases(golden).at(key).dump());
    if (config.schedule.beta_schedule == BetaSchedule::Trained) config.schedule.train_steps = 4;
    const NoiseSchedule schedule(config.schedule);
    const auto expected = golden.tensors.at(key).values<float>();
    ASSERT_EQ(schedule.alphas_cumprod().size(), expected.size()) << name;
    for (size_t t = 0; t < expected.size(); ++t) {
      // torch's vector square root, which only the rescaling takes, is not always rounded correctly; products
      // of 1000 factors add that up.
      const double tolerance = config.schedule.rescale_zero_snr ? 5e-6 : 1.2e-7;
      ASSERT_NEAR(schedule.alphas_cumprod()[t], expected[t], tolerance * expected[t]) << name << " " << t;
    }
  }
}

TEST(NoiseSchedule, MapsTimestepsToSigmasAndBack) {
  for (const bool zero_snr : {false, true}) {
    ScheduleConfig config;
    config.rescale_zero_snr = zero_snr;
    const NoiseSchedule schedule(config);
    for (int t = 0; t < 1000; ++t) {
      ASSERT_EQ(schedule.sigma(t), schedule.sigmas()[static_cast<size_t>(t)]);
      ASSERT_EQ(schedule.timestep(schedule.sigma(t)), t);
    }
    EXPECT_NEAR(schedule.timestep(schedule.sigma(123.25)), 123.25, 1e-9);
    EXPECT_EQ(schedule.timestep(1e9), 999);
    EXPECT_EQ(schedule.timestep(0), 0);
    EXPECT_NEAR(schedule.sigma(500.5), std::sqrt(schedule.sigma(500) * schedule.sigma(501)), 1e-12);
    EXPECT_NEAR(schedule.sigma_max(), zero_snr ? 4096 : 14.6146, 2e-4);
  }
  ScheduleConfig flow;
  flow.prediction = Prediction::Flow;
  const NoiseSchedule schedule(flow);
  EXPECT_EQ(schedule.sigma_max(), 1);
  EXPECT_NEAR(schedule.sigma(500), 0.75, 1e-12);
  EXPECT_NEAR(schedule.timestep(0.75), 750, 1e-9);
}

TEST(NoiseSchedule, RefusesBadConfigs) {
  ScheduleConfig config;
  config.train_steps = 1;
  EXPECT_THROW(NoiseSchedule{config}, Error);
  config = {};
  config.beta_end = 1.5;
  EXPECT_THROW(NoiseSchedule{config}, Error);
  config = {};
  config.beta_schedule = BetaSchedule::Trained;
  EXPECT_THROW(NoiseSchedule{config}, Error);
}

TEST(PlanForScheduler, VisitsDiffusersTimestepsAndSigmas) {
  const TensorFile& golden = golden_file("schedules");
  const std::vector<int> all_steps = golden_cases(golden).at("steps");
  const nlohmann::json noted = golden_cases(golden);
  int cases = 0;
  for (; noted.contains("case." + std::to_string(cases)); ++cases) {
    const std::string key = "case." + std::to_string(cases);
    const std::string text = noted.at(key).dump();
    const SchedulerConfig config = parse_scheduler_config(text);
    const NoiseSchedule schedule(config.schedule);
    const auto timesteps = golden.tensors.at(key + ".timesteps").values<float>();
    const auto sigmas = golden.tensors.at(key + ".sigmas").values<float>();
    const auto noise_scales = golden.tensors.at(key + ".init_noise_sigma").values<float>();
    size_t t_at = 0, s_at = 0, run = 0;
    for (const int steps : all_steps) {
      if (config.class_name.starts_with("LCM") || config.class_name.starts_with("TCD")) {
        if (steps > 50) continue;
      }
      const SamplingPlan plan = plan_for_scheduler(config, schedule, steps);
      const size_t K = plan.timesteps.size();
      ASSERT_EQ(plan.sigmas.size(), K + 1);
      if (steps == 1 && config.class_name == "DEISMultistepScheduler" &&
          config.sigma_spacing == SigmaSpacing::Karras) {
        // Its one step goes from the highest level to the same; sinopia's goes to the lowest.
        EXPECT_EQ(sigmas[s_at], sigmas[s_at + 1]);
        EXPECT_EQ(plan.sigmas.back(), schedule.sigma_min());
        t_at += 1, s_at += 2, ++run;
        continue;
      }
      // The reference repeats its last level where it has no way to go.
      const bool repeats = static_cast<int>(K) == steps - 1;
      ASSERT_TRUE(repeats || static_cast<int>(K) == steps) << text << " " << steps;
      for (size_t i = 0; i < K; ++i) {
        // Where the reference cuts its float timesteps off, rounding decides on which side of an integer they
        // are.
        const bool cut =
            config.sigma_spacing == SigmaSpacing::Exponential && config.class_name.starts_with("DPM");
        const double t = timesteps[t_at + i];
        ASSERT_NEAR(plan.timesteps[i], t, cut ? 1 : 2e-4 * (1 + t)) << text << " " << steps;
        ASSERT_EQ(plan.timestep(schedule, plan.sigmas[i]), plan.timesteps[i]);
      }
      for (size_t i = 0; i <= K; ++i) {
        // The square roots of the rescaling, see above: some units of abar near 1, where sigma^2 is 1 - abar.
        const double sigma = sigmas[s_at + i];
        const double tolerance =
            config.schedule.rescale_zero_snr && sigma > 0 ? 3e-6 + 5e-7 / (sigma * sigma) : 2e-6;
        ASSERT_NEAR(plan.sigmas[i], sigma, tolerance * sigma) << text << " " << steps << " " << i;
      }
      if (repeats) {
        ASSERT_NEAR(sigmas[s_at + K + 1], sigmas[s_at + K], 1e-6);
      }
      // diffusers holds the latents of these classes in the model's scale, where the noise has scale 1.
      const double model_scale = noise_scales[run] == 1 && !schedule.is_flow()
                                     ? std::sqrt(plan.sigmas[0] * plan.sigmas[0] + 1)
                                     : noise_scales[run];
      if (!schedule.is_flow()) {
        ASSERT_NEAR(plan.noise_scale, model_scale, 2e-6 * model_scale) << text << " " << steps;
      }
      t_at += static_cast<size_t>(steps);
      s_at += static_cast<size_t>(steps) + 1;
      ++run;
    }
    EXPECT_EQ(t_at, timesteps.size()) << text;
    EXPECT_EQ(s_at, sigmas.size()) << text;
  }
  EXPECT_GT(cases, 30);
}

TEST(PlanForScheduler, RefusesWhatItDoesNotKnow) {
  const auto kind_of = [](const char* json, int steps) {
    try {
      const SchedulerConfig config = parse_scheduler_config(json);
      plan_for_scheduler(config, NoiseSchedule(config.schedule), steps);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::Cancelled;
  };
  EXPECT_EQ(kind_of(R"({"_class_name":"KarrasVeScheduler"})", 10), ErrorKind::Unsupported);
  EXPECT_EQ(kind_of(R"({"_class_name":"DPMSolverMultistepScheduler","solver_order":3})", 10),
            ErrorKind::Unsupported);
  EXPECT_EQ(kind_of(R"({"_class_name":"DDIMScheduler","use_lu_lambdas":true})", 10), ErrorKind::Unsupported);
  EXPECT_EQ(kind_of(R"({"interpolation_type":"log_linear"})", 10), ErrorKind::Unsupported);
  EXPECT_EQ(kind_of(R"({"timestep_type":"continuous"})", 10), ErrorKind::Unsupported);
  EXPECT_EQ(kind_of(R"({"interpolation_type":"linear","timestep_type":"discrete"})", 10),
            ErrorKind::Cancelled);
  EXPECT_EQ(kind_of(R"({"beta_schedule":"sigmoid"})", 10), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of(R"({"beta_start":"x"})", 10), ErrorKind::Corrupt);
  EXPECT_EQ(kind_of(R"({"num_train_timesteps":1e300})", 10), ErrorKind::Corrupt);
  EXPECT_EQ(kind_of(R"({"num_train_timesteps":999.5})", 10), ErrorKind::Corrupt);
  EXPECT_EQ(kind_of(R"({"steps_offset":-1})", 10), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of(R"({"sigma_min":-1})", 10), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of("[1]", 10), ErrorKind::Corrupt);
  EXPECT_EQ(kind_of("{", 10), ErrorKind::Corrupt);
  EXPECT_EQ(kind_of("{}", 0), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of("{}", 1001), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of(R"({"_class_name":"LCMScheduler"})", 51), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of("{}", 1000), ErrorKind::Cancelled);
}

TEST(PlanForScheduler, StepsDownWhereAnOffsetReachesPastTheLastTimestep) {
  const SchedulerConfig config = parse_scheduler_config(
      R"({"_class_name":"EulerDiscreteScheduler","timestep_spacing":"leading","steps_offset":1})");
  const NoiseSchedule schedule(config.schedule);
  const SamplingPlan plan = plan_for_scheduler(config, schedule, 1000);
  ASSERT_EQ(plan.timesteps.size(), 999u);
  EXPECT_EQ(plan.timesteps.front(), 999);
  EXPECT_EQ(plan.timesteps.back(), 1);
  EXPECT_EQ(plan.sigmas.front(), schedule.sigma_max());
  for (size_t i = 1; i < plan.sigmas.size(); ++i) ASSERT_LT(plan.sigmas[i], plan.sigmas[i - 1]) << i;
}

TEST(SigmaSchedules, AreThoseOfKDiffusionAndComfyUi) {
  const TensorFile& golden = golden_file("schedules");
  const std::vector<int> all_steps = golden_cases(golden).at("steps");
  const NoiseSchedule schedule({});
  int compared = 0;
  for (const SigmaScheduleInfo& info : sigma_schedules()) {
    const auto found = golden.tensors.find("sigmas." + std::string(info.name));
    if (found == golden.tensors.end()) continue;
    ++compared;
    const auto expected = found->second.values<float>();
    size_t at = 0;
    for (const int steps : all_steps) {
      if (steps == 1 && info.name == "kl_optimal") continue;
      const Sigmas sigmas = info.sigmas(schedule, steps);
      for (const double sigma : sigmas) {
        ASSERT_LT(at, expected.size()) << info.name;
        // k-diffusion raises float32 numbers to the 7th power.
        ASSERT_NEAR(sigma, expected[at], 4e-6 * expected[at] + 1e-6) << info.name << " " << steps;
        ++at;
      }
    }
    EXPECT_EQ(at, expected.size()) << info.name;
  }
  EXPECT_EQ(compared, 10);
}

TEST(SigmaSchedules, DescendToZeroForEveryNumberOfSteps) {
  ScheduleConfig flow;
  flow.prediction = Prediction::Flow;
  for (const NoiseSchedule& schedule : {NoiseSchedule({}), NoiseSchedule(flow)}) {
    for (const SigmaScheduleInfo& info : sigma_schedules()) {
      for (int steps = 1; steps <= 100; ++steps) {
        const Sigmas sigmas = info.sigmas(schedule, steps);
        ASSERT_GE(sigmas.size(), 2u) << info.name;
        if (info.name != "ddim_uniform" && info.name != "beta_timesteps") {
          ASSERT_EQ(sigmas.size(), static_cast<size_t>(steps) + 1) << info.name;
        }
        ASSERT_EQ(sigmas.back(), 0) << info.name;
        for (size_t i = 1; i < sigmas.size(); ++i)
          ASSERT_LT(sigmas[i], sigmas[i - 1]) << info.name << " " << steps;
      }
    }
  }
}

TEST(SigmaSchedules, HoldThePublishedTables) {
  const NoiseSchedule schedule({});
  const Sigmas ays = find_sigma_schedule("align_your_steps").sigmas(schedule, 10);
  EXPECT_EQ(ays[1], 6.4745760956);
  EXPECT_EQ(ays[9], 0.1515232662);
  EXPECT_EQ(find_sigma_schedule("align_your_steps_sdxl").sigmas(schedule, 10)[1], 6.3184485287);
  EXPECT_EQ(find_sigma_schedule("gits").sigmas(schedule, 3),
            (Sigmas{14.61464119, 1.56271636, 0.52423614, 0}));
  EXPECT_EQ(find_sigma_schedule("gits").sigmas(schedule, 20)[19], 0.09824532);
  const Sigmas between = find_sigma_schedule("ays").sigmas(schedule, 20);
  EXPECT_NEAR(between[1], std::sqrt(14.6146412293 * 6.4745760956), 1e-9);
}

TEST(BetaQuantile, IsScipys) {
  const TensorFile& golden = golden_file("schedules");
  const std::pair<const char*, std::pair<double, double>> cases[] = {
      {"0.6.0.6", {0.6, 0.6}}, {"2.0.5.0", {2, 5}}, {"0.1.3.0", {0.1, 3}}, {"30.0.1.5", {30, 1.5}}};
  for (const auto& [name, parameters] : cases) {
    const auto expected = golden.tensors.at(std::string("beta_quantile.") + name).values<double>();
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(beta_quantile(static_cast<double>(i) / 100, parameters.first, parameters.second),
                  expected[i], 1e-12);
    }
  }
  EXPECT_THROW(beta_quantile(1.1, 1, 1), Error);
}

TEST(PlanSampling, CombinesSamplersAndSchedules) {
  const NoiseSchedule schedule({});
  const SamplingPlan plan = plan_sampling("DPM2", "Karras", schedule, 10);
  EXPECT_EQ(plan.sampler->name, "dpm2");
  const Sigmas full = karras_sigmas(11, schedule.sigma_min(), schedule.sigma_max());
  EXPECT_EQ(plan.sigmas.size(), 11u);
  EXPECT_EQ(plan.sigmas[9], full[9]);
  EXPECT_EQ(plan.sigmas[10], 0);
  EXPECT_EQ(plan.noise_scale, schedule.sigma_max());
  EXPECT_EQ(plan_sampling("euler", "", schedule, 7).timesteps[0], 999);
  EXPECT_THROW(plan_sampling("euler", "no such", schedule, 7), Error);
  EXPECT_THROW(plan_sampling("euler", "", schedule, 0), Error);
  ScheduleConfig flow;
  flow.prediction = Prediction::Flow;
  EXPECT_THROW(plan_sampling("euler_a", "simple", NoiseSchedule(flow), 7), Error);
  EXPECT_EQ(plan_sampling("euler", "simple", NoiseSchedule(flow), 7).sigmas[0], 1);
}

TEST(ImageToImage, RunsTheLastStepsOfTheSchedule) {
  EXPECT_EQ(first_step(50, 0.8), 10);
  EXPECT_EQ(first_step(30, 0.75), 8);
  EXPECT_EQ(first_step(50, 1), 0);
  EXPECT_EQ(first_step(10, 0.05), 10);
  const NoiseSchedule schedule({});
  const SamplingPlan plan = plan_sampling("euler", "karras", schedule, 10), rest = skip_steps(plan, 4);
  EXPECT_EQ(rest.sigmas.size(), 7u);
  EXPECT_EQ(rest.sigmas[0], plan.sigmas[4]);
  EXPECT_EQ(rest.timesteps[0], plan.timesteps[4]);
  EXPECT_EQ(rest.noise_scale, plan.sigmas[4]);
  EXPECT_THROW(skip_steps(plan, 10), Error);
}

}  // namespace
}  // namespace sinopia
