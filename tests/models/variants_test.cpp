#include "sinopia/models/checkpoint/variants.h"

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/recognise.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/ops/shape.h"
#include "tests/kind_of.h"
#include "tests/models/golden.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

/// A small random model of a variant, as a trainer would have it; with a codebook of 3 channels, or with
/// latents of 4 that have a distribution.
CheckpointParts random_parts(const Variant& variant, bool codebook = false) {
  CheckpointParts parts;
  parts.family = variant.family;
  parts.variant = variant.name;
  parts.description = variant.title;
  parts.schedule = variant.schedule;
  const bool deep = variant.first == UNetAttention::None && variant.last == UNetAttention::None;

  UNetConfig& u = parts.unet.config;
  if (codebook) u.out_channels = 3;
  u.in_channels = unet_in_channels(variant, u.out_channels);
  u.channels = deep ? std::vector<int64_t>{32, 64, 64} : std::vector<int64_t>{32, 64};
  u.attention = deep ? std::vector{UNetAttention::None, UNetAttention::Cross, UNetAttention::None}
                     : std::vector{variant.first, variant.last};
  const size_t levels = u.channels.size();
  u.layers.assign(levels, 1);
  u.heads.assign(levels, 1);
  u.transformer_layers.assign(levels, 1);
  u.only_cross_attention.assign(levels, false);
  u.cross_attention_dim = 16;
  u.use_linear_projection = variant.linear_projection;
  u.class_embedding = variant.class_embedding;
  if (u.class_embedding == UNetClassEmbedding::Table) u.num_class_embeds = 20;
  if (u.class_embedding == UNetClassEmbedding::Projection) u.projection_input_dim = 40;
  apply(variant, u);
  parts.unet.tensors = fresh_tensors<UNet>(u, 1);

  AutoencoderConfig& v = parts.vae.config;
  v = autoencoder_config(codebook ? "vq-f4" : variant.vae);
  if (codebook) v.codebook->entries = 50;
  v.channels = {32, 32};
  v.layers_per_block = 1;
  parts.vae.tensors = fresh_tensors<Autoencoder>(v, 2);

  for (const TextVariant& t : variant.text_encoders) {
    TextEncoderPart text;
    text.config.vocab_size = 40;
    text.config.hidden_size = t.layout == TextLayout::OpenClip ? 128 : 64;
    text.config.intermediate_size = 24;
    text.config.layers = 3;
    text.config.heads = text.config.hidden_size / 64;
    text.config.max_positions = 9;
    text.config.activation = t.activation;
    text.config.projection_dim = t.layout == TextLayout::OpenClip ? 128 : 0;
    text.config.skip_layers = t.skip_layers;
    text.config.final_norm = t.final_norm;
    text.padding_id = t.padding_id;
    text.tensors = fresh_tensors<ClipTextModel>(text.config, 3 + parts.text_encoders.size());
    parts.text_encoders.push_back(std::move(text));
  }
  return parts;
}

void expect_equal(const TensorMap& got, const TensorMap& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [key, x] : want) {
    const auto found = got.find(key);
    ASSERT_TRUE(found != got.end()) << key;
    // 1x1 convolutions may come back as the matrices they are.
    ASSERT_EQ(found->second.numel(), x.numel()) << key;
    EXPECT_EQ(std::memcmp(found->second.raw(), x.raw(), x.bytes()), 0) << key;
  }
}

class EveryVariant : public ::testing::TestWithParam<std::tuple<const char*, bool>> {
 protected:
  static const char* name() { return std::get<0>(GetParam()); }
  static CheckpointParts parts() { return random_parts(variant_named(name()), std::get<1>(GetParam())); }
};

TEST_P(EveryVariant, ComesBackFromASingleFile) {
  const CheckpointParts parts = EveryVariant::parts();
  const TensorFile file = join_checkpoint(parts);
  EXPECT_EQ(recognise(file.tensors).variant, name());
  EXPECT_EQ(recognise(file.tensors).kind, ModelKind::Checkpoint);
  for (const TextVariant& text : variant_named(name()).text_encoders) {
    const auto first = file.tensors.lower_bound(text.prefix);
    ASSERT_TRUE(first != file.tensors.end() && first->first.starts_with(text.prefix)) << text.prefix;
  }
  const CheckpointParts back = split_checkpoint(file);
  EXPECT_EQ(back.unet.config, parts.unet.config);
  EXPECT_EQ(back.vae.config, parts.vae.config);
  EXPECT_EQ(back.schedule, parts.schedule);
  expect_equal(back.unet.tensors, parts.unet.tensors);
  expect_equal(back.vae.tensors, parts.vae.tensors);
  ASSERT_EQ(back.text_encoders.size(), parts.text_encoders.size());
  for (size_t i = 0; i < parts.text_encoders.size(); ++i) {
    EXPECT_EQ(back.text_encoders[i].config, parts.text_encoders[i].config);
    EXPECT_EQ(back.text_encoders[i].padding_id, parts.text_encoders[i].padding_id);
    expect_equal(back.text_encoders[i].tensors, parts.text_encoders[i].tensors);
  }
}

TEST_P(EveryVariant, SaysTheSameFromAFolder) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() /
      (std::string("sinopia_variant_") + name() + std::to_string(::getpid()));
  const CheckpointParts parts = EveryVariant::parts();
  save_diffusers_folder(folder, parts);
  const auto saved = StableDiffusion::load(folder);
  const auto built = StableDiffusion::build(parts);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(saved.variant(), name());
  EXPECT_EQ(saved.unet().config(), parts.unet.config);
  EXPECT_EQ(saved.vae().config(), parts.vae.config);
  EXPECT_EQ(saved.schedule(), parts.schedule);
  ASSERT_EQ(saved.text_encoders().size(), parts.text_encoders.size());
  const Tensor ids = Tensor::from(Shape{1, 5}, std::vector<int32_t>{4, 17, 3, 39, 0});
  for (size_t i = 0; i < parts.text_encoders.size(); ++i) {
    // The folder may lack layers that nothing reads; what is read is the same.
    EXPECT_EQ(saved.text_encoders()[i].padding_id, parts.text_encoders[i].padding_id);
    EXPECT_EQ(relative_error(saved.text_encoders()[i].model.forward(ids).hidden,
                             built.text_encoders()[i].model.forward(ids).hidden),
              0);
  }
  const UNetConfig& config = built.unet().config();
  UNetConditions conditions;
  if (config.class_embedding == UNetClassEmbedding::Table) {
    conditions.class_labels = Tensor::from(Shape{1}, std::vector<int32_t>{7});
  }
  if (config.addition == UNetAddition::TextTime) conditions.vector = full({1, 40}, 0.2f);
  const Tensor x = full({1, 5, 4, config.in_channels}, 0.4f), t = full({1}, 77),
               text = full({1, 3, 16}, 0.1f);
  EXPECT_EQ(relative_error(saved.unet().forward(x, t, text, conditions),
                           built.unet().forward(x, t, text, conditions)),
            0);
}

TEST(Variants, AFolderKeepsClassesAndTheirNames) {
  const testing::TemporaryFolder folder;
  CheckpointParts parts = random_parts(variant_named("sd1-class"));
  for (int i = 0; i < 12; ++i) parts.class_names.push_back(fmt::format("class \"{}\"", 11 - i));
  parts.unet.config.semantic_classes = 5;
  parts.unet.config.in_channels += 5;
  parts.unet.tensors = fresh_tensors<UNet>(parts.unet.config, 4);
  save_diffusers_folder(folder.path(), parts);
  const CheckpointParts back = read_checkpoint(folder.path());
  EXPECT_EQ(back.variant, "sd1-class");
  EXPECT_EQ(back.unet.config, parts.unet.config);
  EXPECT_EQ(back.class_names, parts.class_names);
  EXPECT_EQ(testing::kind_of([&] { join_checkpoint(parts); }), ErrorKind::Unsupported);
  const auto index = folder / "model_index.json";
  const auto json = nlohmann::json::parse(std::ifstream(index));
  auto gap = json, many = json;
  gap["id2label"].erase("3");
  for (int i = 12; i < 21; ++i) many["id2label"][std::to_string(i)] = "x";  // the table has 20 rows
  for (const auto& bad : {gap, many}) {
    std::ofstream(index) << bad;
    EXPECT_EQ(testing::kind_of([&] { read_checkpoint(folder.path()); }), ErrorKind::Corrupt);
  }
}

TEST(Variants, AreWrittenWithTheShapesThatOthersExpect) {
  const TensorFile sd1 = join_checkpoint(random_parts(variant_named("sd1")));
  const TensorFile sd2 = join_checkpoint(random_parts(variant_named("sd2")));
  const std::string unet = "model.diffusion_model.";
  EXPECT_EQ(sd1.tensors.at(unet + "input_blocks.1.1.proj_in.weight").shape(), (Shape{32, 32, 1, 1}));
  EXPECT_EQ(sd2.tensors.at(unet + "input_blocks.1.1.proj_in.weight").shape(), (Shape{32, 32}));
  EXPECT_EQ(sd1.tensors.at(unet + "input_blocks.3.0.skip_connection.weight").shape(), (Shape{64, 32, 1, 1}));
  EXPECT_EQ(sd1.tensors.at("first_stage_model.quant_conv.weight").shape(), (Shape{8, 8, 1, 1}));
  EXPECT_EQ(sd1.tensors.at("first_stage_model.decoder.mid.attn_1.q.weight").shape(), (Shape{32, 32, 1, 1}));
}

template <class Model, class Config>
void expect_size(const nlohmann::json& want, const Config& config, const char* name) {
  ParameterShapes shapes;
  Model(Scope(shapes), config);
  int64_t count = 0;
  for (const auto& [key, shape] : shapes.shapes()) count += shape.numel();
  EXPECT_EQ(count, want.at(name).at("parameters").get<int64_t>()) << name;
  EXPECT_EQ(shapes.shapes().size(), want.at(name).at("tensors").get<size_t>()) << name;
}

TEST(Variants, NamedConfigsHaveTheSizesOfTheRealModels) {
  std::ifstream file(golden_path("manifest.json"));
  const nlohmann::json want = nlohmann::json::parse(file).at("sizes of the real models");
  for (const char* name : {"sd1", "sdxl", "x4-upscaler"}) expect_size<UNet>(want, unet_config(name), name);
  for (const char* name : {"clip-vit-l", "openclip-vit-h"}) {
    expect_size<ClipTextModel>(want, clip_text_config(name), name);
  }
  expect_size<Autoencoder>(want, autoencoder_config("sd"), "vae");
  for (const char* name : {"kl-f16", "vq-f4", "vq-f8"})
    expect_size<Autoencoder>(want, autoencoder_config(name), name);
}

TEST(Variants, ALatentScaleOfItsOwnSurvivesASingleFile) {
  for (const bool codebook : {false, true}) {
    CheckpointParts parts = random_parts(variant_named("sd1"), codebook);
    EXPECT_FALSE(join_checkpoint(parts).tensors.contains("scale_factor"));
    parts.vae.config.scaling_factor = 0.7;
    const TensorFile file = join_checkpoint(parts);
    EXPECT_EQ(split_checkpoint(file).vae.config, parts.vae.config);
  }
}

// What names and shapes do not say, a reader would take to be as in the published models.
TEST(Variants, ASingleFileThatWouldBeReadAsOtherNetworksIsRefused) {
  const auto kind_with = [](const auto& change) {
    CheckpointParts parts = random_parts(variant_named("sd1"));
    change(parts);
    return testing::kind_of([&] { join_checkpoint(parts); });
  };
  EXPECT_EQ(kind_with([](CheckpointParts& p) { p.unet.config.heads.back() = 4; }), ErrorKind::Unsupported);
  EXPECT_EQ(kind_with([](CheckpointParts& p) { p.unet.config.norm_num_groups = 16; }),
            ErrorKind::Unsupported);
  EXPECT_EQ(kind_with([](CheckpointParts& p) { p.vae.config.norm_num_groups = 8; }), ErrorKind::Unsupported);
  EXPECT_EQ(kind_with([](CheckpointParts& p) { p.text_encoders.front().config.heads = 4; }),
            ErrorKind::Unsupported);
}

INSTANTIATE_TEST_SUITE_P(Rows, EveryVariant,
                         ::testing::Combine(::testing::Values("sd1", "sd1-inpaint", "sd1-edit", "sd1-class",
                                                              "sd1-coarse", "sd2", "sd2-inpaint",
                                                              "x4-upscaler", "sdxl", "sdxl-inpaint",
                                                              "sdxl-refiner"),
                                            ::testing::Bool()),
                         [](const auto& row) {
                           std::string name = std::get<0>(row.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name + (std::get<1>(row.param) ? "_codebook" : "");
                         });

}  // namespace
}  // namespace sinopia
