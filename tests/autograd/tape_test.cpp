#include "sinopia/autograd/tape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/backend/kernels.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using testing::kind_of;

// Two ops whose gradients are plain, so that what is tested here is the tape.
Tensor apply(BinaryOp op, const Tensor& a, const Tensor& b) {
  Tensor y = empty_like(a);
  cpu_kernels().binary(op, a, b, y);
  return y;
}

Tensor multiply(const Tensor& a, const Tensor& b) {
  return record("multiply", apply(BinaryOp::Multiply, a, b), std::array{&a, &b},
                [a, b](const Tensor& dy, const Wanted& wanted) {
                  return Gradients{wanted[0] ? apply(BinaryOp::Multiply, dy, b) : Tensor(),
                                   wanted[1] ? apply(BinaryOp::Multiply, dy, a) : Tensor()};
                });
}

Tensor add(const Tensor& a, const Tensor& b) {
  return record("add", apply(BinaryOp::Add, a, b), std::array{&a, &b}, [](const Tensor& dy) {
    return Gradients{dy, dy};
  });
}

Tensor sum(const Tensor& x) {
  double total = 0;
  for (const float v : x.values<float>()) total += v;
  return record("sum", Tensor::from<float>({}, std::vector{static_cast<float>(total)}), std::array{&x},
                [shape = x.shape()](const Tensor& dy) {
                  Tensor dx = Tensor::empty(shape);
                  cpu_kernels().fill(dx, dy.data<float>()[0]);
                  return Gradients{dx};
                });
}

Tensor leaf(const Shape& shape, std::vector<float> values) {
  return make_leaf(Tensor::from<float>(shape, values));
}

TEST(Tape, GoesBackThroughEveryUseOfATensor) {
  const RecordGradients on;
  const Tensor x = leaf({3}, {1, 2, 3}), w = leaf({3}, {4, 5, 6});
  const Tensor y = multiply(x, w);                // x w
  backward(sum(add(multiply(y, y), add(y, x))));  // x^2 w^2 + x w + x
  EXPECT_THAT(gradient_of(x).to_vector<float>(), ElementsAre(2 * 16 + 4 + 1, 4 * 25 + 5 + 1, 6 * 36 + 6 + 1));
  EXPECT_THAT(gradient_of(w).to_vector<float>(), ElementsAre(2 * 4 + 1, 4 * 2 * 5 + 2, 9 * 2 * 6 + 3));
}

TEST(Tape, AddsUpOverCallsUntilItIsCleared) {
  const RecordGradients on;
  const Tensor x = leaf({2}, {1, 2});
  EXPECT_FALSE(gradient_of(x));
  for (int i = 0; i < 3; ++i) backward(sum(multiply(x, x)));
  EXPECT_THAT(gradient_of(x).to_vector<float>(), ElementsAre(6, 12));
  clear_gradient(x);
  EXPECT_FALSE(gradient_of(x));
  backward(multiply(x, x), Tensor::from<float>({2}, std::vector<float>{1, 10}));
  EXPECT_THAT(gradient_of(x).to_vector<float>(), ElementsAre(2, 40));
}

// A gradient that a leaf was given is never changed afterwards: others may share its elements.
TEST(Tape, NeverChangesAGradientThatWasSeen) {
  const RecordGradients on;
  const Tensor x = leaf({4}, {1, 1, 1, 1});
  const Tensor dy = Tensor::from<float>({4}, std::vector<float>{1, 2, 3, 4});
  backward(add(x, without_gradient(x)), dy);
  const Tensor before = gradient_of(x);
  backward(add(x.slice(1, 2), x.slice(3, 4)), Tensor::from<float>({1}, std::vector<float>{10}));
  EXPECT_THAT(dy.to_vector<float>(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(before.to_vector<float>(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(gradient_of(x).to_vector<float>(), ElementsAre(1, 12, 3, 14));
}

TEST(Tape, FlowsThroughViews) {
  const RecordGradients on;
  const Tensor x = leaf({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor square = multiply(x, x);
  const Tensor rows = square.reshape({3, 2}).slice(1, 3).reshape({4});  // elements 2 to 5
  backward(sum(multiply(rows.slice(1, 3), rows.slice(2, 4))));          // 4^2 5^2 + 5^2 6^2
  EXPECT_EQ(gradient_of(x).shape(), (Shape{2, 3}));
  EXPECT_THAT(gradient_of(x).to_vector<float>(),
              ElementsAre(0, 0, 0, 2 * 4 * 25, 2 * 5 * (16 + 36), 2 * 6 * 25));
}

TEST(Tape, IsFreeWhereNothingIsWanted) {
  const Tensor x = leaf({2}, {1, 2}), constant = without_gradient(x);
  const int64_t before = recorded_ops();
  EXPECT_FALSE(wants_gradient(multiply(x, x)));
  {
    const RecordGradients on;
    EXPECT_FALSE(wants_gradient(multiply(constant, constant)));
    const RecordGradients off(false);
    EXPECT_FALSE(wants_gradient(multiply(x, x)));
  }
  EXPECT_FALSE(recording_gradients());
  EXPECT_EQ(recorded_ops(), before);
}

TEST(Tape, ComputesOnlyWhatIsWanted) {
  const RecordGradients on;
  const Tensor x = leaf({1}, {2});
  Wanted asked;
  const Tensor y = record("probe", Tensor::from<float>({1}, std::vector<float>{0}),
                          std::array<const Tensor*, 2>{&x, &x}, [&](const Tensor& dy, const Wanted& wanted) {
                            asked = wanted;
                            return Gradients{dy, {}};
                          });
  const Tensor constant = without_gradient(x);
  const Tensor z = record("probe", Tensor::from<float>({1}, std::vector<float>{0}), std::array{&constant, &y},
                          [&](const Tensor& dy, const Wanted& wanted) {
                            EXPECT_THAT(wanted, ElementsAre(false, true));
                            return Gradients{{}, dy};
                          });
  backward(z);
  EXPECT_THAT(asked, ElementsAre(true, true));
  EXPECT_THAT(gradient_of(x).to_vector<float>(), ElementsAre(1));
}

TEST(Tape, LetsGoOfWhatItKept) {
  const RecordGradients on;
  const Tensor x = leaf({2}, {1, 2});
  std::weak_ptr<Storage> kept;
  Tensor y;
  {
    const Tensor middle = multiply(x, x);
    kept = middle.storage();
    y = sum(multiply(middle, middle));
  }
  EXPECT_FALSE(kept.expired());
  backward(y);
  EXPECT_TRUE(kept.expired());
}

TEST(Tape, GoesThroughLongChainsWithoutTheStack) {
  const RecordGradients on;
  const Tensor x = leaf({1}, {1});
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = add(y, x);
  backward(y);
  EXPECT_THAT(gradient_of(x).to_vector<float>(), ElementsAre(200001));
}

TEST(Tape, AChainThatIsDroppedDoesNotNeedTheStackEither) {
  const RecordGradients on;
  const Tensor x = leaf({1}, {1});
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = add(y, x);
}

TEST(Tape, RefusesWhatMakesNoSense) {
  using enum ErrorKind;
  const RecordGradients on;
  const Tensor x = leaf({2}, {1, 2});
  const Tensor y = multiply(x, x);
  EXPECT_EQ(kind_of([&] { backward(y); }), InvalidArgument) << "no scalar";
  EXPECT_EQ(kind_of([&] { backward(y, Tensor::from<float>({1}, std::vector<float>{1})); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { backward(without_gradient(y)); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { gradient_of(y); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { gradient_of(Tensor()); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { make_leaf(Tensor()); }), InvalidArgument);
  EXPECT_EQ(kind_of([&] { make_leaf(Tensor::empty({2}, DType::F16)); }), InvalidArgument);
  const Tensor loss = sum(y);
  backward(loss);
  EXPECT_EQ(kind_of([&] { backward(loss); }), InvalidArgument) << "gone through before";
  EXPECT_EQ(kind_of([&] { backward(sum(multiply(y, y))); }), InvalidArgument) << "a part gone through before";
  const auto wrong = [&](Gradients gradients) {
    return kind_of([&] {
      backward(record("wrong", Tensor::from<float>({}, std::vector<float>{1}), std::array{&x},
                      [gradients](const Tensor&) { return gradients; }));
    });
  };
  EXPECT_EQ(wrong({}), InvalidArgument);
  EXPECT_EQ(wrong({Tensor::empty({3})}), InvalidArgument);
}

TEST(Checkpointed, GivesTheSameBits) {
  const RecordGradients on;
  const auto run = [](bool checkpoint) {
    const Tensor x = leaf({3}, {0.1f, 0.7f, -1.3f}), w = leaf({3}, {1.1f, 0.3f, 2.2f});
    const Tensor constant = Tensor::from<float>({3}, std::vector<float>{3, 4, 5});
    const auto body = [&](const std::vector<Tensor>& in) {
      return multiply(add(multiply(in[0], w), in[1]), multiply(in[0], in[0]));
    };
    const Tensor y = checkpoint ? checkpointed(body, {x, constant}) : body({x, constant});
    backward(sum(multiply(y, w)));
    return std::pair(gradient_of(x).to_vector<float>(), gradient_of(w).to_vector<float>());
  };
  EXPECT_EQ(run(true), run(false));
}

TEST(Checkpointed, KeepsOnlyItsInputs) {
  const RecordGradients on;
  const Tensor x = leaf({3}, {1, 2, 3});
  std::vector<std::weak_ptr<Storage>> inside;
  const Tensor y = checkpointed(
      [&](const std::vector<Tensor>& in) {
        const Tensor middle = multiply(in[0], in[0]);
        inside.push_back(middle.storage());
        return multiply(middle, middle);
      },
      {x});
  EXPECT_TRUE(inside.at(0).expired());
  backward(sum(y));
  EXPECT_EQ(inside.size(), 2u);
  EXPECT_TRUE(inside.at(1).expired());
  EXPECT_THAT(gradient_of(x).to_vector<float>(), ElementsAre(4, 32, 108));
}

TEST(Checkpointed, RunsPlainlyWhenNothingIsRecorded) {
  const Tensor x = leaf({1}, {3});
  int runs = 0;
  const Tensor y = checkpointed(
      [&](const std::vector<Tensor>& in) {
        ++runs;
        return multiply(in[0], in[0]);
      },
      {x});
  EXPECT_EQ(runs, 1);
  EXPECT_FALSE(wants_gradient(y));
}

}  // namespace
}  // namespace sinopia
