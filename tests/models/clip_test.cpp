#include "sinopia/models/clip/clip_text.h"
#include "sinopia/models/clip/keys.h"
#include "sinopia/ops/shape.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

TEST(ClipText, IsTransformersInEveryOutput) {
  for (const char* name : {"clip_l", "clip_h", "clip_g"}) {
    const Golden golden(name);
    const ClipTextConfig config = clip_text_config_from_json(golden.config());
    const auto model = golden.build<ClipTextModel>(config);
    const Tensor ids = golden.in("ids");
    const std::string n = name;

    const ClipTextOutput last = model.forward(ids, {.pooled = true});
    expect_golden(last.hidden, golden.out("hidden"), n + "_hidden");
    expect_golden(last.pooled, golden.out("pooled"), n + "_pooled");
    const ClipTextOutput raw = model.forward(ids, {.skip_layers = 1, .final_norm = false, .pooled = true});
    expect_golden(raw.hidden, golden.out("penultimate"), n + "_penultimate");
    expect_golden(raw.pooled, golden.out("pooled"), n + "_pooled_beside_penultimate");
    expect_golden(model.forward(ids, {.skip_layers = 1}).hidden, golden.out("penultimate_normed"),
                  n + "_normed");
    EXPECT_FALSE(model.forward(ids).pooled.defined());
    expect_golden(model.forward(narrow(ids, 1, 0, 7)).hidden, golden.out("short"), n + "_short");
  }
}

TEST(ClipText, TakesExtraEmbeddings) {
  const Golden golden("clip_l_extra");
  const auto model = golden.build<ClipTextModel>(clip_text_config_from_json(golden.config()));
  const Tensor got = model.forward(golden.in("ids"), {.extra_embeddings = golden.in("extra")}).hidden;
  expect_golden(got, golden.out("hidden"), "clip_l_extra");
  EXPECT_THROW(model.forward(golden.in("ids")), Error);  // ids without rows
}

TEST(ClipText, RefusesWhatDoesNotFit) {
  const Golden golden("clip_l");
  const auto model = golden.build<ClipTextModel>(clip_text_config_from_json(golden.config()));
  EXPECT_THROW(model.forward(Tensor::from(Shape{1, 2}, std::vector<int32_t>{3, 300})), Error);
  EXPECT_THROW(model.forward(Tensor::from(Shape{1, 2}, std::vector<int32_t>{-1, 3})), Error);
  EXPECT_THROW(model.forward(Tensor::from(Shape{1, 21}, std::vector<int32_t>(21, 3))), Error);
  EXPECT_THROW(model.forward(golden.in("ids"), {.skip_layers = 3}), Error);
}

TEST(ClipText, ConfigsSurviveJson) {
  for (std::string_view name : clip_text_config_names()) {
    ClipTextConfig config = clip_text_config(name);
    config.skip_layers = 0;
    config.final_norm = true;
    EXPECT_EQ(clip_text_config_from_json(clip_text_config_to_json(config)), config) << name;
  }
  EXPECT_THROW(clip_text_config("clip-vit-z"), Error);
  EXPECT_THROW(clip_text_config_from_json(R"({"hidden_act": "swish"})"), Error);
  EXPECT_THROW(clip_text_config_from_json(R"({"hidden_size": "wide"})"), Error);
  EXPECT_THROW(clip_text_config_from_json("[1"), Error);
}

TEST(ClipText, OpenClipNamesComeBack) {
  const TensorMap weights = Golden("clip_g").weights();
  const TensorMap open = clip_text_to_open_clip(weights);
  EXPECT_TRUE(is_open_clip(open));
  EXPECT_EQ(open.at("transformer.resblocks.1.attn.in_proj_weight").shape(), (Shape{72, 24}));
  EXPECT_EQ(open.at("text_projection").shape(), (Shape{24, 16}));
  const TensorMap back = clip_text_from_any(open);
  ASSERT_EQ(back.size(), weights.size());
  for (const auto& [key, x] : weights) {
    ASSERT_TRUE(back.contains(key)) << key;
    ASSERT_EQ(back.at(key).shape(), x.shape()) << key;
    EXPECT_EQ(std::memcmp(back.at(key).raw(), x.raw(), x.bytes()), 0) << key;
  }
}

}  // namespace
}  // namespace sinopia
