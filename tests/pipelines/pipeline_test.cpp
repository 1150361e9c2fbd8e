#include <cmath>
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models.h"
#include "sinopia/base/threads.h"
#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/diffusion/sigma_schedules.h"
#include "sinopia/io/image_tensor.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/shape.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"

namespace sinopia::testing {
namespace {

using ::testing::HasSubstr;

StableDiffusionPipeline& sd1() {
  static StableDiffusionPipeline pipeline(model("tiny-sd1"));
  return pipeline;
}

GenerationRequest small_request() {
  GenerationRequest r;
  r.prompt = "a red fox";
  r.negative_prompt = "blurry";
  r.width = 48;
  r.height = 40;
  r.steps = 3;
  r.sampler = "euler_a";
  r.keep_latents = true;
  return r;
}

std::vector<float> latent(const GenerationRequest& request, size_t image = 0) {
  return sd1().generate(request).latents.at(image).to_vector<float>();
}

Error error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorKind::Backend, "");
}

TEST(Pipeline, TheSameBitsForAnyNumberOfThreads) {
  const int threads = thread_count();
  set_thread_count(1);
  const GenerationResult one = sd1().generate(small_request());
  set_thread_count(3);
  const GenerationResult three = sd1().generate(small_request());
  set_thread_count(threads);
  EXPECT_EQ(one.latents[0].to_vector<float>(), three.latents[0].to_vector<float>());
  EXPECT_EQ(one.images[0].pixels, three.images[0].pixels);
}

TEST(Pipeline, ABatchIsItsSinglePictures) {
  GenerationRequest r = small_request();
  r.batch_count = 3;
  r.seed = std::numeric_limits<uint64_t>::max() - 1;  // seeds wrap around
  std::vector<uint64_t> seen;
  r.on_image = [&](int, uint64_t seed, const Image&) { seen.push_back(seed); };
  const GenerationResult batch = sd1().generate(r);
  EXPECT_EQ(batch.seeds, (std::vector<uint64_t>{r.seed, r.seed + 1, 0}));
  EXPECT_EQ(seen, batch.seeds);
  for (size_t i = 0; i < 3; ++i) {
    GenerationRequest single = small_request();
    single.seed = batch.seeds[i];
    const GenerationResult alone = sd1().generate(single);
    EXPECT_EQ(alone.images[0].pixels, batch.images[i].pixels);
    EXPECT_EQ(alone.images[0].text, batch.images[i].text);
  }
  EXPECT_NE(batch.images[0].pixels, batch.images[1].pixels);
}

TEST(Pipeline, OtherGeneratorsGiveOtherNoise) {
  GenerationRequest r = small_request();
  const auto cpu = latent(r);
  r.rng = RngKind::CudaPhilox;
  EXPECT_NE(latent(r), cpu);
}

TEST(Pipeline, AVariationTurnsFromOneSeedToTheOther) {
  GenerationRequest r = small_request();
  r.sampler = "euler";
  r.seed = 5;
  const auto from = latent(r);
  r.variation_seed = 9;
  EXPECT_EQ(latent(r), from);
  r.variation_strength = 1;
  GenerationRequest other = small_request();
  other.sampler = "euler";
  other.seed = 9;
  const auto to = latent(other), turned = latent(r);
  for (size_t i = 0; i < to.size(); ++i) ASSERT_NEAR(turned[i], to[i], 1e-3);
  r.variation_strength = 0.5;
  r.batch_count = 2;
  const GenerationResult batch = sd1().generate(r);
  EXPECT_EQ(batch.seeds, (std::vector<uint64_t>{5, 5}));
  EXPECT_NE(batch.images[0].pixels, batch.images[1].pixels);
  EXPECT_THAT(batch.images[1].text.at("parameters"),
              HasSubstr("Variation seed: 10, Variation seed strength: 0.5"));
}

TEST(Pipeline, AndAddsWhatEachPromptSays) {
  GenerationRequest r = small_request();
  r.sampler = "euler";
  const auto one = latent(r);
  r.prompt = "a red fox :0.25 AND a red fox :0.75";
  const auto halves = latent(r);
  for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(halves[i], one[i], 2e-3);
  r.prompt = "a red fox AND a blue cat";
  EXPECT_NE(latent(r), one);
}

TEST(Pipeline, ScheduledTextsTakeTheirTurn) {
  GenerationRequest r = small_request();
  r.sampler = "ddim";
  const auto cat = latent((r.prompt = "a cat", r)), dog = latent((r.prompt = "a dog", r));
  EXPECT_EQ(latent((r.prompt = "a [cat:dog:3]", r)), cat);
  EXPECT_EQ(latent((r.prompt = "a [cat:dog:0]", r)), dog);
  const auto both = latent((r.prompt = "a [cat:dog:2]", r));
  EXPECT_NE(both, cat);
  EXPECT_NE(both, dog);
}

TEST(Pipeline, PromptsMayBeOfAnyLength) {
  GenerationRequest r = small_request();
  for (int i = 0; i < 100; ++i) r.prompt += " fox";
  const auto both = latent(r);
  r.negative_prompt = r.prompt;
  EXPECT_NE(latent(r), both);
}

TEST(Pipeline, WithoutGuidanceTheNegativePromptDoesNothing) {
  GenerationRequest r = small_request();
  r.cfg_scale = 1;
  const auto one = latent(r);
  r.negative_prompt = "something else";
  EXPECT_EQ(latent(r), one);
}

TEST(Pipeline, TakesTheModelsSizeOrThePictures) {
  GenerationRequest r = small_request();
  r.width = r.height = 0;
  r.steps = 1;
  EXPECT_EQ(sd1().generate(r).width, 64);
  r.init_image = read_image(golden("pipelines/picture.png"));
  r.strength = 1;
  const GenerationResult result = sd1().generate(r);
  EXPECT_EQ(result.width, 96);
  EXPECT_EQ(result.height, 72);
  EXPECT_EQ(result.images[0].height, 72);
}

TEST(Pipeline, StrengthSaysHowManyStepsAreRun) {
  GenerationRequest r = small_request();
  r.steps = 10;
  r.init_image = read_image(golden("pipelines/picture.png"));
  for (const auto& [strength, steps] : {std::pair(1.0, 10), {0.75, 7}, {0.5, 5}, {0.1, 1}}) {
    r.strength = strength;
    EXPECT_EQ(sd1().generate(r).steps_run, steps);
  }
  r.strength = 0.05;
  EXPECT_EQ(error_of([&] { sd1().generate(r); }).kind(), ErrorKind::InvalidArgument);
}

TEST(Pipeline, BlendingKeepsWhatTheMaskLeavesOut) {
  GenerationRequest r = small_request();
  r.init_image = read_image(golden("pipelines/picture.png"));
  r.mask = make_image(48, 40, 1);
  for (int y = 0; y < 40; ++y)
    for (int x = 24; x < 48; ++x) *r.mask->pixel(y, x) = 255;
  r.strength = 1;
  const GenerationResult a = sd1().generate(r);
  r.prompt = "something else";
  r.sampler = "heun";
  const GenerationResult b = sd1().generate(r);
  const int64_t h = a.latents[0].dim(1), w = a.latents[0].dim(2), C = a.latents[0].dim(3);
  for (int64_t i = 0; i < h * w * C; ++i) {
    const float x = a.latents[0].data<float>()[i], y = b.latents[0].data<float>()[i];
    if (i / C % w < w / 2)
      ASSERT_EQ(x, y) << i;
    else
      ASSERT_NE(x, y) << i;
  }
}

TEST(Pipeline, MasksSuitTheModel) {
  GenerationRequest r = small_request();
  r.mask = make_image(8, 8, 1);
  EXPECT_THAT(error_of([&] { sd1().generate(r); }).what(), HasSubstr("input picture"));
  r.init_image = read_image(golden("pipelines/picture.png"));
  r.mask_form = MaskForm::Channels;
  EXPECT_EQ(error_of([&] { sd1().generate(r); }).kind(), ErrorKind::InvalidArgument);
  StableDiffusionPipeline inpainting(model("tiny-sd1-inpaint"));
  r.mask_form = MaskForm::Blend;
  EXPECT_EQ(error_of([&] { inpainting.generate(r); }).kind(), ErrorKind::InvalidArgument);
  // Without a picture everything is painted, as with a mask that is white all over.
  GenerationRequest text = small_request(), white = small_request();
  white.init_image = make_image(48, 40, 3);
  white.mask = make_image(48, 40, 1);
  for (uint8_t& pixel : white.mask->pixels) pixel = 255;
  white.strength = 1;
  EXPECT_EQ(inpainting.generate(text).images[0].pixels, inpainting.generate(white).images[0].pixels);
}

TEST(Pipeline, CanBeStoppedWithinAStepAndUsedAgain) {
  GenerationRequest r = small_request();
  const auto whole = latent(r);
  r.steps = 500;
  std::stop_source stop;
  r.stop = stop.get_token();
  int steps = 0;
  r.on_progress = [&](const Progress& p) {
    steps = p.step;
    if (p.step == 2) stop.request_stop();
  };
  EXPECT_EQ(error_of([&] { sd1().generate(r); }).kind(), ErrorKind::Cancelled);
  EXPECT_EQ(steps, 2);
  EXPECT_EQ(latent(small_request()), whole);
}

TEST(Pipeline, TellsHowFarItIs) {
  GenerationRequest r = small_request();
  r.batch_count = 2;
  r.steps = 4;
  r.preview_interval = 2;
  std::vector<Progress> seen;
  std::vector<int> previews;
  r.on_progress = [&](const Progress& p) { seen.push_back(p); };
  r.on_preview = [&](const Preview& p) {
    previews.push_back(p.step);
    EXPECT_EQ(p.picture.width, 24);
  };
  const GenerationResult result = sd1().generate(r);
  EXPECT_EQ(previews, (std::vector<int>{2, 4, 2, 4}));
  EXPECT_EQ(seen.front().stage, Stage::Text);
  EXPECT_EQ(seen.back().stage, Stage::Done);
  EXPECT_EQ(seen.back().image, 1);
  for (const Progress& p : seen) {
    EXPECT_EQ(p.images, 2);
    if (p.stage == Stage::Sample && p.step > 0) {
      EXPECT_GT(p.seconds_per_step, 0);
      EXPECT_GT(p.memory, 0u);
      const int left = 4 - p.step + (p.image == 0 ? 4 : 0);
      EXPECT_NEAR(p.seconds_left, left * p.seconds_per_step, 1e-9);
    }
  }
  EXPECT_EQ(result.timings.steps.size(), 8u);
  EXPECT_GT(result.timings.first_step, 0);
  EXPECT_GT(result.timings.total, result.timings.decode);
  EXPECT_GT(result.peak_tensor_bytes, 10000u);
}

TEST(Pipeline, NamesTheFieldThatIsWrong) {
  const auto message = [](const std::function<void(GenerationRequest&)>& change) {
    GenerationRequest r = small_request();
    change(r);
    const Error error = error_of([&] { sd1().generate(r); });
    EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument);
    return std::string(error.what());
  };
  static constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message([](auto& r) { r.width = 100; }), HasSubstr("width"));
  EXPECT_THAT(message([](auto& r) { r.height = -8; }), HasSubstr("height"));
  EXPECT_THAT(message([](auto& r) { r.height = 8200; }), HasSubstr("height"));
  EXPECT_THAT(message([](auto& r) { r.steps = 0; }), HasSubstr("steps"));
  EXPECT_THAT(message([](auto& r) { r.cfg_scale = kNan; }), HasSubstr("cfg_scale"));
  EXPECT_THAT(message([](auto& r) { r.guidance_rescale = 1.1; }), HasSubstr("guidance_rescale"));
  EXPECT_THAT(message([](auto& r) { r.batch_count = 0; }), HasSubstr("batch_count"));
  EXPECT_THAT(message([](auto& r) { r.strength = -0.1; }), HasSubstr("strength"));
  EXPECT_THAT(message([](auto& r) { r.eta = kNan; }), HasSubstr("eta"));
  EXPECT_THAT(message([](auto& r) { r.s_churn = -1; }), HasSubstr("s_churn"));
  EXPECT_THAT(message([](auto& r) { r.s_noise = kNan; }), HasSubstr("s_noise"));
  EXPECT_THAT(message([](auto& r) { r.variation_strength = 2; }), HasSubstr("variation_strength"));
  EXPECT_THAT(message([](auto& r) { r.clip_skip = 4; }), HasSubstr("clip skip"));
  EXPECT_THAT(message([](auto& r) { r.sampler = "eular"; }), HasSubstr("euler_a"));
  EXPECT_THAT(message([](auto& r) { r.scheduler = "karas"; }), HasSubstr("karras"));
}

TEST(Pipeline, NeverReturnsAPictureOfValuesThatAreNotFinite) {
  const TemporaryFolder folder;
  const auto broken = [&](const std::function<TensorMap&(CheckpointParts&)>& part, const std::string& name) {
    CheckpointParts parts = load_diffusers_folder(model("tiny-sd1"));
    Tensor& tensor = part(parts).at(name);
    Tensor copy = Tensor::empty(tensor.shape(), tensor.dtype());
    std::memcpy(copy.raw(), tensor.raw(), tensor.bytes());
    copy.data<Half>()[0] = {0x7e00};
    tensor = copy;
    write_safetensors(folder / "broken.safetensors", join_checkpoint(parts));
    StableDiffusionPipeline pipeline(folder / "broken.safetensors");
    const Error error = error_of([&] { pipeline.generate(small_request()); });
    EXPECT_EQ(error.kind(), ErrorKind::Backend);
    return std::string(error.what());
  };
  EXPECT_THAT(broken([](auto& p) -> TensorMap& { return p.unet.tensors; }, "conv_in.bias"),
              HasSubstr("step 1"));
  EXPECT_THAT(broken([](auto& p) -> TensorMap& { return p.vae.tensors; }, "decoder.conv_out.bias"),
              HasSubstr("autoencoder"));
  EXPECT_THAT(broken([](auto& p) -> TensorMap& { return p.text_encoders[0].tensors; },
                     "text_model.final_layer_norm.bias"),
              HasSubstr("text encoder"));
}

TEST(Pipeline, EverySamplerAndScheduleGoesThrough) {
  GenerationRequest r = small_request();
  r.width = r.height = 16;
  r.steps = 4;
  for (const SamplerInfo& sampler : samplers()) {
    r.sampler = sampler.name;
    r.scheduler = "";
    EXPECT_EQ(sd1().generate(r).sampler, sampler.name);
  }
  r.sampler = "dpm++2m";
  for (const SigmaScheduleInfo& schedule : sigma_schedules()) {
    r.scheduler = schedule.name;
    EXPECT_EQ(sd1().generate(r).scheduler, schedule.name);
  }
}

// A model with a first stage that quantises, of 3 channels and a quarter of the size, in both layouts.
TEST(Pipeline, PaintsWithACodebook) {
  const TemporaryFolder temporary;
  CheckpointParts parts = load_diffusers_folder(model("tiny-sd1"));
  parts.unet.config.in_channels = parts.unet.config.out_channels = 3;
  parts.unet.tensors = fresh_tensors<UNet>(parts.unet.config, 1);
  parts.vae.config = autoencoder_config("vq-f4");
  parts.vae.config.channels = {32, 32, 32};
  parts.vae.config.layers_per_block = 1;
  parts.vae.config.codebook->entries = 70;
  parts.vae.tensors = fresh_tensors<Autoencoder>(parts.vae.config, 2);
  save_diffusers_folder(temporary / "folder", parts);
  write_safetensors(temporary / "file.safetensors", join_checkpoint(parts));
  StableDiffusionPipeline pipeline(temporary / "folder"), other(temporary / "file.safetensors");

  GenerationRequest r = small_request();
  const GenerationResult result = pipeline.generate(r);
  ASSERT_EQ(result.latents[0].shape(), (Shape{1, 10, 12, 3}));
  EXPECT_EQ(other.generate(r).images[0].pixels, result.images[0].pixels);
  const auto networks = StableDiffusion::load(temporary / "folder");
  const Autoencoder& autoencoder = networks.vae();
  const Tensor z = autoencoder.from_diffusion(result.latents[0]);
  EXPECT_EQ(tensor_to_images(autoencoder.decode(z)).front().pixels, result.images[0].pixels);

  r.init_image = result.images[0];
  r.strength = 0.7;
  for (const VaeTiling tiling : {VaeTiling::Off, VaeTiling::On}) {
    r.vae_tiling = tiling;
    EXPECT_NE(pipeline.generate(r).images[0].pixels, result.images[0].pixels);
  }
  r.max_memory = size_t{1} << 30;
  r.vae_tiling = VaeTiling::Auto;
  EXPECT_EQ(pipeline.generate(r).latents[0].shape(), (Shape{1, 10, 12, 3}));
}

TEST(Pipeline, APredictionCanBeAskedFor) {
  LoadOptions options;
  options.prediction = "v_prediction";
  StableDiffusionPipeline pipeline(model("tiny-sd1"), options);
  EXPECT_NE(pipeline.generate(small_request()).images[0].pixels,
            sd1().generate(small_request()).images[0].pixels);
}

}  // namespace
}  // namespace sinopia::testing
