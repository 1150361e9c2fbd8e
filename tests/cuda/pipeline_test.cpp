#include "sinopia/backend/parameter_store.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"
#include "tests/cuda/on_gpu.h"
#include "tests/pipelines/models.h"

namespace sinopia::testing {
namespace {

class PipelineOnGpu : public OnGpu {
 protected:
  StableDiffusionPipeline pipeline(DType dtype, const std::filesystem::path& path = model("tiny-sd1")) const {
    return StableDiffusionPipeline(
        path, {.taesd = model("tiny-taesd.safetensors"), .placement = {device(), dtype}});
  }
  static StableDiffusionPipeline on_cpu(const std::filesystem::path& path = model("tiny-sd1")) {
    return StableDiffusionPipeline(path, {.taesd = model("tiny-taesd.safetensors")});
  }

  static GenerationRequest request() {
    GenerationRequest r;
    r.prompt = "a (red:1.2) fox";
    r.negative_prompt = "blurry";
    r.width = 40, r.height = 32;
    r.steps = 4;
    r.sampler = "euler";
    r.seed = 11;
    r.keep_latents = true;
    return r;
  }

  static double latent_error(const GenerationResult& got, const GenerationResult& want) {
    const std::vector<double> a = doubles(got.latents.at(0)), b = doubles(want.latents.at(0));
    double worst = 0, largest = 0;
    for (size_t i = 0; i < b.size(); ++i) {
      worst = std::max(worst, std::abs(a[i] - b[i]));
      largest = std::max(largest, std::abs(b[i]));
    }
    return worst / largest;
  }

  /// The share of bytes that are off by more than one.
  static double pixels_off(const GenerationResult& got, const GenerationResult& want) {
    const auto &a = got.images.at(0).pixels, &b = want.images.at(0).pixels;
    EXPECT_EQ(a.size(), b.size());
    size_t off = 0;
    for (size_t i = 0; i < b.size(); ++i) off += std::abs(int{a[i]} - int{b[i]}) > 1;
    return static_cast<double>(off) / static_cast<double>(b.size());
  }

  // As of the CPU's own tests against diffusers.
  static void expect_same_picture(const GenerationResult& got, const GenerationResult& want) {
    EXPECT_LE(latent_error(got, want), 3e-5);
    EXPECT_LE(pixels_off(got, want), 0.001);
  }
};

TEST_F(PipelineOnGpu, PaintsThePictureOfTheCpu) {
  StableDiffusionPipeline here = on_cpu(), there = pipeline(DType::F32);
  GenerationRequest r = request();
  GenerationResult got = there.generate(r);
  expect_same_picture(got, here.generate(r));
  EXPECT_GT(got.peak_device_bytes, 0u);

  r.init_image = read_image(golden("pipelines/picture.png"));
  r.strength = 0.8;
  expect_same_picture(there.generate(r), here.generate(r));
  r.mask = read_image(golden("pipelines/mask.png"));
  expect_same_picture(there.generate(r), here.generate(r));

  r = request();
  r.savings.deep_cache.interval = 2;
  r.savings.token_merging = 0.5;
  r.savings.tiny_decoder = true;
  r.vae_tiling = VaeTiling::On;
  expect_same_picture(there.generate(r), here.generate(r));
}

// In halves a picture is another one in its details; on these 4 steps of small networks by some per cent.
TEST_F(PipelineOnGpu, PaintsInHalves) {
  const GenerationResult want = on_cpu().generate(request());
  const GenerationResult in_f16 = pipeline(DType::F16).generate(request());
  const GenerationResult in_bf16 = pipeline(DType::BF16).generate(request());
  const double f16 = latent_error(in_f16, want), bf16 = latent_error(in_bf16, want);
  RecordProperty("f16", std::to_string(f16));
  RecordProperty("bf16", std::to_string(bf16));
  EXPECT_LE(f16, 0.02);
  EXPECT_LE(bf16, 0.16);
  EXPECT_GT(bf16, f16);
}

TEST_F(PipelineOnGpu, StaysBelowTheMemoryThatItMayHave) {
  StableDiffusionPipeline there = pipeline(DType::F16);
  GenerationRequest r = request();
  const GenerationResult whole = there.generate(r);
  r.max_memory = whole.peak_device_bytes - parameter_stats(device()).bytes / 2;
  const GenerationResult below = there.generate(r);
  EXPECT_LE(below.peak_device_bytes, r.max_memory);
  EXPECT_EQ(latent_error(below, whole), 0);
  r.max_memory = 1 << 16;
  EXPECT_EQ(kind_of([&] { there.generate(r); }), ErrorKind::OutOfMemory);
  r.max_memory = 0;
  EXPECT_EQ(latent_error(there.generate(r), whole), 0);  // an error leaves nothing behind
}

// Numbers between the decoder's layers that f16 does not have: the picture is decoded in f32, and is the
// same.
TEST_F(PipelineOnGpu, DecodesInF32WhereF16DoesNotReach) {
  const TemporaryFolder folder;
  CheckpointParts parts = load_diffusers_folder(model("tiny-sd1"));
  for (const char* name : {"decoder.conv_in.weight", "decoder.conv_in.bias"}) {
    Tensor& weight = parts.vae.tensors.at(name);
    weight = to_dtype(weight, DType::F32) * 3e6;
  }
  save_diffusers_folder(folder / "loud", parts);
  GenerationRequest r = request();
  const GenerationResult want = on_cpu(folder / "loud").generate(r);
  const GenerationResult got = pipeline(DType::F16, folder / "loud").generate(r);
  EXPECT_LE(latent_error(got, want), 0.02);
  EXPECT_LE(pixels_off(got, want), 0.5);
  const StableDiffusion networks =
      StableDiffusion::load(folder / "loud", {.placement = {device(), DType::F16}});
  const Tensor z = want.latents.at(0);
  EXPECT_FALSE(kernels({}).all_finite(networks.vae().decode(z)));
  ASSERT_TRUE(networks.precise_vae());
  EXPECT_TRUE(kernels({}).all_finite(networks.precise_vae()->decode(z)));
  EXPECT_FALSE(StableDiffusion::load(folder / "loud", {.placement = {device(), DType::BF16}}).precise_vae());
}

}  // namespace
}  // namespace sinopia::testing
