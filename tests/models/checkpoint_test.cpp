#include <filesystem>

#include "sinopia/io/checkpoint_file.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/recognise.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/checkpoint/variants.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/models/unet/keys.h"
#include "sinopia/models/vae/keys.h"
#include "sinopia/ops/shape.h"
#include "tests/models/golden.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

using testing::TemporaryFolder;

/// The same names, shapes, dtypes and bytes.
void expect_same(const TensorMap& got, const TensorMap& want, const std::string& what) {
  EXPECT_EQ(got.size(), want.size()) << what;
  for (const auto& [key, x] : want) {
    const auto found = got.find(key);
    ASSERT_TRUE(found != got.end()) << what << ": " << key;
    ASSERT_EQ(describe(found->second), describe(x)) << what << ": " << key;
    EXPECT_EQ(std::memcmp(found->second.raw(), x.raw(), x.bytes()), 0) << what << ": " << key;
  }
}

void expect_same_parts(const CheckpointParts& got, const CheckpointParts& want) {
  EXPECT_EQ(got.variant, want.variant);
  EXPECT_EQ(got.unet.config, want.unet.config);
  EXPECT_EQ(got.vae.config, want.vae.config);
  EXPECT_EQ(got.schedule, want.schedule);
  expect_same(got.unet.tensors, want.unet.tensors, "unet");
  expect_same(got.vae.tensors, want.vae.tensors, "vae");
  ASSERT_EQ(got.text_encoders.size(), want.text_encoders.size());
  for (size_t i = 0; i < got.text_encoders.size(); ++i) {
    EXPECT_EQ(got.text_encoders[i].config, want.text_encoders[i].config);
    EXPECT_EQ(got.text_encoders[i].padding_id, want.text_encoders[i].padding_id);
    expect_same(got.text_encoders[i].tensors, want.text_encoders[i].tensors, "text encoder");
  }
}

TensorFile single(const std::string& name) { return read_safetensors(golden_path(name + ".safetensors")); }
CheckpointParts folder(const std::string& name) { return load_diffusers_folder(golden_path(name)); }

TEST(Checkpoint, SingleFileAndFolderAreTheSameModel) {
  for (const std::string name : {"tiny-sd1", "tiny-sd2", "tiny-sd1-inpaint"}) {
    const CheckpointParts one = split_checkpoint(single(name)), many = folder(name);
    EXPECT_EQ(one.variant, many.variant);
    EXPECT_EQ(one.schedule.prediction, many.schedule.prediction) << name;
    expect_same(one.unet.tensors, many.unet.tensors, name + " unet");
    if (!one.vae.tensors.empty()) expect_same(one.vae.tensors, many.vae.tensors, name + " vae");
    UNetConfig a = one.unet.config, b = many.unet.config;
    a.sample_size = b.sample_size = 0;        // 64 and 96 in the real ones
    a.upcast_attention = b.upcast_attention;  // says nothing about the network
    EXPECT_EQ(a, b) << name;
    ASSERT_EQ(one.text_encoders.size(), 1u);
    EXPECT_EQ(one.text_encoders[0].config.activation, many.text_encoders[0].config.activation);
    const int64_t layers = one.text_encoders[0].config.layers - one.text_encoders[0].config.skip_layers;
    EXPECT_EQ(layers, many.text_encoders[0].config.layers);
    for (const auto& [key, x] : many.text_encoders[0].tensors) {
      ASSERT_TRUE(one.text_encoders[0].tensors.contains(key)) << key;
      const Tensor& got = one.text_encoders[0].tensors.at(key);
      EXPECT_EQ(std::memcmp(got.raw(), x.raw(), got.bytes()), 0) << key;
    }
  }
}

TEST(Checkpoint, DropsTheBuffersOfTrainingAndNothingElse) {
  const CheckpointParts parts = split_checkpoint(single("tiny-sd1"));
  EXPECT_EQ(parts.dropped.size(), 5u);
  TensorFile file = single("tiny-sd1");
  file.tensors["model.diffusion_model.input_blocks.0.1.weight"] = file.tensors.begin()->second;
  EXPECT_THROW(split_checkpoint(file), Error);
  file = single("tiny-sd1");
  file.tensors["something.else"] = file.tensors.begin()->second;
  try {
    split_checkpoint(file);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("'something.else'"));
  }
}

TEST(Checkpoint, RoundTripsThroughASingleFileAreExact) {
  const TemporaryFolder temporary;
  for (const std::string name : {"tiny-sd1", "tiny-sd2", "tiny-sd1-inpaint"}) {
    const TensorFile original = single(name);
    const CheckpointParts parts = split_checkpoint(original);
    write_safetensors(temporary / "joined.safetensors", join_checkpoint(parts));
    const TensorFile joined = read_safetensors(temporary / "joined.safetensors");
    expect_same_parts(split_checkpoint(joined), parts);
    TensorMap kept = original.tensors;
    for (const std::string& key : parts.dropped) kept.erase(key);
    kept.erase("cond_stage_model.model.logit_scale");
    expect_same(joined.tensors, kept, name);
  }
}

TEST(Checkpoint, RoundTripsThroughAFolderAreExact) {
  const TemporaryFolder temporary;
  for (const std::string name : {"tiny-sd1", "tiny-sd2", "tiny-sd1-inpaint"}) {
    const CheckpointParts parts = folder(name);
    save_diffusers_folder(temporary / name, parts);
    expect_same_parts(load_diffusers_folder(temporary / name), parts);
    // By way of a single file: no layer that is read is lost or invented.
    CheckpointParts there = split_checkpoint(join_checkpoint(parts));
    save_diffusers_folder(temporary / (name + "-back"), there);
    const CheckpointParts back = load_diffusers_folder(temporary / (name + "-back"));
    expect_same(back.unet.tensors, parts.unet.tensors, name);
    expect_same(back.vae.tensors, parts.vae.tensors, name);
    expect_same(back.text_encoders[0].tensors, parts.text_encoders[0].tensors, name);
    EXPECT_EQ(back.text_encoders[0].config.layers, parts.text_encoders[0].config.layers);
  }
}

TEST(Checkpoint, ConvertsDtypes) {
  CheckpointParts parts = split_checkpoint(single("tiny-sd1"));
  const Tensor before = parts.unet.tensors.at("conv_in.weight");
  convert_dtype(parts, DType::F32);
  EXPECT_EQ(count_parameters(parts.unet.tensors).by_dtype.count(DType::F16), 0u);
  convert_dtype(parts, DType::F16);
  const Tensor after = parts.unet.tensors.at("conv_in.weight");
  EXPECT_EQ(std::memcmp(before.raw(), after.raw(), before.bytes()), 0);
}

TEST(Checkpoint, QuantisesTheMatricesThatStableDiffusionCppDoes) {
  TensorFile file = to_gguf(join_checkpoint(folder("tiny-sd1")));
  EXPECT_FALSE(file.tensors.contains("cond_stage_model.transformer.text_model.embeddings.position_ids"));
  const TensorFile before = file;
  quantise_matrices(file, DType::Q8_0);
  const std::string text = "cond_stage_model.transformer.text_model.", unet = "model.diffusion_model.";
  const std::pair<std::string, const char*> types[] = {
      {text + "embeddings.token_embedding.weight", "f16"},
      {text + "embeddings.position_embedding.weight", "f16"},
      {text + "encoder.layers.0.mlp.fc1.weight", "f16"},  // rows of 8
      {text + "encoder.layers.0.mlp.fc2.weight", "q8_0"},
      {unet + "time_embed.0.weight", "f16"},
      {unet + "input_blocks.0.0.weight", "f16"},
      {unet + "input_blocks.1.0.emb_layers.1.weight", "q8_0"},
      {unet + "input_blocks.1.1.proj_in.weight", "f16"},
      {unet + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", "q8_0"}};
  for (const auto& [name, type] : types) {
    ASSERT_TRUE(file.tensors.contains(name)) << name;
    EXPECT_STREQ(to_string(file.tensors.at(name).dtype()), type) << name;
  }
  for (const auto& [name, x] : file.tensors) {
    EXPECT_EQ(x.shape(), before.tensors.at(name).shape());
    EXPECT_TRUE(x.rank() > 1 || x.dtype() == before.tensors.at(name).dtype()) << name;
  }
  // The model that reads it is the one that would be built from the widened weights.
  CheckpointParts parts = split_checkpoint(file), wide = parts;
  EXPECT_EQ(parts.variant, "sd1");
  convert_dtype(wide, DType::F32);
  for (const auto& [name, x] : wide.unet.tensors) EXPECT_EQ(x.dtype(), DType::F32) << name;
}

TEST(Checkpoint, PredictionComesFromTheFamilyTheMarkersOrTheMetadata) {
  TensorFile file = single("tiny-sd2");
  EXPECT_EQ(split_checkpoint(file).schedule.prediction, "v_prediction");
  file.metadata["modelspec.prediction_type"] = "epsilon";
  const CheckpointParts parts = split_checkpoint(file);
  EXPECT_EQ(parts.schedule.prediction, "epsilon");
  EXPECT_EQ(split_checkpoint(join_checkpoint(parts)).schedule.prediction, "epsilon");
  file = single("tiny-sd1");
  file.tensors["v_pred"] = Tensor::empty({0});
  file.tensors["ztsnr"] = Tensor::empty({0});
  EXPECT_EQ(split_checkpoint(file).schedule.prediction, "v_prediction");
  EXPECT_TRUE(split_checkpoint(file).schedule.zero_terminal_snr);
}

TEST(Checkpoint, BuildsAndRunsEveryTinyModel) {
  for (const std::string name : {"tiny-sd1", "tiny-sd2", "tiny-sd1-inpaint"}) {
    const std::string vae = name == "tiny-sd1-inpaint" ? golden_path("tiny-sd1/vae") : "";
    const auto one = StableDiffusion::load(golden_path(name + ".safetensors"), {.vae = vae});
    const auto many = StableDiffusion::load(golden_path(name));
    const Tensor ids = Tensor::from(Shape{1, 4}, std::vector<int32_t>{3, 80, 401, 511});
    const Tensor text = one.text_encoders()[0].model.forward(ids).hidden;
    EXPECT_EQ(relative_error(many.text_encoders()[0].model.forward(ids).hidden, text), 0) << name;
    const Tensor x = full({1, 6, 5, one.unet().config().in_channels}, 0.3f), t = full({1}, 301.0f);
    const Tensor a = one.unet().forward(x, t, text), b = many.unet().forward(x, t, text);
    EXPECT_EQ(relative_error(a, b), 0) << name;
    EXPECT_EQ(one.vae().decode(a).shape(), (Shape{1, 12, 10, 3}));
  }
}

TEST(Checkpoint, LoadOptionsOverrideTheFile) {
  EXPECT_THROW(StableDiffusion::load(golden_path("tiny-sd1-inpaint.safetensors")), Error);  // no autoencoder
  const auto model = StableDiffusion::load(golden_path("tiny-sd2"), {.prediction = "epsilon"});
  EXPECT_EQ(model.schedule().prediction, "epsilon");
  EXPECT_EQ(model.text_encoders()[0].padding_id, 49407);  // as its tokenizer's configuration says
  EXPECT_THROW(StableDiffusion::load(golden_path("tiny-sd2"), {.prediction = "v"}), Error);
  EXPECT_THROW(StableDiffusion::load(golden_path("tiny-sd2/unet/diffusion_pytorch_model.safetensors")),
               Error);
  EXPECT_THROW(StableDiffusion::load(golden_path("no-such-model")), Error);
}

TEST(Checkpoint, RefusesFilesWithMissingParts) {
  TensorFile file = single("tiny-sd1");
  file.tensors.erase("model.diffusion_model.middle_block.1.proj_in.bias");
  EXPECT_THROW(StableDiffusion::build(split_checkpoint(file)), Error);
  file = single("tiny-sd1");
  file.tensors.erase("model.diffusion_model.out.2.weight");
  EXPECT_THROW(split_checkpoint(file), Error);
}

/// Tensors of the right names and shapes, without values, in the original layout: the real sizes.
TensorMap hollow_unet(const UNetConfig& config) {
  ParameterShapes shapes;
  const UNet unet(Scope(shapes), config);
  const NameMap names = unet_names(config);
  TensorMap result;
  for (const auto& [key, shape] : shapes.shapes()) {
    const bool small = !config.use_linear_projection && shape.rank() == 2 &&
                       key.find(".proj_") != std::string::npos && key.find("ff.net") == std::string::npos;
    const Shape file = small ? Shape{shape[0], shape[1], 1, 1} : shape;
    const std::optional<std::string> original = names.to_original(key);
    EXPECT_TRUE(original) << key;
    // One page for all: only shapes are looked at.
    static const auto storage = Storage::allocate(size_t{1} << 28, {});
    result["model.diffusion_model." + original.value_or(key)] = Tensor(file, DType::F16, storage);
  }
  return result;
}

TEST(Recognise, ReadsTheRealConfigurationsFromShapesAlone) {
  for (std::string_view name : unet_config_names()) {
    if (name == "ldm-text2img-large") continue;  // a Stable Diffusion 1 but for its text's width
    const UNetConfig& want = unet_config(name);
    const TensorMap tensors = hollow_unet(want);
    const Recognition known = recognise(tensors);
    EXPECT_EQ(known.kind, ModelKind::UNet);
    EXPECT_EQ(known.variant, name) << known.description;
    EXPECT_TRUE(known.supported);
    UNetConfig got = split_checkpoint({tensors, {}}).unet.config;
    got.sample_size = want.sample_size;
    for (size_t i = 0; i < want.channels.size(); ++i) {
      // What a level without attention would have is nowhere to be read.
      if (want.attention[i] != UNetAttention::None) continue;
      got.only_cross_attention[i] = want.only_cross_attention[i];
      if (i + 1 < want.channels.size()) got.transformer_layers[i] = want.transformer_layers[i];
    }
    EXPECT_EQ(got, want) << name;
  }
}

TEST(Recognise, KnowsFilesByTheirKeys) {
  const Tensor x = full({2, 768}, 1), w = full({1, 1}, 1);
  const auto kind = [](const TensorMap& tensors) { return recognise(tensors).kind; };
  EXPECT_EQ(kind({{"lora_unet_down_blocks_0.lora_down.weight", w}}), ModelKind::Lora);
  EXPECT_EQ(kind({{"unet.down_blocks.0.to_q.lora_A.weight", w}}), ModelKind::Lora);
  EXPECT_EQ(kind({{"emb_params", x}}), ModelKind::TextualInversion);
  EXPECT_EQ(kind({{"<cat>", x}}), ModelKind::TextualInversion);
  EXPECT_EQ(kind({{"clip_g", x}, {"clip_l", x}}), ModelKind::TextualInversion);
  EXPECT_EQ(kind({{"control_model.time_embed.0.weight", w}}), ModelKind::ControlNet);
  EXPECT_EQ(kind({{"whatever", w}}), ModelKind::Other);
  EXPECT_EQ(kind({}), ModelKind::Other);
  EXPECT_THAT(recognise({{"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", w}}).description,
              ::testing::HasSubstr("Stable Diffusion 3"));
  EXPECT_EQ(recognise(single("tiny-sd1").tensors).description, "Stable Diffusion 1");
  EXPECT_EQ(recognise(single("tiny-sd2").tensors).variant, "sd2");
  EXPECT_EQ(kind(read_component(golden_path("tiny-sd1/vae")).tensors), ModelKind::Autoencoder);
  EXPECT_EQ(kind(read_component(golden_path("tiny-sd1/unet")).tensors), ModelKind::UNet);
  EXPECT_EQ(kind(read_component(golden_path("tiny-sd1/text_encoder")).tensors), ModelKind::TextEncoder);
}

// As latent-diffusion saves a first stage while it trains one.
TEST(Checkpoint, ReadsAFirstStageWithACodebook) {
  const TemporaryFolder temporary;
  const Golden golden("vq");
  const AutoencoderConfig config = autoencoder_config_from_json(golden.config());
  TensorFile file{autoencoder_to_original(golden.weights(), config), {}};
  file.tensors["loss.discriminator.main.0.bias"] = full({64}, 0);
  file.tensors["model_ema.decay"] = full({1}, 0);
  EXPECT_EQ(recognise(file.tensors).kind, ModelKind::Autoencoder);
  EXPECT_EQ(recognise(file.tensors).description, "autoencoder (VQ) alone");
  write_safetensors(temporary / "first_stage.safetensors", file);
  const AutoencoderPart part = read_autoencoder_part(temporary / "first_stage.safetensors");
  expect_same(part.tensors, golden.weights(), "vq");
  EXPECT_EQ(part.config.codebook, config.codebook);
  EXPECT_EQ(part.config.latent_channels, 5);
  EXPECT_EQ(part.config.scaling_factor, 1);
  file.tensors["quantize.embed_avg"] = full({5}, 0);  // of a table that averages, which this is not
  EXPECT_THROW(split_checkpoint(file), Error);
}

TEST(Checkpoint, AQuantisedFileKeepsItsCodebook) {
  AutoencoderConfig config = autoencoder_config("vq-f4");
  CheckpointParts parts = folder("tiny-sd1");
  RandomParameters random(1);
  config.latent_channels = config.codebook->encoder_channels = 32;
  config.channels = {32};
  Autoencoder(Scope(random), config);
  parts.vae = {random.taken(), config};
  TensorFile file = to_gguf(join_checkpoint(parts));
  quantise_matrices(file, DType::Q8_0);
  EXPECT_EQ(file.tensors.at("first_stage_model.quantize.embedding.weight").dtype(), DType::F16);
}

TEST(Recognise, NamesWhatItCannotRun) {
  UNetConfig depth = unet_config("sd2");
  depth.in_channels = 5;
  EXPECT_THAT(recognise(hollow_unet(depth)).description, ::testing::HasSubstr("depth"));
  EXPECT_FALSE(recognise(hollow_unet(depth)).supported);
  UNetConfig strange = unet_config("sd1");
  strange.in_channels = 6;
  EXPECT_THAT(recognise(hollow_unet(strange)).description, ::testing::HasSubstr("6 input channels"));
  EXPECT_THROW(split_checkpoint({{{"joint_blocks.0.x", full({1}, 0)}}, {}}), Error);
}

TEST(Recognise, CountsParameters) {
  const ParameterCount count = count_parameters(folder("tiny-sd1").unet.tensors);
  EXPECT_EQ(count.bytes, static_cast<uint64_t>(2 * count.parameters));
  EXPECT_EQ(count.by_dtype.at(DType::F16), count.parameters);
  EXPECT_GT(count.tensors, 100);
}

TEST(Variants, AreToldApartByShapeAlone) {
  for (const Variant& a : variants()) {
    for (const Variant& b : variants()) {
      const bool same = a.linear_projection == b.linear_projection &&
                        a.class_embedding == b.class_embedding && a.first == b.first && a.last == b.last &&
                        a.in_channels == b.in_channels;
      EXPECT_EQ(same, &a == &b) << a.name << " and " << b.name;
    }
  }
  EXPECT_THROW(variant_named("sd9"), Error);
}

}  // namespace
}  // namespace sinopia
