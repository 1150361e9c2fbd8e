#include <filesystem>
#include <fstream>

#include "sinopia/io/safetensors.h"
#include "sinopia/models/taesd/keys.h"
#include "sinopia/models/vae/tiling.h"
#include "sinopia/tensor/random.h"
#include "tests/models/golden.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using sinopia::testing::TemporaryFolder;
using ::testing::HasSubstr;

class TinyDecoderGolden : public ::testing::TestWithParam<const char*> {
 protected:
  Golden golden{GetParam()};
};

TEST_P(TinyDecoderGolden, IsDiffusersFromAFolderAndFromAFile) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "taesd");
  std::ofstream(folder / "taesd/config.json") << golden.config();
  const std::filesystem::path file = folder / "taesd/diffusion_pytorch_model.safetensors";
  write_safetensors(file, {golden.weights(), {}});
  const TinyDecoder whole = load_tiny_decoder(folder / "taesd"), alone = load_tiny_decoder(file);
  expect_golden(whole.decode(golden.in("z")), golden.out("decoded"), GetParam());
  TinyDecoderConfig config = whole.config();
  config.scaling_factor = 1;  // which a file does not say
  EXPECT_EQ(alone.config(), config);
  const double scale = whole.config().scaling_factor;
  Tensor z = Tensor::from(golden.in("z").shape(), golden.in("z").to_vector<float>());
  for (int64_t i = 0; i < z.numel(); ++i) z.data<float>()[i] /= static_cast<float>(scale);
  expect_golden(alone.decode(z), golden.out("decoded"), std::string(GetParam()) + "_file");
}

INSTANTIATE_TEST_SUITE_P(Models, TinyDecoderGolden, ::testing::Values("taesd", "taesd_two", "taesd_wide"));

TEST(TinyDecoder, ReadsTheOriginalsNames) {
  const Golden golden("taesd_two");
  const TinyDecoder decoder = load_tiny_decoder(golden_path("tiny-taesd.safetensors"));
  EXPECT_EQ(decoder.config().factor(), 2);
  EXPECT_EQ(decoder.config().blocks, (std::vector<int64_t>{1, 2}));
  expect_golden(decoder.decode(golden.in("z")), golden.out("decoded"), "original");
}

TEST(TinyDecoder, DefaultsAreThoseOfThePublishedOne) {
  EXPECT_EQ(tiny_decoder_config_from_json(R"({"_class_name": "AutoencoderTiny"})"), TinyDecoderConfig());
  EXPECT_EQ(TinyDecoderConfig().factor(), 8);
  ParameterShapes shapes;
  const auto build = [&] { const TinyDecoder decoder(Scope(shapes), {}); };
  build();
  int64_t parameters = 0;
  for (const auto& [name, shape] : shapes.shapes()) parameters += shape.numel();
  EXPECT_EQ(parameters, 1222531);  // diffusers' AutoencoderTiny().decoder
  EXPECT_TRUE(shapes.shapes().contains("decoder.layers.18.bias"));
}

TEST(TinyDecoder, TilesAreTheWholeWhereTheyAreTheSame) {
  const Golden golden("taesd_two");
  const TinyDecoder decoder = load_tiny_decoder(golden_path("tiny-taesd.safetensors"));
  EXPECT_EQ(relative_error(decode_tiled(decoder, golden.in("z")), decoder.decode(golden.in("z"))), 0);
  // Neighbours share 39 cells and fade in the middle of them, out of the borders' reach.
  TorchCpuGenerator generator(1);
  const Tensor z = randn(generator, Shape{1, 81, 70, 4});
  EXPECT_LE(relative_error(decode_tiled(decoder, z, {.tile = 60, .overlap = 2}), decoder.decode(z)), 1e-5);
}

TEST(TinyDecoder, RefusesWhatItIsNot) {
  const TemporaryFolder folder;
  const auto message = [&](TensorMap tensors) {
    write_safetensors(folder / "a.safetensors", {std::move(tensors), {}});
    try {
      load_tiny_decoder(folder / "a.safetensors");
    } catch (const Error& error) {
      return fmt::format("{}: {}", to_string(error.kind()), error.what());
    }
    return std::string("no error");
  };
  const TensorMap whole = read_safetensors(golden_path("tiny-taesd.safetensors")).tensors;
  TensorMap cut = whole, more = whole, other = Golden("vae").weights();
  cut.erase("3.conv.2.bias");
  more["40.weight"] = whole.at("1.weight");
  EXPECT_THAT(message(cut), HasSubstr("decoder.layers.2.conv.2.bias"));
  EXPECT_THAT(message(more), HasSubstr("decoder.layers.39.weight"));
  EXPECT_THAT(message(other), HasSubstr("corrupt"));
  EXPECT_THAT(message({{"0.weight", whole.at("1.weight")}}), HasSubstr("'0.weight'"));
  EXPECT_THAT(message({{"1x.weight", whole.at("1.weight")}}), HasSubstr("'1x.weight'"));
  EXPECT_THAT(message({{"1.weight", whole.at("1.weight")}}), HasSubstr("corrupt"));
  for (const char* json :
       {R"({"_class_name": "AutoencoderKL"})", R"({"act_fn": "silu"})", R"({"upsampling_scaling_factor": 4})",
        R"({"decoder_block_out_channels": [64, 64, 32, 64]})", R"({"decoder_block_out_channels": [64]})",
        R"({"num_decoder_blocks": 3})", R"({"new_field": 3})"}) {
    try {
      tiny_decoder_config_from_json(json);
      ADD_FAILURE() << json;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Unsupported) << json;
    }
  }
  EXPECT_THROW(load_tiny_decoder(golden_path("tiny-taesd.safetensors")).decode(Golden("taesd_wide").in("z")),
               Error);
}

}  // namespace
}  // namespace sinopia
