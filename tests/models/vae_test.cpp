#include <random>

#include "sinopia/models/vae/autoencoder_kl.h"
#include "sinopia/models/vae/keys.h"
#include "sinopia/models/vae/tiling.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

TEST(Autoencoder, IsDiffusers) {
  for (const char* name : {"vae", "vae_no_quant"}) {
    const Golden golden(name);
    const auto vae = golden.build<AutoencoderKL>(autoencoder_config_from_json(golden.config()));
    const DiagonalGaussian latent = vae.encode(golden.in("picture"));
    expect_golden(latent.mean, golden.out("mean"), std::string(name) + "_mean");
    expect_golden(latent.logvar, golden.out("logvar"), std::string(name) + "_logvar");
    expect_golden(vae.decode(golden.in("z")), golden.out("decoded"), std::string(name) + "_decoded");
  }
}

TEST(Autoencoder, ScaleAndShiftUndoEachOther) {
  const Golden golden("vae_no_quant");
  const auto vae = golden.build<AutoencoderKL>(autoencoder_config_from_json(golden.config()));
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
  EXPECT_THROW(autoencoder_config_from_json(R"({"latents_mean": [1, 2]})"), Error);
  EXPECT_THROW(autoencoder_config_from_json(R"({"down_block_types": ["AttnDownEncoderBlock2D"]})"), Error);
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

/// The root mean square of the differences between column x and column x - 1.
double column_step(const Tensor& image, int64_t x) {
  double sum = 0;
  const auto v = image.values<float>();
  const int64_t H = image.dim(1), W = image.dim(2), C = image.dim(3);
  for (int64_t y = 0; y < H; ++y) {
    for (int64_t c = 0; c < C; ++c) {
      const double d = v[(y * W + x) * C + c] - v[(y * W + x - 1) * C + c];
      sum += d * d;
    }
  }
  return std::sqrt(sum / static_cast<double>(H * C));
}

TEST(Tiling, HasNoSeamAndComesCloseToTheWhole) {
  // As the real one has it, the middle's attention would reach across tiles; random weights make that
  // attention all but uniform, which is the harder case.
  AutoencoderConfig config;
  config.channels = {8, 16, 16};
  config.norm_num_groups = 4;
  RandomParameters parameters(7);
  const AutoencoderKL vae(Scope(parameters), config);
  constexpr int64_t h = 40, w = 51;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values(h * w * 4);
  for (float& x : values) x = normal(random);
  const Tensor z = Tensor::from(Shape{1, h, w, 4}, values);

  const Tensor whole = vae.decode(z);
  int64_t tiles = 0;
  const Tensor tiled =
      decode_tiled(vae, z, {.tile = 24, .overlap = 8, .on_tile = [&](int64_t done, int64_t count) {
                              EXPECT_EQ(done, ++tiles);
                              EXPECT_EQ(count, 6);
                            }});
  EXPECT_EQ(tiles, 6);
  ASSERT_EQ(tiled.shape(), whole.shape());
  double difference = 0, power = 0;
  const auto a = tiled.values<float>(), b = whole.values<float>();
  double mean = 0;
  for (float x : b) mean += x / static_cast<double>(b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    power += (b[i] - mean) * (b[i] - mean);
  }
  EXPECT_LT(std::sqrt(difference / power), 0.15);

  // No column's step stands out more in the tiled picture than any does in the whole one.
  double largest = 0, largest_tiled = 0;
  for (int64_t x = 1; x < whole.dim(2); ++x) {
    largest = std::max(largest, column_step(whole, x));
    largest_tiled = std::max(largest_tiled, column_step(tiled, x));
  }
  EXPECT_LT(largest_tiled, 1.05 * largest);
}

TEST(Tiling, IsExactForOneTileAndForEncodingsOfAFlatPicture) {
  const Golden golden("vae");
  const auto vae = golden.build<AutoencoderKL>(autoencoder_config_from_json(golden.config()));
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
  const auto vae = golden.build<AutoencoderKL>(autoencoder_config_from_json(golden.config()));
  EXPECT_THROW(decode_tiled(vae, golden.in("z"), {.tile = 8, .overlap = 3}), Error);
  EXPECT_THROW(decode_tiled(vae, golden.in("z"), {.tile = 0, .overlap = 0}), Error);
  EXPECT_THROW(encode_tiled(vae, golden.in("picture"), {.tile = 3, .overlap = 1}), Error);  // 17 wide
}

}  // namespace
}  // namespace sinopia
