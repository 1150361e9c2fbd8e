#include "sinopia/models/unet/unet.h"

#include "sinopia/ops/shape.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

UNetConditions conditions_of(const Golden& golden) {
  UNetConditions conditions;
  if (golden.has("labels")) conditions.class_labels = golden.in("labels");
  if (golden.has("time_condition")) conditions.time_condition = golden.in("time_condition");
  if (golden.has("pooled")) conditions.text_embeds = golden.in("pooled");
  if (golden.has("time_ids")) conditions.time_ids = golden.in("time_ids");
  return conditions;
}

class UNetGolden : public testing::TestWithParam<const char*> {};

TEST_P(UNetGolden, IsDiffusers) {
  const Golden golden(GetParam());
  const auto unet = golden.build<UNet>(unet_config_from_json(golden.config()));
  const UNetContext context = unet.prepare(golden.has("text") ? golden.in("text") : Tensor());
  const UNetConditions conditions = conditions_of(golden);
  for (const char* size : {"sample", "even"}) {
    if (!golden.has(size)) continue;
    const Tensor got = unet.forward(golden.in(size), golden.in("t"), context, conditions);
    expect_golden(got, golden.out(size), std::string(GetParam()) + "_" + size);
  }
}

TEST_P(UNetGolden, ConfigSurvivesJson) {
  const UNetConfig config = unet_config_from_json(Golden(GetParam()).config());
  EXPECT_EQ(unet_config_from_json(unet_config_to_json(config)), config);
}

INSTANTIATE_TEST_SUITE_P(Models, UNetGolden,
                         testing::Values("unet_sd1", "unet_sd2", "unet_inpaint", "unet_x4", "unet_sdxl",
                                         "unet_refiner", "unet_lcm", "unet_plain"));

class UNetByConv2dMethod : public EachConv2dMethod {};

TEST_P(UNetByConv2dMethod, IsDiffusers) {
  const Golden golden("unet_sd1");
  const auto unet = golden.build<UNet>(unet_config_from_json(golden.config()));
  const UNetContext context = unet.prepare(golden.in("text"));
  expect_golden(unet.forward(golden.in("sample"), golden.in("t"), context), golden.out("sample"), "sample");
}

SINOPIA_FOR_EACH_CONV2D_METHOD(UNetByConv2dMethod);

TEST(UNet, NamedConfigsSurviveJson) {
  for (std::string_view name : unet_config_names()) {
    const UNetConfig& config = unet_config(name);
    check(config);
    EXPECT_EQ(unet_config_from_json(unet_config_to_json(config)), config) << name;
  }
  EXPECT_THROW(unet_config("sd9"), Error);
}

TEST(UNet, RefusesUnsupportedConfigs) {
  for (const char* json :
       {R"({"block_out_channels": [320, 640, 1280, 1280], "time_embedding_type": "fourier"})",
        R"({"block_out_channels": [320, 640, 1280, 1280], "encoder_hid_dim": 4})",
        R"({"block_out_channels": [320, 640, 1280, 1280], "some_new_field": 1})",
        R"({"block_out_channels": [320, 640]})", R"({"_class_name": "UNet3DConditionModel"})",
        R"({"block_out_channels": [320, 640, 1280, 1280], "dual_cross_attention": true})"}) {
    try {
      unet_config_from_json(json);
      ADD_FAILURE() << json;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Unsupported) << json;
    }
  }
}

TEST(UNet, RefusesMissingAndUnwantedConditions) {
  const Golden golden("unet_sd1"), xl("unet_sdxl");
  const auto unet = golden.build<UNet>(unet_config_from_json(golden.config()));
  const UNetContext context = unet.prepare(golden.in("text"));
  EXPECT_THROW(unet.forward(golden.in("sample"), golden.in("t"), context, {.class_labels = golden.in("t")}),
               Error);
  EXPECT_THROW(unet.forward(golden.in("sample"), golden.in("t"), UNetContext()), Error);
  EXPECT_THROW(unet.forward(narrow(golden.in("sample"), 0, 0, 2), golden.in("t"), context), Error);
  EXPECT_THROW(unet.prepare(Tensor()), Error);
  const auto sdxl = xl.build<UNet>(unet_config_from_json(xl.config()));
  EXPECT_THROW(sdxl.forward(xl.in("sample"), xl.in("t"), sdxl.prepare(xl.in("text"))), Error);
}

TEST(UNet, VectorStandsForPooledTextAndSizes) {
  const Golden golden("unet_sdxl");
  const auto unet = golden.build<UNet>(unet_config_from_json(golden.config()));
  EXPECT_THROW(unet.forward(golden.in("sample"), golden.in("t"), golden.in("text"),
                            {.vector = Tensor::from(Shape{3, 4}, std::vector<float>(12))}),
               Error);
}

}  // namespace
}  // namespace sinopia
