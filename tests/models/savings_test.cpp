#include <cstring>

#include "sinopia/base/threads.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/ops/shape.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

const TensorFile& savings() {
  static const TensorFile kFile = read_safetensors(golden_path("savings.safetensors"));
  return kFile;
}

// A network of tools/golden/models.py with its inputs for the first two pictures.
struct Case {
  explicit Case(const std::string& name)
      : golden(name),
        unet(golden.build<UNet>(unet_config_from_json(golden.config()))),
        context(unet.prepare(first("text"))) {
    if (golden.has("labels")) conditions.class_labels = first("labels");
    if (golden.has("pooled"))
      conditions.text_embeds = first("pooled"), conditions.time_ids = first("time_ids");
  }
  Tensor first(const char* input) const { return golden.in(input).slice(0, 2); }
  Tensor forward(const Tensor& x, const Tensor& t, const UNetShortcuts& shortcuts = {}) const {
    return unet.forward(x, t, context, conditions, shortcuts);
  }

  Golden golden;
  UNet unet;
  UNetContext context;
  UNetConditions conditions;
};

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

class DeepCacheGolden : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(DeepCacheGolden, IsThePackages) {
  const auto [name, depth] = GetParam();
  const Case c(name);
  const Tensor later = savings().tensors.at(std::string(name) + ".later");
  const Tensor sooner = savings().tensors.at(std::string(name) + ".sooner");
  DeepFeatures deep{depth, {}};
  const Tensor whole = c.forward(c.first("sample"), c.first("t"), {.deep = &deep});
  EXPECT_TRUE(equal(whole, c.forward(c.first("sample"), c.first("t"))))
      << "a call that keeps features is whole";
  ASSERT_TRUE(deep.h);
  const Tensor kept = deep.h;
  const Tensor got = c.forward(later, sooner, {.deep = &deep});
  EXPECT_EQ(kept.raw(), deep.h.raw());
  const std::string key = fmt::format("{}.depth{}", name, depth);
  expect_golden(got, savings().tensors.at(key), key);
}

INSTANTIATE_TEST_SUITE_P(
    Savings, DeepCacheGolden,
    testing::Values(std::pair("unet_sd1", 0), std::pair("unet_sd1", 1), std::pair("unet_sd1", 2),
                    std::pair("unet_sd1", 3), std::pair("unet_sd1", 4), std::pair("unet_sd1", 7),
                    std::pair("unet_sd2", 0), std::pair("unet_sd2", 1), std::pair("unet_sd2", 2),
                    std::pair("unet_sd2", 4), std::pair("unet_sdxl", 0), std::pair("unet_sdxl", 2),
                    std::pair("unet_sdxl", 3), std::pair("unet_sdxl", 6), std::pair("unet_refiner", 1),
                    std::pair("unet_refiner", 5), std::pair("unet_x4", 0), std::pair("unet_x4", 3)));

TEST(DeepCache, OfTheSameInputsIsTheWholeNetworkAtEveryDepth) {
  const Case c("unet_sd1");
  const Tensor whole = c.forward(c.first("even"), c.first("t"));
  for (int64_t depth = 0; depth < c.unet.config().skips(); ++depth) {
    DeepFeatures deep{depth, {}};
    c.forward(c.first("even"), c.first("t"), {.deep = &deep});
    EXPECT_TRUE(equal(c.forward(c.first("even"), c.first("t"), {.deep = &deep}), whole)) << depth;
  }
}

TEST(DeepCache, RefusesDepthsAndFeaturesThatDoNotFit) {
  const Case c("unet_sd1");
  EXPECT_EQ(c.unet.config().skips(), 9);
  DeepFeatures too_deep{9, {}}, negative{-1, {}}, deep{0, {}};
  EXPECT_THROW(c.forward(c.first("sample"), c.first("t"), {.deep = &too_deep}), Error);
  EXPECT_THROW(c.forward(c.first("sample"), c.first("t"), {.deep = &negative}), Error);
  c.forward(c.first("sample"), c.first("t"), {.deep = &deep});
  const UNetContext one = c.unet.prepare(c.first("text").slice(0, 1));
  EXPECT_THROW(
      c.unet.forward(c.first("sample").slice(0, 1), c.first("t").slice(0, 1), one, {}, {.deep = &deep}),
      Error);
}

constexpr uint64_t kSeed = 20240811;  // of tools/golden/savings.py

TEST(TokenMerging, MergesWhatTomesdMerges) {
  for (const auto& [height, width, ratio] : {std::tuple(7, 9, 0.5), {8, 6, 0.25}, {2, 5, 0.75}}) {
    const std::string name = fmt::format("merge_{}x{}_{}", height, width, ratio);
    const auto in = [&](const char* what) { return savings().tensors.at(name + what); };
    TokenMerging merging{ratio, TorchCpuGenerator(kSeed)};
    const auto merged = merging.match(in(".tokens"), height, width);
    ASSERT_TRUE(merged) << name;
    EXPECT_EQ(merged->count(), *in(".count").data<int64_t>()) << name;
    const Tensor y = merged->merge(in(".x"));
    EXPECT_EQ(y.shape(), Shape({2, merged->count(), 3}));
    expect_golden(merged->unmerge(y), in(".y"), name);
  }
}

TEST(TokenMerging, WholeNetworksAreTomesds) {
  for (const auto& [name, ratio] : {std::pair("unet_sd1", 0.4), {"unet_sd1", 0.9}, {"unet_sdxl", 0.3}}) {
    const Case c(name);
    TokenMerging merging{ratio, TorchCpuGenerator(kSeed)};
    const Tensor got = c.forward(c.first("sample"), c.first("t"), {.merging = &merging});
    const std::string key = fmt::format("{}.merged{}", name, ratio);
    expect_golden(got, savings().tensors.at(key), key);
  }
}

TEST(TokenMerging, IsTheSameForAnyNumberOfThreadsAndDrawsAnew) {
  const Case c("unet_sd1");
  const auto run = [&](TokenMerging& merging) {
    return c.forward(c.first("sample"), c.first("t"), {.merging = &merging});
  };
  set_thread_count(1);
  TokenMerging one{0.5, TorchCpuGenerator(7)};
  const Tensor a = run(one), next = run(one);
  set_thread_count(3);
  TokenMerging three{0.5, TorchCpuGenerator(7)};
  EXPECT_TRUE(equal(a, run(three)));
  EXPECT_TRUE(equal(next, run(three)));
  set_thread_count(0);
  EXPECT_FALSE(equal(a, next));
}

TEST(TokenMerging, LeavesWhatCannotBeMerged) {
  const Tensor tokens = savings().tensors.at("merge_2x5_0.75.tokens");
  TokenMerging merging{0.5, TorchCpuGenerator(1)};
  EXPECT_FALSE(merging.match(tokens, 1, 10));
  EXPECT_FALSE(merging.match(tokens, 10, 1));
  EXPECT_THROW(merging.match(tokens, 3, 3), Error);
  TokenMerging none{0.05, TorchCpuGenerator(1)};
  EXPECT_FALSE(none.match(tokens, 2, 5));
  TokenMerging all{1, TorchCpuGenerator(1)};
  EXPECT_EQ(all.match(tokens, 2, 5)->count(), 2);  // the destinations
  // Tokens without a direction do not upset the order.
  Tensor broken = Tensor::from(tokens.shape(), tokens.to_vector<float>());
  for (int64_t i = 0; i < 60; ++i) broken.data<float>()[i] = i < 30 ? 0.0f : NAN;
  EXPECT_EQ(all.match(broken, 2, 5)->count(), 2);
}

}  // namespace
}  // namespace sinopia
