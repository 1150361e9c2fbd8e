#include "sinopia/pipelines/metadata.h"

#include <gtest/gtest.h>

#include "sinopia/base/error.h"
#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia {
namespace {

ReadRequest read(const std::string& settings) { return read_request(parse_parameters("a fox\n" + settings)); }

TEST(Metadata, EveryFieldComesBack) {
  GenerationRequest r;
  r.prompt = "a fox";
  r.negative_prompt = "blurry";
  r.steps = 31;
  r.cfg_scale = 6.1;
  r.guidance_rescale = 0.3;
  r.variation_strength = 0.4;
  r.clip_skip = 2;
  r.rng = RngKind::CudaPhilox;
  r.eta = 0.0;
  r.s_churn = 1.5;
  r.s_noise = 0.75;
  r.emphasis = EmphasisMode::NoNorm;
  r.truncate = true;
  r.strength = 0.35;
  r.init_image = make_image(8, 8, 3);
  r.mask = make_image(8, 8, 1);
  r.class_label = "a, b: \"c\"";
  r.semantic_map = make_image(8, 8, 1);
  const ReadRequest back = read_request(parse_parameters(format_parameters(describe_picture(
      r, {"model, v1", "dpm++2m_sde", "exponential", 18446744073709551615u, 77, 640, 384}))));
  EXPECT_EQ(back.model, "model, v1");
  EXPECT_TRUE(back.needs_init_image);
  EXPECT_TRUE(back.needs_mask);
  EXPECT_TRUE(back.needs_semantic_map);
  EXPECT_EQ(back.request.class_label, r.class_label);
  EXPECT_TRUE(back.ignored.empty());
  const GenerationRequest& q = back.request;
  EXPECT_EQ(q.prompt, r.prompt);
  EXPECT_EQ(q.negative_prompt, r.negative_prompt);
  EXPECT_EQ(q.steps, r.steps);
  EXPECT_EQ(q.cfg_scale, r.cfg_scale);
  EXPECT_EQ(q.guidance_rescale, r.guidance_rescale);
  EXPECT_EQ(q.seed, 18446744073709551615u);
  EXPECT_EQ(q.variation_seed, 77u);
  EXPECT_EQ(q.variation_strength, r.variation_strength);
  EXPECT_EQ(q.width, 640);
  EXPECT_EQ(q.height, 384);
  EXPECT_EQ(q.clip_skip, r.clip_skip);
  EXPECT_EQ(q.rng, r.rng);
  EXPECT_EQ(q.eta, r.eta);
  EXPECT_EQ(q.s_churn, r.s_churn);
  EXPECT_EQ(q.s_noise, r.s_noise);
  EXPECT_EQ(q.emphasis, r.emphasis);
  EXPECT_EQ(q.truncate, r.truncate);
  EXPECT_EQ(q.strength, r.strength);
  EXPECT_EQ(q.sampler, "dpm++2m_sde");
  EXPECT_EQ(q.scheduler, "exponential");
}

TEST(Metadata, EverySamplerAndScheduleComesBack) {
  for (const SamplerInfo& sampler : samplers()) {
    const ReadRequest own =
        read_request(describe_picture({}, {"m", std::string(sampler.name), "", 1, 0, 64, 64}));
    EXPECT_EQ(own.request.sampler, sampler.name);
    EXPECT_EQ(own.request.scheduler, "");
  }
  for (const SigmaScheduleInfo& schedule : sigma_schedules()) {
    const PictureFacts facts{"m", "euler", std::string(schedule.name), 1, 0, 64, 64};
    EXPECT_EQ(read_request(describe_picture({}, facts)).request.scheduler, schedule.name);
  }
}

TEST(Metadata, ReadsAutomatic1111sPictures) {
  const ReadRequest old =
      read("Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5, Size: 512x768, ENSD: 1");
  EXPECT_EQ(old.request.sampler, "dpm++2m");
  EXPECT_EQ(old.request.scheduler, "karras");
  EXPECT_EQ(old.request.rng, RngKind::CudaPhilox);
  EXPECT_EQ(old.request.height, 768);
  EXPECT_EQ(old.ignored, std::vector<std::string>{"ENSD"});
  const ReadRequest automatic =
      read("Steps: 20, Sampler: DPM++ 2M, Schedule type: Automatic, Seed: 5, Version: v1.10.0");
  EXPECT_EQ(automatic.request.scheduler, "karras");
  EXPECT_EQ(read("Steps: 20, Sampler: Euler, Schedule type: SGM Uniform, Seed: 5").request.scheduler,
            "sgm_uniform");
  EXPECT_EQ(read("Steps: 20, Sampler: Euler, Seed: 5, RNG: CPU").request.rng, RngKind::TorchCpu);
}

TEST(Metadata, SaysWhatIsWrong) {
  const auto message = [](const std::string& settings) -> std::string {
    try {
      read(settings);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument);
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message("Steps: many, Sampler: Euler, Seed: 5").find("Steps"), std::string::npos);
  EXPECT_NE(message("Steps: 2, Sampler: Eular, Seed: 5").find("euler"), std::string::npos);
  EXPECT_NE(message("Steps: 2, Sampler: Euler, Seed: 99999999999999999999").find("Seed"), std::string::npos);
  EXPECT_NE(message("Steps: 2, Sampler: Euler, Seed: 1, Size: 512").find("Size"), std::string::npos);
  EXPECT_NE(message("Style: old, Light: warm, Mood: calm").find("Steps"), std::string::npos);
  EXPECT_NE(message("no settings at all").find("Steps"), std::string::npos);
}

}  // namespace
}  // namespace sinopia
