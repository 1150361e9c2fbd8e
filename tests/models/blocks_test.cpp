#include "sinopia/models/blocks/res_block.h"
#include "sinopia/models/blocks/self_attention.h"
#include "sinopia/models/unet/transformer.h"
#include "sinopia/ops/activation.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

TEST(Blocks, ResBlockIsDiffusers) {
  for (const auto& [name, out] : {std::pair{"res_block", 24}, {"res_block_same", 16}}) {
    const Golden golden(name);
    const auto block = golden.build<ResBlock>(16, out, 24, 4, 1e-5f);
    expect_golden(block(golden.in("x"), silu(golden.in("time"))), golden.out("y"), name);
  }
  const Golden golden("res_block_no_time");
  const auto block = golden.build<ResBlock>(16, 24, 0, 4, 1e-6f);
  expect_golden(block(golden.in("x")), golden.out("y"), "res_block_no_time");
}

TEST(Blocks, TransformerIsDiffusers) {
  for (const auto& [name, context_dim] :
       {std::pair{"transformer_conv", 12}, {"transformer_linear", 12}, {"transformer_alone", 0}}) {
    const Golden golden(name);
    ContextSlots slots = 0;
    const TransformerShape shape{16, 4, 2, context_dim, false, 4};
    CheckpointParameters parameters(golden.weights(), name);
    const SpatialTransformer transformer(Scope(parameters), shape, slots);
    parameters.finish();
    EXPECT_EQ(slots, context_dim > 0 ? 2 : 0);
    UNetContext context;
    context.layers.resize(static_cast<size_t>(slots));
    transformer.prepare(golden.in("text"), context);
    expect_golden(transformer(golden.in("x"), context), golden.out("y"), name);
  }
}

TEST(Blocks, DownsampleIsDiffusers) {
  for (const auto& [name, all_sides] : {std::pair{"downsample", true}, {"downsample_asymmetric", false}}) {
    const Golden golden(name);
    const auto down = golden.build<Downsample>(16, all_sides);
    expect_golden(down(golden.in("odd")), golden.out("odd"), std::string(name) + "_odd");
    expect_golden(down(golden.in("even")), golden.out("even"), std::string(name) + "_even");
  }
}

TEST(Blocks, UpsampleIsDiffusers) {
  const Golden golden("upsample");
  const auto up = golden.build<Upsample>(16);
  expect_golden(up(golden.in("x"), 14, 10), golden.out("double"), "upsample_double");
  expect_golden(up(golden.in("x"), 13, 9), golden.out("sized"), "upsample_sized");
}

TEST(Blocks, SelfAttentionIsDiffusers) {
  const Golden golden("self_attention");
  const auto attention = golden.build<SelfAttention>(16, 1, 4, 1e-6f);
  expect_golden(attention(golden.in("x")), golden.out("y"), "self_attention");
}

TEST(Blocks, KeepsTheWeightsStrict) {
  TensorMap weights = Golden("self_attention").weights();
  weights.erase("to_k.bias");
  CheckpointParameters missing(weights, "test");
  EXPECT_THROW(SelfAttention(Scope(missing), 16, 1, 4, 1e-6f), Error);
  weights = Golden("self_attention").weights();
  weights["to_z.bias"] = weights["to_q.bias"];
  CheckpointParameters extra(weights, "test");
  SelfAttention(Scope(extra), 16, 1, 4, 1e-6f);
  EXPECT_THROW(extra.finish(), Error);
}

}  // namespace
}  // namespace sinopia
