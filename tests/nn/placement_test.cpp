#include "sinopia/nn/placement.h"

#include "sinopia/nn/parameters.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

// On the CPU nothing is copied, whatever weights are stored in; tests/cuda has the other side.
TEST(Placement, ChangesNothingOnTheCpu) {
  TensorMap tensors{{"w", stored_as(random_tensor({3, 4}, 1), DType::F16)}, {"left", random_tensor({2}, 2)}};
  const Tensor w = tensors.at("w");
  CheckpointParameters given(tensors, "test");
  PlacedParameters placed(given, {});
  const Scope scope(placed);
  EXPECT_TRUE(placed.has("left"));
  EXPECT_FALSE(placed.has("right"));
  EXPECT_EQ(scope.parameter("w", {3, 4}, Initialiser::zeros()).raw(), w.raw());
  const Place place(scope);
  EXPECT_TRUE(place.device().is_cpu());
  EXPECT_EQ(place.dtype(), DType::F32);
  const Tensor x = random_tensor({5}, 3);
  for (const Tensor& same : {place.enter(x), place.bring(x), place.leave(x, {})})
    EXPECT_EQ(same.raw(), x.raw());
  EXPECT_FALSE(place.enter({}).defined());
  EXPECT_FALSE(place.bring({}).defined());
}

TEST(Placement, IsKnownBelowTrainableParameters) {
  RandomParameters fresh(1);
  PlacedParameters placed(fresh, {{}, DType::F32});
  TrainableParameters trainable(placed);
  EXPECT_EQ(Scope(trainable).placement().device, placed.placement().device);
  EXPECT_EQ(Scope(trainable).placement().dtype, DType::F32);
}

}  // namespace
}  // namespace sinopia
