#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "models.h"
#include "sinopia/base/threads.h"
#include "sinopia/io/image_tensor.h"
#include "sinopia/models/taesd/keys.h"
#include "sinopia/pipelines/metadata.h"
#include "sinopia/pipelines/report.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"

namespace sinopia::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// --- whole pictures against the references

const Json& manifest() {
  static const Json kManifest = Json::parse(std::ifstream(golden("pipelines/savings.json")));
  return kManifest;
}

class SavingsGolden : public ::testing::TestWithParam<size_t> {};

TEST_P(SavingsGolden, IsTheReferences) {
  const Json& c = manifest()["cases"][GetParam()];
  const TemporaryFolder folder;
  std::filesystem::copy(model(c["model"]), folder / "model", std::filesystem::copy_options::recursive);
  std::ofstream(folder / "model/tokenizer/tokenizer_config.json") << Json{{"pad_token", c["pad_token"]}};
  GenerationRequest r;
  r.prompt = c["prompt"], r.negative_prompt = c["negative"];
  r.truncate = true;
  r.width = c["width"], r.height = c["height"], r.steps = c["steps"];
  r.cfg_scale = c["cfg"], r.seed = c["seed"], r.sampler = c["sampler"];
  r.keep_latents = true;
  if (c.contains("interval"))
    r.savings.guidance_interval = parse_guidance_interval(c["interval"].get<std::string>());
  if (c.contains("adaptive")) r.savings.adaptive_guidance = c["adaptive"];
  if (c.contains("deepcache")) r.savings.deep_cache = parse_deep_cache(c["deepcache"].get<std::string>());
  if (c.contains("merging")) r.savings.token_merging = c["merging"];
  StableDiffusionPipeline pipeline(folder / "model");
  const GenerationResult result = pipeline.generate(r);
  const Tensor want = read_safetensors(golden("pipelines/savings.safetensors")).tensors.at(c["name"]);
  const Tensor& got = result.latents[0];
  ASSERT_EQ(got.shape(), want.shape());
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    worst = std::max(worst, std::abs(double{got.data<float>()[i]} - want.data<float>()[i]));
    largest = std::max(largest, std::abs(double{want.data<float>()[i]}));
  }
  RecordProperty("latent", std::to_string(worst / largest));
  EXPECT_LE(worst / largest, 3e-5);  // as of whole pictures in golden_test.cpp
  if (c.contains("guided")) {
    EXPECT_EQ(result.evaluations.texts, r.steps + c["guided"].get<int>());
  }
}

std::string name_of(const ::testing::TestParamInfo<size_t>& info) {
  std::string name = manifest()["cases"][info.param]["name"];
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(References, SavingsGolden, ::testing::Range(size_t{0}, manifest()["cases"].size()),
                         name_of);

// --- what the references do not say

StableDiffusionPipeline& sd1() {
  static StableDiffusionPipeline pipeline(model("tiny-sd1"), {.taesd = model("tiny-taesd.safetensors")});
  return pipeline;
}

GenerationRequest small_request() {
  GenerationRequest r;
  r.prompt = "a red fox";
  r.negative_prompt = "blurry";
  r.width = 40, r.height = 24;
  r.steps = 6;
  r.sampler = "euler";
  r.keep_latents = true;
  return r;
}

GenerationRequest with(const std::function<void(GenerationRequest&)>& change) {
  GenerationRequest r = small_request();
  change(r);
  return r;
}

GenerationResult paint(const std::function<void(GenerationRequest&)>& change) {
  return sd1().generate(with(change));
}

std::vector<float> latent(const GenerationResult& result, size_t image = 0) {
  return result.latents.at(image).to_vector<float>();
}

TEST(Savings, AreOffUnlessAskedFor) {
  const GenerationResult whole = paint([](auto&) {});
  EXPECT_EQ(whole.evaluations.texts, 12);
  EXPECT_EQ(whole.evaluations.cached, 0);
  // The same bits with values that save nothing.
  EXPECT_EQ(latent(paint([](auto& r) { r.savings.guidance_interval = {0, 1}; })), latent(whole));
  EXPECT_EQ(latent(paint([](auto& r) { r.savings.adaptive_guidance = 1; })), latent(whole));
  EXPECT_EQ(latent(paint([](auto& r) { r.savings.deep_cache = {1, 3}; })), latent(whole));
  EXPECT_EQ(latent(paint([](auto& r) { r.savings.token_merging = 0.001; })), latent(whole));
}

TEST(Savings, HaveTheSameBitsForAnyNumberOfThreads) {
  const auto all = [](GenerationRequest& r) {
    r.savings = {{0.2, 0.9}, 0.99, {2, 1}, 0.4, true};
    r.prompt = "a red fox AND a blue cat";
  };
  const int threads = thread_count();
  set_thread_count(1);
  const GenerationResult one = paint(all);
  set_thread_count(2);
  const GenerationResult two = paint(all);
  set_thread_count(threads);
  EXPECT_EQ(latent(one), latent(two));
  EXPECT_EQ(one.images[0].pixels, two.images[0].pixels);
}

TEST(Savings, ABatchIsItsSinglePictures) {
  const auto all = [](GenerationRequest& r) {
    r.savings = {{0, 0.7}, 0.9995, {3, 0}, 0.4, false};
    r.sampler = "heun";
    r.seed = 8;
  };
  const GenerationResult batch = paint([&](auto& r) { all(r), r.batch_count = 2; });
  const GenerationResult second = paint([&](auto& r) { all(r), r.seed = 9; });
  EXPECT_EQ(latent(batch, 1), latent(second));
  EXPECT_EQ(batch.images[1].text, second.images[0].text);
}

TEST(GuidanceInterval, OutsideIsWithoutGuidance) {
  const auto plain = [](GenerationRequest& r) { r.cfg_scale = 1; };
  const auto none = [](GenerationRequest& r) { r.savings.guidance_interval = {0.5, 0.5}; };
  const GenerationResult result = paint(none);
  EXPECT_EQ(latent(result), latent(paint(plain)));
  EXPECT_EQ(result.evaluations.texts, 6);
  EXPECT_EQ(paint([](auto& r) { r.savings.guidance_interval = {0.2, 0.7}; }).evaluations.texts, 6 + 3);
  // A scale of 1 with weights that do not add up to 1 needs the negative text still.
  const auto two = [](GenerationRequest& r) { r.prompt = "a red fox AND a cat"; };
  const GenerationResult scale1 = paint([&](auto& r) { plain(r), two(r); });
  const GenerationResult outside = paint([&](auto& r) { none(r), two(r); });
  EXPECT_EQ(outside.evaluations.texts, 18);
  EXPECT_EQ(latent(outside), latent(scale1));
  const auto halves = [](GenerationRequest& r) { r.prompt = "a red fox :0.25 AND a cat :0.75"; };
  const GenerationResult shared = paint([&](auto& r) { none(r), halves(r); });
  EXPECT_EQ(shared.evaluations.texts, 12);
  const auto want = latent(paint([&](auto&r) { plain(r), halves(r); })), got = latent(shared);
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-3);
}

TEST(GuidanceInterval, CountsAsDiffusersGuidersDo) {
  const GuidanceInterval interval{0.29, 0.7};  // 0.29 * 100 is 28.999999999999996
  EXPECT_FALSE(interval.contains(27, 100));
  EXPECT_TRUE(interval.contains(28, 100));
  EXPECT_TRUE(interval.contains(69, 100));
  EXPECT_FALSE(interval.contains(70, 100));
  EXPECT_TRUE(GuidanceInterval().contains(0, 1));
}

TEST(AdaptiveGuidance, EndsAfterTheStepThatSawEnough) {
  // A step of heun's evaluates twice, and both are guided or none is.
  const GenerationResult result = paint([](auto& r) { r.savings.adaptive_guidance = 0, r.sampler = "heun"; });
  EXPECT_EQ(result.evaluations.texts, 2 * 2 + 9);
  EXPECT_EQ(paint([](auto& r) { r.savings.adaptive_guidance = 0; }).evaluations.texts, 2 + 5);
  EXPECT_EQ(paint([](auto& r) { r.savings.adaptive_guidance = 0, r.batch_count = 2; }).evaluations.texts, 14);
}

TEST(DeepCache, CountsEvaluationsAndLetsGo) {
  const auto cached = [](const char* sampler, int interval, const char* prompt) {
    return paint([&](auto& r) {
             r.sampler = sampler, r.savings.deep_cache = {interval, 0}, r.prompt = prompt;
           })
        .evaluations;
  };
  EXPECT_EQ(cached("euler", 2, "a fox").cached, 6);
  EXPECT_EQ(cached("euler", 4, "a fox").cached, 2 * 4);
  EXPECT_EQ(cached("euler", 1000, "a fox").cached, 10);
  EXPECT_EQ(cached("heun", 2, "a fox").texts, 22);
  EXPECT_EQ(cached("heun", 2, "a fox").cached, 10);
  EXPECT_EQ(cached("euler", 2, "a fox AND a cat").cached, 9);
  // A new text is not mixed with the features of another: both halves begin anew.
  EXPECT_EQ(cached("euler", 1000, "a [fox:cat:3]").cached, 2 * (2 + 2));
  // Texts of other lengths are batches of their own.
  std::string long_prompt;
  for (int i = 0; i < 90; ++i) long_prompt += "fox ";
  const GenerationRequest r = with([&](auto& q) {
    q.prompt = long_prompt, q.truncate = false, q.savings.deep_cache = {3, 1}, q.batch_count = 2;
  });
  EXPECT_EQ(sd1().generate(r).evaluations.cached, 2 * 8);

  std::vector<size_t> memory;
  const auto note = [&](auto& q) {
    q.batch_count = 2;
    q.on_progress = [&](const Progress& p) {
      if (p.stage == Stage::Decode) memory.push_back(p.memory);
    };
  };
  paint(note);
  paint([&](auto& q) { note(q), q.savings.deep_cache = {3, 0}; });
  ASSERT_EQ(memory.size(), 4u);
  EXPECT_EQ(memory[2], memory[0]);
  EXPECT_EQ(memory[3], memory[1]);
}

TEST(DeepCache, GuidanceThatEndsBeginsAnew) {
  const auto result = paint([](auto& r) {
    r.savings.deep_cache = {1000, 0}, r.savings.guidance_interval = {0, 0.5};
  });
  EXPECT_EQ(result.evaluations.texts, 9);
  EXPECT_EQ(result.evaluations.cached, 4 + 2);
}

TEST(TokenMerging, FollowsTheSeed) {
  const auto merging = [](uint64_t seed, double ratio) {
    return latent(paint([&](auto& r) { r.seed = seed, r.savings.token_merging = ratio; }));
  };
  EXPECT_EQ(merging(3, 0.5), merging(3, 0.5));
  EXPECT_NE(merging(3, 0.5), merging(3, 0));
  EXPECT_NE(merging(3, 0.5), merging(3, 0.25));
  EXPECT_EQ(merging(3, 0.75), merging(3, 1));  // destinations stay
}

TEST(TinyDecoder, DecodesPicturesAndPreviews) {
  GenerationResult whole = paint([](auto&) {}), tiny = paint([](auto&r) { r.savings.tiny_decoder = true; });
  EXPECT_EQ(latent(tiny), latent(whole));
  EXPECT_NE(tiny.images[0].pixels, whole.images[0].pixels);
  const TinyDecoder decoder = load_tiny_decoder(model("tiny-taesd.safetensors"));
  EXPECT_EQ(tiny.images[0].pixels, tensor_to_images(decoder.decode(tiny.latents[0])).front().pixels);
  EXPECT_EQ(
      paint([](auto& r) { r.savings.tiny_decoder = true, r.vae_tiling = VaeTiling::On; }).images[0].pixels,
      tiny.images[0].pixels);
  Image last;
  paint([&](auto& r) {
    r.preview_interval = 6;
    r.on_preview = [&](const Preview& p) { last = p.picture; };
  });
  EXPECT_EQ(last.pixels, tiny.images[0].pixels);  // the last step's estimate is the latent

  StableDiffusionPipeline without(model("tiny-sd1"));
  EXPECT_THROW(without.generate(with([](auto& r) { r.savings.tiny_decoder = true; })), Error);
  EXPECT_THROW(StableDiffusionPipeline(model("tiny-sd1"), {.taesd = model("vae.safetensors")}), Error);
}

TEST(Savings, ComeBackFromThePicturesText) {
  const PictureFacts facts{"m", "euler", "", 1, 0, 64, 64};
  GenerationRequest r;
  EXPECT_EQ(describe_picture(r, facts).find("DeepCache"), std::nullopt);
  r.savings = {{0.15, 0.725}, 0.995, {3, 2}, 0.3, true};
  const ReadRequest back = read_request(parse_parameters(format_parameters(describe_picture(r, facts))));
  EXPECT_TRUE(back.ignored.empty());
  const Savings& s = back.request.savings;
  EXPECT_EQ(s.guidance_interval.from, 0.15);
  EXPECT_EQ(s.guidance_interval.to, 0.725);
  EXPECT_EQ(s.adaptive_guidance, 0.995);
  EXPECT_EQ(s.deep_cache.interval, 3);
  EXPECT_EQ(s.deep_cache.depth, 2);
  EXPECT_EQ(s.token_merging, 0.3);
  EXPECT_TRUE(s.tiny_decoder);
  const Json report = Json::parse(report_json(r, {}, {}));
  EXPECT_EQ(report["savings"]["guidance_interval"], (Json{0.15, 0.725}));
  EXPECT_EQ(report["savings"]["deepcache"]["depth"], 2);
  EXPECT_TRUE(Json::parse(report_json({}, {}, {}))["savings"]["deepcache"].is_null());
}

TEST(Savings, NamesWhatIsWrong) {
  const auto message = [](const std::function<void(GenerationRequest&)>& change) {
    try {
      paint(change);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message([](auto& r) {
                r.savings.guidance_interval = {0.6, 0.4};
              }),
              HasSubstr("guidance interval"));
  EXPECT_THAT(message([&](auto& r) {
                r.savings.guidance_interval = {0, nan};
              }),
              HasSubstr("guidance interval"));
  EXPECT_THAT(message([](auto& r) {
                r.savings.guidance_interval = {0, 1.5};
              }),
              HasSubstr("guidance interval"));
  EXPECT_THAT(message([](auto& r) { r.savings.adaptive_guidance = 1.01; }), HasSubstr("adaptive_guidance"));
  EXPECT_THAT(message([](auto& r) { r.savings.deep_cache = {0, 0}; }), HasSubstr("interval from 1"));
  EXPECT_THAT(message([](auto& r) { r.savings.deep_cache = {2, -1}; }), HasSubstr("depth from 0"));
  EXPECT_THAT(message([](auto& r) { r.savings.deep_cache = {2, 4}; }), HasSubstr("depth from 0 to 3"));
  EXPECT_THAT(message([&](auto& r) { r.savings.token_merging = nan; }), HasSubstr("token_merging"));
  for (const char* text :
       {"", ":", "0.2", "0.2:", ":0.8", "0.2:0.8:", "0.2-0.8", "-0.1:0.5", "nan:1", "0:inf", " 0:1"})
    EXPECT_THROW(parse_guidance_interval(text), Error) << text;
  for (const char* text : {"", ":", "3:", ":1", "3:1:", "0", "-2", "3.5", "3:-1", "1001", "99999999999"})
    EXPECT_THROW(parse_deep_cache(text), Error) << text;
}

}  // namespace
}  // namespace sinopia::testing
