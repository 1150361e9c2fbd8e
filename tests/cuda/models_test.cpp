#include "sinopia/backend/recorded_call.h"
#include "sinopia/models/clip/clip_text.h"
#include "sinopia/models/taesd/keys.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/nn/placement.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/tensor/allocator.h"
#include "tests/cuda/on_gpu.h"
#include "tests/cuda/perturbed.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

using namespace testing;

// Whole networks on the GPU against the references' values, as the CPU's tests in tests/models.
class ModelsOnGpu : public OnGpu {
 protected:
  template <class Model, class Config>
  Model build(const Golden& golden, const Config& config, DType dtype) const {
    CheckpointParameters parameters(golden.weights(), "golden");
    PlacedParameters placed(parameters, {device(), dtype});
    Model model(Scope(placed), config);
    parameters.finish();
    return model;
  }

  // In f32 what the CPU keeps to. In halves a network rounds weights and what lies between layers; the errors
  // of its some 30 layers in a row add up like random steps, and each layer's own is of a few roundings.
  static double tolerance(DType dtype) {
    return dtype == DType::F32 ? kGoldenTolerance : 2 * std::sqrt(30.0) * epsilon_of(dtype);
  }

  static void expect_near(const Tensor& got, const Tensor& want, DType dtype, const std::string& what) {
    expect_near(got, want, dtype, what, tolerance(dtype));
  }
  static void expect_near(const Tensor& got, const Tensor& want, DType dtype, const std::string& what,
                          double tolerance) {
    EXPECT_TRUE(got.device().is_cpu()) << what;
    EXPECT_EQ(got.dtype(), DType::F32) << what;
    const double error = relative_error(got, want);
    RecordProperty(what + "_" + to_string(dtype), fmt::format("{:.1e}", error));
    EXPECT_LE(error, tolerance) << what << " in " << to_string(dtype);
  }
};

UNetConditions conditions_of(const Golden& golden) {
  UNetConditions conditions;
  if (golden.has("labels")) conditions.class_labels = golden.in("labels");
  if (golden.has("time_condition")) conditions.time_condition = golden.in("time_condition");
  if (golden.has("pooled")) conditions.text_embeds = golden.in("pooled");
  if (golden.has("time_ids")) conditions.time_ids = golden.in("time_ids");
  return conditions;
}

TEST_F(ModelsOnGpu, UNetsAreDiffusers) {
  for (const std::string name : {"unet_sd1", "unet_sd2", "unet_inpaint", "unet_x4", "unet_sdxl",
                                 "unet_refiner", "unet_lcm", "unet_plain"}) {
    const Golden golden(name);
    const UNetConfig config = unet_config_from_json(golden.config());
    const auto run = [&](const UNet& unet) {
      const UNetContext context = unet.prepare(golden.has("text") ? golden.in("text") : Tensor());
      return unet.forward(golden.in("sample"), golden.in("t"), context, conditions_of(golden));
    };
    const auto error_on_cpu = [&](TensorMap weights) {
      CheckpointParameters parameters(std::move(weights), "perturbed");
      return relative_error(run(UNet(Scope(parameters), config)), golden.out("sample"));
    };
    for (const DType dtype : kFloats) {
      const double bound =
          dtype == DType::F32 ? kGoldenTolerance : rounding_tolerance(golden.weights(), dtype, error_on_cpu);
      expect_near(run(build<UNet>(golden, config, dtype)), golden.out("sample"), dtype, name, bound);
    }
  }
}

TEST_F(ModelsOnGpu, TextEncodersAreTransformers) {
  for (const std::string name : {"clip_l", "clip_h", "clip_g"}) {
    const Golden golden(name);
    for (const DType dtype : kFloats) {
      const auto model = build<ClipTextModel>(golden, clip_text_config_from_json(golden.config()), dtype);
      const ClipTextOutput got = model.forward(golden.in("ids"), {.pooled = true});
      expect_near(got.hidden, golden.out("hidden"), dtype, name + "_hidden");
      expect_near(got.pooled, golden.out("pooled"), dtype, name + "_pooled");
    }
  }
  const Golden golden("clip_l_extra");
  for (const DType dtype : kFloats) {
    const auto model = build<ClipTextModel>(golden, clip_text_config_from_json(golden.config()), dtype);
    expect_near(model.forward(golden.in("ids"), {.extra_embeddings = golden.in("extra")}).hidden,
                golden.out("hidden"), dtype, "clip_l_extra");
  }
}

TEST_F(ModelsOnGpu, AutoencodersAreDiffusers) {
  for (const std::string name : {"vae", "vae_no_quant", "vae_attention"}) {
    const Golden golden(name);
    for (const DType dtype : kFloats) {
      const auto vae = build<Autoencoder>(golden, autoencoder_config_from_json(golden.config()), dtype);
      expect_near(vae.encode(golden.in("picture")).mean, golden.out("mean"), dtype, name + "_mean");
      expect_near(vae.decode(golden.in("z")), golden.out("decoded"), dtype, name + "_decoded");
    }
  }
  // A code next to a border may fall on its other side in halves.
  const Golden golden("vq");
  const auto vae = build<Autoencoder>(golden, autoencoder_config_from_json(golden.config()), DType::F32);
  expect_near(vae.encode(golden.in("picture")).mean, golden.out("latents"), DType::F32, "vq_latents");
  expect_near(vae.decode(golden.in("z")), golden.out("decoded"), DType::F32, "vq_decoded");
  expect_near(vae.decode_codes(copy_to(vae.codebook()->nearest(copy_to(golden.in("z"), device())), Device{})),
              golden.out("decoded"), DType::F32, "vq_codes");
}

TEST_F(ModelsOnGpu, TinyDecoderIsDiffusers) {
  const Golden golden("taesd");
  const TensorMap tensors = tiny_decoder_tensors(golden.weights());
  for (const DType dtype : kFloats) {
    CheckpointParameters parameters(tensors, "golden");
    PlacedParameters placed(parameters, {device(), dtype});
    const TinyDecoder decoder(Scope(placed), tiny_decoder_config_from_json(golden.config()));
    expect_near(decoder.decode(golden.in("z")), golden.out("decoded"), dtype, "taesd");
  }
}

// The third call is replayed; inputs of another size start anew.
TEST_F(ModelsOnGpu, RecordedCallsGiveTheSameBits) {
  const Golden golden("unet_sd1");
  for (const DType dtype : {DType::F32, DType::F16}) {
    const auto unet = build<UNet>(golden, unet_config_from_json(golden.config()), dtype);
    const UNetContext context = unet.prepare(golden.in("text"));
    RecordedCall call;
    for (int i = 0; i < 5; ++i) {
      const Tensor x = golden.in("sample") * (1.0 + 0.25 * i), t = golden.in("t") * (1.0 / (i + 1));
      const Tensor want = unet.forward(x, t, context);
      EXPECT_TRUE(same_bits(unet.forward(x, t, context, {}, {.recorded = &call}), want)) << i;
      EXPECT_EQ(call.replayed(), i >= 2) << i;
    }
    const Tensor smaller = narrow(golden.in("sample"), 1, 0, golden.in("sample").dim(1) - 1);
    EXPECT_TRUE(same_bits(unet.forward(smaller, golden.in("t"), context, {}, {.recorded = &call}),
                          unet.forward(smaller, golden.in("t"), context)));
  }
}

}  // namespace
}  // namespace sinopia
