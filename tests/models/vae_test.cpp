#include <random>

#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/models/vae/keys.h"
#include "sinopia/models/vae/tiling.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

class AutoencoderGolden : public EachConv2dMethod {};

TEST_P(AutoencoderGolden, IsDiffusers) {
  for (const char* name : {"vae", "vae_no_quant", "vae_attention"}) {
    const Golden golden(name);
    const auto vae = golden.build<Autoencoder>(autoencoder_config_from_json(golden.config()));
    const DiagonalGaussian latent = vae.encode(golden.in("picture"));
    expect_golden(latent.mean, golden.out("mean"), std::string(name) + "_mean");
    expect_golden(latent.logvar, golden.out("logvar"), std::string(name) + "_logvar");
    expect_golden(vae.decode(golden.in("z")), golden.out("decoded"), std::string(name) + "_decoded");
  }
}

TEST_P(AutoencoderGolden, IsDiffusersVqModel) {
  for (const std::string name : {"vq", "vq_lookup"}) {
    const Golden golden(name);
    const AutoencoderConfig config = autoencoder_config_from_json(golden.config());
    const auto vae = golden.build<Autoencoder>(config);
    ASSERT_TRUE(vae.codebook());
    const auto expect_codes = [&](const Tensor& z, const Tensor& want) {
      const Tensor codes = vae.codebook()->nearest(z);
      ASSERT_EQ(codes.shape(), want.shape());
      for (int64_t i = 0; i < codes.numel(); ++i)
        EXPECT_EQ(codes.data<int32_t>()[i], static_cast<int32_t>(want.data<float>()[i])) << i;
    };
    const DiagonalGaussian latent = vae.encode(golden.in("picture"));
    EXPECT_TRUE(latent.certain());
    EXPECT_EQ(latent.sample({}).raw(), latent.mean.raw());
    expect_golden(latent.mean, golden.out("latents"), name + "_latents");
    expect_codes(latent.mean, golden.out("codes_of_latents"));
    const Tensor z = golden.in("z");
    expect_codes(z, golden.out("codes"));
    expect_golden(vae.codebook()->quantise(z), golden.out("quantised"), name + "_quantised");
    expect_golden(vae.decode(z), golden.out("decoded"), name + "_decoded");
    const Tensor unquantised = config.codebook->lookup_from_codebook
                                   ? vae.decode_codes(vae.codebook()->nearest(z))
                                   : vae.decode(z, {.quantise = false});
    expect_golden(unquantised, golden.out("unquantised"), name + "_unquantised");
    EXPECT_EQ(relative_error(vae.decode_codes(vae.codebook()->nearest(z)), vae.decode(z)), 0);
    EXPECT_EQ(relative_error(decode_tiled(vae, z, {.tile = 5, .overlap = 1}), vae.decode(z)), 0);
  }
}

SINOPIA_FOR_EACH_CONV2D_METHOD(AutoencoderGolden);

TEST(Autoencoder, HasCodesOnlyWithACodebook) {
  const Golden golden("vae");
  const auto vae = golden.build<Autoencoder>(autoencoder_config_from_json(golden.config()));
  EXPECT_FALSE(vae.codebook());
  EXPECT_THROW(vae.decode_codes(Tensor::from(Shape{1, 1, 1}, std::vector<int32_t>{0})), Error);
  AutoencoderConfig config = autoencoder_config("vq-f4");
  config.use_quant_conv = false;
  RandomParameters parameters(1);
  EXPECT_THROW(Autoencoder(Scope(parameters), config), Error);
}

TEST(Autoencoder, EncodesInTilesWithACodebook) {
  const Golden golden("vq");
  const auto vae = golden.build<Autoencoder>(autoencoder_config_from_json(golden.config()));
  const Tensor picture = narrow(narrow(golden.in("picture"), 2, 0, 16), 1, 0, 20);
  const DiagonalGaussian whole = vae.encode(picture),
                         parts = encode_tiled(vae, picture, {.tile = 3, .overlap = 1});
  EXPECT_TRUE(parts.certain());
  EXPECT_EQ(parts.mean.shape(), whole.mean.shape());
  EXPECT_EQ(relative_error(encode_tiled(vae, picture, {.tile = 6, .overlap = 2}).mean, whole.mean), 0);
}

TEST(Autoencoder, ScaleAndShiftUndoEachOther) {
  const Golden golden("vae_no_quant");
  const auto vae = golden.build<Autoencoder>(autoencoder_config_from_json(golden.config()));
  const Tensor z = golden.in("z");
  const Tensor scaled = vae.to_diffusion(z);
  EXPECT_NEAR(scaled.values<float>()[5], (z.values<float>()[5] - 0.0609) * 1.5305, 1e-5);
  EXPECT_LE(relative_error(vae.from_diffusion(scaled), z), 1e-6);
}

TEST(Autoencoder, SamplesWithTheGivenNoise) {
  const DiagonalGaussian g{Tensor::from(Shape{1, 1, 1, 2}, std::vector<float>{1, 2}),
                           Tensor::from(Shape{1, 1, 1, 2}, std::vector<float>{0, -2})};
  const Tensor z = g.sample(Tensor::from(Shape{1, 1, 1, 2}, std::vector<float>{3, -1}));
  EXPECT_NEAR(z.values<float>()[0], 4.0f, 1e-6);
  EXPECT_NEAR(z.values<float>()[1], 2.0f - std::exp(-1.0f), 1e-6);
}

TEST(Autoencoder, ConfigsSurviveJson) {
  for (std::string_view name : autoencoder_config_names()) {
    const AutoencoderConfig& config = autoencoder_config(name);
    EXPECT_EQ(autoencoder_config_from_json(autoencoder_config_to_json(config)), config) << name;
  }
  // VQModel's fields where the widths inside and outside differ, and its defaults.
  for (const char* name : {"vq", "vq_lookup"}) {
    const AutoencoderConfig config = autoencoder_config_from_json(Golden(name).config());
    EXPECT_EQ(autoencoder_config_from_json(autoencoder_config_to_json(config)), config) << name;
  }
  const AutoencoderConfig wide = autoencoder_config_from_json(Golden("vq").config());
  EXPECT_EQ(wide.latent_channels, 5);
  EXPECT_EQ(wide.codebook->encoder_channels, 3);
  EXPECT_EQ(wide.codebook->entries, 37);
  const AutoencoderConfig plain = autoencoder_config_from_json(R"({"_class_name": "VQModel"})");
  EXPECT_EQ(plain.latent_channels, 3);
  EXPECT_EQ(plain.codebook->entries, 256);
  EXPECT_FALSE(plain.force_upcast);
  EXPECT_THROW(autoencoder_config_from_json(R"({"_class_name": "VQModel", "norm_type": "spatial"})"), Error);
  EXPECT_THROW(autoencoder_config_from_json(R"({"_class_name": "AutoencoderTiny"})"), Error);
  EXPECT_THROW(autoencoder_config_from_json(R"({"num_vq_embeddings": 256})"), Error);
  EXPECT_THROW(autoencoder_config_from_json(R"({"latents_mean": [1, 2]})"), Error);
  const AutoencoderConfig attends = autoencoder_config_from_json(Golden("vae_attention").config());
  EXPECT_EQ(attends.attention_levels, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(autoencoder_config_from_json(autoencoder_config_to_json(attends)), attends);
  // A decoder unlike its encoder, and a block that is not known.
  EXPECT_THROW(autoencoder_config_from_json(R"({"down_block_types": ["AttnDownEncoderBlock2D"]})"), Error);
  EXPECT_THROW(autoencoder_config_from_json(R"({"up_block_types": ["AttnUpDecoderBlock2D"]})"), Error);
  EXPECT_THROW(autoencoder_config_from_json(R"({"down_block_types": ["DownBlock2D"]})"), Error);
}

TEST(Autoencoder, OriginalNamesAndOldNamesComeBack) {
  const Golden golden("vae");
  const TensorMap weights = golden.weights();
  const AutoencoderConfig config = autoencoder_config_from_json(golden.config());
  const TensorMap original = autoencoder_to_original(weights, config);
  EXPECT_EQ(original.at("encoder.mid.attn_1.q.weight").rank(), 4);
  EXPECT_TRUE(original.contains("decoder.up.2.block.0.norm1.weight"));
  EXPECT_EQ(autoencoder_config_from_tensors(original).channels, config.channels);
  const TensorMap back = autoencoder_from_original(original, config);
  ASSERT_EQ(back.size(), weights.size());
  for (const auto& [key, x] : weights) EXPECT_EQ(back.at(key).raw(), x.raw()) << key;

  TensorMap old = weights;
  for (const auto& [ours, theirs] :
       {std::pair{"to_q", "query"}, {"to_k", "key"}, {"to_v", "value"}, {"to_out.0", "proj_attn"}}) {
    for (const std::string side : {"encoder.", "decoder."}) {
      for (const std::string kind : {".weight", ".bias"}) {
        auto node = old.extract(side + "mid_block.attentions.0." + ours + kind);
        node.key() = side + "mid_block.attentions.0." + theirs + kind;
        old.insert(std::move(node));
      }
    }
  }
  const TensorMap current = with_current_attention_names(old);
  ASSERT_EQ(current.size(), weights.size());
  for (const auto& [key, x] : weights) EXPECT_EQ(current.at(key).raw(), x.raw()) << key;
}

class OriginalAutoencoderNames : public ::testing::TestWithParam<const char*> {};

TEST_P(OriginalAutoencoderNames, ComeBackAndTellTheConfig) {
  const Golden golden(GetParam());
  const TensorMap weights = golden.weights();
  AutoencoderConfig config = autoencoder_config_from_json(golden.config());
  const TensorMap original = autoencoder_to_original(weights, config);
  config.sample_size = AutoencoderConfig().sample_size;  // not told by shapes
  config.norm_num_groups = AutoencoderConfig().norm_num_groups;
  EXPECT_EQ(autoencoder_config_from_tensors(original), config);
  EXPECT_EQ(autoencoder_config_from_tensors(weights), config);
  const TensorMap back = autoencoder_from_original(original, config);
  ASSERT_EQ(back.size(), weights.size());
  for (const auto& [key, x] : weights) EXPECT_EQ(back.at(key).raw(), x.raw()) << key;
}

INSTANTIATE_TEST_SUITE_P(Models, OriginalAutoencoderNames, ::testing::Values("vae_attention", "vq"));

TEST(Autoencoder, OriginalNamesAreThoseOfLatentDiffusion) {
  const auto names = [](const char* golden_name) {
    const Golden golden(golden_name);
    return autoencoder_to_original(golden.weights(), autoencoder_config_from_json(golden.config()));
  };
  EXPECT_TRUE(names("vq").contains("quantize.embedding.weight"));
  const TensorMap attends = names("vae_attention");
  EXPECT_EQ(attends.at("encoder.down.1.attn.1.q.weight").shape(), (Shape{8, 8, 1, 1}));
  EXPECT_TRUE(attends.contains("decoder.up.2.attn.2.proj_out.bias"));
  EXPECT_TRUE(attends.contains("decoder.up.1.attn.0.norm.weight"));
  EXPECT_FALSE(attends.contains("decoder.up.0.attn.0.norm.weight"));
}

TEST(Autoencoder, RefusesAttentionAtALevelThatItLacks) {
  AutoencoderConfig config{.channels = {32, 32}};
  config.attention_levels = {2};
  RandomParameters parameters(1);
  EXPECT_THROW(Autoencoder(Scope(parameters), config), Error);
}

constexpr int64_t kMargin = 40;  // pixels along the picture's border, which looks different in any case

/// The root mean square of the step from column x - 1 to column x, or between rows, inside the margin.
double step_at(const Tensor& image, int axis, int64_t position) {
  const Tensor inner = narrow(image, 3 - axis, kMargin, image.dim(3 - axis) - kMargin);
  const Tensor before = narrow(inner, axis, position - 1, position),
               after = narrow(inner, axis, position, position + 1);
  return std::sqrt(moments(square(after - before)).mean.values<float>()[0]);
}

double largest_step(const Tensor& image, int axis) {
  double largest = 0;
  for (int64_t i = kMargin; i < image.dim(axis) - kMargin; ++i)
    largest = std::max(largest, step_at(image, axis, i));
  return largest;
}

double deviation(const Tensor& x) { return std::sqrt(moments(x).variance.values<float>()[0]); }

constexpr int64_t kHeight = 48, kWidth = 51;
const TilingOptions kTiles{.tile = 27, .overlap = 9};  // 3 x 3 of them

Autoencoder random_autoencoder() {
  AutoencoderConfig config;
  config.channels = {8, 16, 16};
  config.norm_num_groups = 4;
  RandomParameters parameters(9);  // with these weights, tiles side by side show their edges on both axes
  return Autoencoder(Scope(parameters), config);
}

TEST(Tiling, ComesCloseToTheWhole) {
  const Autoencoder vae = random_autoencoder();
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values(kHeight * kWidth * 4);
  for (float& x : values) x = normal(random);
  const Tensor z = Tensor::from(Shape{1, kHeight, kWidth, 4}, values);
  TilingOptions options = kTiles;
  int64_t tiles = 0;
  options.on_tile = [&](int64_t done, int64_t count) {
    EXPECT_EQ(done, ++tiles);
    EXPECT_EQ(count, 9);
  };
  const Tensor whole = vae.decode(z), tiled = decode_tiled(vae, z, options);
  EXPECT_EQ(tiles, 9);
  ASSERT_EQ(tiled.shape(), whole.shape());
  // What remains is the norms' statistics, which a tile has of its own.
  const double difference =
      std::sqrt(moments(square(tiled - whole)).mean.values<float>()[0]) / deviation(whole);
  RecordProperty("difference", fmt::format("{:.3f}", difference));
  EXPECT_LT(difference, 0.2);
}

TEST(Tiling, ShowsNoEdge) {
  const Autoencoder vae = random_autoencoder();
  // Long waves: so smooth that an edge would stand out.
  std::vector<float> values;
  for (int64_t y = 0; y < kHeight; ++y) {
    for (int64_t x = 0; x < kWidth; ++x) {
      for (int c = 0; c < 4; ++c) {
        const float fx = static_cast<float>(x), fy = static_cast<float>(y), phase = static_cast<float>(c);
        values.push_back(std::sin(fx * 0.2f + phase) + std::cos(fy * 0.15f - 2 * phase + 0.05f * fx));
      }
    }
  }
  const Tensor z = Tensor::from(Shape{1, kHeight, kWidth, 4}, values);
  const Tensor whole = vae.decode(z), tiled = decode_tiled(vae, z, kTiles);
  // Steps between neighbours are about what they are in the whole picture, while tiles put side by side show
  // their edge.
  for (int axis : {1, 2}) {
    const int64_t middle = z.dim(axis) / 2;
    const Tensor cut = concat(
        {vae.decode(narrow(z, axis, 0, middle)), vae.decode(narrow(z, axis, middle, z.dim(axis)))}, axis);
    const double usual = largest_step(whole, axis), edge = step_at(cut, axis, 4 * middle);
    RecordProperty(fmt::format("step_{}", axis), fmt::format("{:.3f}", largest_step(tiled, axis) / usual));
    RecordProperty(fmt::format("cut_{}", axis), fmt::format("{:.3f}", edge / usual));
    EXPECT_LT(largest_step(tiled, axis), 1.2 * usual);
    EXPECT_GT(edge, 1.5 * usual);
  }
}

TEST(Tiling, IsExactForOneTileAndForEncodingsOfAFlatPicture) {
  const Golden golden("vae");
  const auto vae = golden.build<Autoencoder>(autoencoder_config_from_json(golden.config()));
  const Tensor z = golden.in("z");
  EXPECT_EQ(relative_error(decode_tiled(vae, z, {.tile = 8, .overlap = 2}), vae.decode(z)), 0);
  const Tensor picture = narrow(golden.in("picture"), 2, 0, 16);
  const Tensor cut = narrow(picture, 1, 0, 20);
  const DiagonalGaussian whole = vae.encode(cut), tiled = encode_tiled(vae, cut, {.tile = 6, .overlap = 2});
  EXPECT_EQ(relative_error(tiled.mean, whole.mean), 0);
  const DiagonalGaussian parts = encode_tiled(vae, cut, {.tile = 3, .overlap = 1});
  EXPECT_EQ(parts.mean.shape(), whole.mean.shape());
  EXPECT_EQ(parts.logvar.shape(), whole.logvar.shape());
}

TEST(Tiling, RefusesOptionsOutOfRange) {
  const Golden golden("vae");
  const auto vae = golden.build<Autoencoder>(autoencoder_config_from_json(golden.config()));
  EXPECT_THROW(decode_tiled(vae, golden.in("z"), {.tile = 8, .overlap = 3}), Error);
  EXPECT_THROW(decode_tiled(vae, golden.in("z"), {.tile = 0, .overlap = 0}), Error);
  EXPECT_THROW(encode_tiled(vae, golden.in("picture"), {.tile = 3, .overlap = 1}), Error);  // 17 wide
}

}  // namespace
}  // namespace sinopia
