#include <cmath>
#include <numbers>

#include "sinopia/ops/activation.h"
#include "sinopia/ops/linear.h"
#include "sinopia/ops/shape.h"
#include "tests/ops/gradient_check.h"

namespace sinopia {
namespace {

using namespace testing;

Doubles mapped(const Doubles& x, double (*f)(double)) {
  Doubles y;
  for (const double v : x) y.push_back(f(v));
  return y;
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

struct UnaryCase {
  const char* name;
  Tensor (*op)(const Tensor&);
  double (*exact)(double);
  float mean = 0, scale = 2;  // of x
};

const UnaryCase kUnary[] = {
    {"silu", silu, [](double x) { return x * sigmoid_of(x); }},
    {"gelu", gelu, [](double x) { return x * 0.5 * (1 + std::erf(x / std::numbers::sqrt2)); }},
    {"gelu_tanh", gelu_tanh,
     [](double x) {
       return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
     }},
    {"quick_gelu", quick_gelu, [](double x) { return x * sigmoid_of(1.702 * x); }},
    {"relu", relu, [](double x) { return std::max(x, 0.0); }},
    {"leaky_relu", leaky_relu, [](double x) { return x > 0 ? x : static_cast<double>(0.2f) * x; }},
    {"tanh", tanh, [](double x) { return std::tanh(x); }},
    {"sigmoid", sigmoid, sigmoid_of},
    {"exp", exp, [](double x) { return std::exp(x); }, 0, 1},
    {"log", log, [](double x) { return std::log(x); }, 6, 1},
    {"sqrt", sqrt, [](double x) { return std::sqrt(x); }, 6, 1},
    {"abs", abs, [](double x) { return std::abs(x); }},
    {"square", square, [](double x) { return x * x; }},
};

TEST(Gradient, OfFunctionsOfOneTensor) {
  unsigned seed = 1;
  for (const UnaryCase& c : kUnary) {
    for (const Shape& shape : {Shape{}, Shape{3, 7}, Shape{2, 3, 41}}) {
      SCOPED_TRACE(c.name);
      check_gradients(
          {random_tensor(shape, ++seed, c.scale, c.mean)}, [&](const auto& in) { return c.op(in[0]); },
          [&](const auto& in) { return mapped(in[0], c.exact); });
    }
  }
}

TEST(Gradient, OfLargeArgumentsIsNotNan) {
  for (const UnaryCase& c : kUnary) {
    const bool positive = c.mean > 0;
    const Tensor x = make_leaf(Tensor::from<float>(
        {4}, positive ? std::vector<float>{1e-30f, 1e30f, 1, 2} : std::vector<float>{-80, 80, 0, -30}));
    const RecordGradients on;
    backward(sum(c.op(x)));
    for (const float g : gradient_of(x).to_vector<float>()) EXPECT_FALSE(std::isnan(g)) << c.name;
  }
}

/// f of broadcast operands.
Doubles broadcast(const Doubles& a, const Shape& a_shape, const Doubles& b, const Shape& b_shape,
                  const Shape& y, double (*f)(double, double)) {
  const auto at = [&](const Shape& shape, int64_t index) {
    int64_t place = 0, step = 1;
    for (int back = 1; back <= y.rank(); ++back) {
      const int64_t i = index % y.dim(-back);
      index /= y.dim(-back);
      if (back > shape.rank()) continue;
      if (shape.dim(-back) > 1) place += i * step;
      step *= shape.dim(-back);
    }
    return static_cast<size_t>(place);
  };
  Doubles result;
  for (int64_t i = 0; i < y.numel(); ++i) result.push_back(f(a[at(a_shape, i)], b[at(b_shape, i)]));
  return result;
}

TEST(Gradient, OfBroadcastPairs) {
  struct Op {
    const char* name;
    Tensor (*op)(const Tensor&, const Tensor&);
    double (*exact)(double, double);
  };
  const Op ops[] = {
      {"+", [](const Tensor& a, const Tensor& b) { return a + b; }, [](double a, double b) { return a + b; }},
      {"-", [](const Tensor& a, const Tensor& b) { return a - b; }, [](double a, double b) { return a - b; }},
      {"*", [](const Tensor& a, const Tensor& b) { return a * b; }, [](double a, double b) { return a * b; }},
      {"/", [](const Tensor& a, const Tensor& b) { return a / b; }, [](double a, double b) { return a / b; }},
      {"minimum", minimum, [](double a, double b) { return std::min(a, b); }},
      {"maximum", maximum, [](double a, double b) { return std::max(a, b); }},
  };
  struct Shapes {
    Shape a, b, y;
  };
  const Shapes shapes[] = {{{}, {}, {}},
                           {{7}, {7}, {7}},
                           {{2, 3, 17}, {}, {2, 3, 17}},
                           {{1}, {2, 3, 17}, {2, 3, 17}},
                           {{2, 3, 4, 9}, {2, 1, 1, 9}, {2, 3, 4, 9}},
                           {{2, 1, 4, 1}, {3, 1, 5}, {2, 3, 4, 5}},
                           {{2, 1, 3, 1, 2}, {1, 4, 1, 5, 1}, {2, 4, 3, 5, 2}}};
  unsigned seed = 50;
  for (const Op& op : ops) {
    for (const Shapes& s : shapes) {
      SCOPED_TRACE(op.name + to_string(s.a) + to_string(s.b));
      check_gradients(
          {random_tensor(s.a, ++seed), random_tensor(s.b, ++seed, 0.3f, 2)},
          [&](const auto& in) { return op.op(in[0], in[1]); },
          [&](const auto& in) { return broadcast(in[0], s.a, in[1], s.b, s.y, op.exact); }, 4e-6);
    }
  }
}

TEST(Gradient, OfEqualsIsSharedByMinimumAndMaximum) {
  const Tensor a = make_leaf(Tensor::from<float>({3}, std::vector<float>{1, 2, 3}));
  const Tensor b = make_leaf(Tensor::from<float>({3}, std::vector<float>{2, 2, 2}));
  const RecordGradients on;
  backward(sum(maximum(a, b)));
  EXPECT_EQ(gradient_of(a).to_vector<float>(), (std::vector<float>{0, 0.5f, 1}));
  EXPECT_EQ(gradient_of(b).to_vector<float>(), (std::vector<float>{1, 0.5f, 0}));
}

TEST(Gradient, OfPairsWithANumber) {
  unsigned seed = 90;
  const auto check = [&](const std::function<Tensor(const Tensor&)>& op, double (*exact)(double)) {
    check_gradients(
        {random_tensor({3, 11}, ++seed, 1, 3)}, [&](const auto& in) { return op(in[0]); },
        [&](const auto& in) { return mapped(in[0], exact); });
  };
  check([](const Tensor& x) { return x + 0.7; }, [](double x) { return x + 0.7; });
  check([](const Tensor& x) { return 0.7 - x; }, [](double x) { return 0.7 - x; });
  check([](const Tensor& x) { return x * -1.5; }, [](double x) { return x * -1.5; });
  check([](const Tensor& x) { return x / 3; }, [](double x) { return x / 3; });
  check([](const Tensor& x) { return -x; }, [](double x) { return -x; });
  check([](const Tensor& x) { return clamp(x, 2.5f, 3.5f); },
        [](double x) { return std::clamp(x, 2.5, 3.5); });
}

TEST(Gradient, OfSums) {
  check_gradients(
      {random_tensor({3, 5, 7}, 1)}, [](const auto& in) { return mean(in[0]); },
      [](const auto& in) {
        double total = 0;
        for (const double v : in[0]) total += v;
        return Doubles{total / 105};
      });
  // [2,3,4,5] to [3,1,5]: the first and the third axis.
  check_gradients(
      {random_tensor({2, 3, 4, 5}, 2)},
      [](const auto& in) {
        return sum_to(in[0], {3, 1, 5});
      },
      [](const auto& in) {
        Doubles y(15);
        for (int i = 0; i < 120; ++i)
          y[static_cast<size_t>(i / 20 % 3 * 5 + i % 5)] += in[0][static_cast<size_t>(i)];
        return y;
      });
}

TEST(Gradient, OfGegluAndSoftmax) {
  check_gradients(
      {random_tensor({5, 22}, 3, 2)}, [](const auto& in) { return geglu(in[0]); },
      [](const auto& in) {
        Doubles y;
        for (size_t r = 0; r < 5; ++r) {
          for (size_t i = 0; i < 11; ++i) {
            const double a = in[0][r * 22 + i], g = in[0][r * 22 + 11 + i];
            y.push_back(a * g * 0.5 * (1 + std::erf(g / std::numbers::sqrt2)));
          }
        }
        return y;
      });
  check_gradients(
      {random_tensor({4, 37}, 5, 2)}, [](const auto& in) { return softmax(in[0]); },
      [](const auto& in) {
        Doubles y;
        for (size_t r = 0; r < 4; ++r) {
          double total = 0;
          for (size_t i = 0; i < 37; ++i) total += std::exp(in[0][r * 37 + i]);
          for (size_t i = 0; i < 37; ++i) y.push_back(std::exp(in[0][r * 37 + i]) / total);
        }
        return y;
      });
}

/// y [M,N] = x [M,K] w [N,K]^T
Doubles product(const Doubles& x, const Doubles& w, size_t M, size_t N, size_t K) {
  Doubles y(M * N);
  for (size_t m = 0; m < M; ++m)
    for (size_t n = 0; n < N; ++n)
      for (size_t k = 0; k < K; ++k) y[m * N + n] += x[m * K + k] * w[n * K + k];
  return y;
}

TEST(Gradient, OfLinear) {
  for (const Activation activation : {Activation::None, Activation::Silu}) {
    for (const auto [M, N, K] : {std::array<size_t, 3>{1, 3, 2}, {9, 5, 7}, {35, 17, 33}}) {
      const auto m = static_cast<int64_t>(M), n = static_cast<int64_t>(N), k = static_cast<int64_t>(K);
      check_gradients(
          {random_tensor({1, m, k}, 11), random_tensor({n, k}, 12), random_tensor({n}, 13),
           random_tensor({1, m, n}, 14)},
          [&](const auto& in) { return linear(in[0], in[1], in[2], in[3], activation); },
          [&](const auto& in) {
            Doubles y = product(in[0], in[1], M, N, K);
            for (size_t i = 0; i < y.size(); ++i) {
              y[i] += in[2][i % N] + in[3][i];
              if (activation == Activation::Silu) y[i] *= sigmoid_of(y[i]);
            }
            return y;
          },
          4e-6);
    }
  }
}

// Frozen weights, as a fine-tuned model's others are, cost nothing and are not asked for.
TEST(Gradient, OfLinearWithFrozenHalfWeights) {
  const Tensor w = stored_as(random_tensor({5, 7}, 21), DType::F16);
  const Doubles exact = doubles(w);
  check_gradients(
      {random_tensor({3, 7}, 22)}, [&](const auto& in) { return linear(in[0], w); },
      [&](const auto& in) { return product(in[0], exact, 3, 5, 7); });
}

TEST(Gradient, OfMatmul) {
  for (const Transpose transpose : {Transpose::None, Transpose::Left, Transpose::Right}) {
    const bool left = transpose == Transpose::Left, right = transpose == Transpose::Right;
    const Shape a = left ? Shape{2, 5, 3} : Shape{2, 3, 5}, b = right ? Shape{2, 6, 5} : Shape{2, 5, 6};
    check_gradients(
        {random_tensor(a, 31), random_tensor(b, 32)},
        [&](const auto& in) { return matmul(in[0], in[1], transpose, 0.7f); },
        [&](const auto& in) {
          Doubles y(2 * 3 * 6);
          for (size_t i = 0; i < y.size(); ++i) {
            const size_t n = i % 6, m = i / 6 % 3, batch = i / 18;
            for (size_t k = 0; k < 5; ++k) {
              const size_t of_a = left ? k * 3 + m : m * 5 + k, of_b = right ? n * 5 + k : k * 6 + n;
              y[i] += static_cast<double>(0.7f) * in[0][batch * 15 + of_a] * in[1][batch * 30 + of_b];
            }
          }
          return y;
        });
  }
}

// What moves elements moves their gradients back: each is checked through a product that tells them apart.
TEST(Gradient, OfWhatMovesElements) {
  const Tensor x = random_tensor({2, 3, 5}, 41), other = random_tensor({2, 2, 5}, 42);
  const auto check = [](const std::vector<Tensor>& inputs,
                        const std::function<Tensor(const std::vector<Tensor>&)>& op) {
    std::vector<Tensor> leaves;
    for (const Tensor& input : inputs) leaves.push_back(make_leaf(input));
    const RecordGradients on;
    const Tensor y = op(leaves);
    const Tensor dy = random_tensor(y.shape(), 43);
    backward(y, dy);
    // sum(op(x) dy) is linear in x: its gradient's product with x is the sum itself.
    double expected = 0, sum_of_products = 0;
    const Doubles values = doubles(y), weights = doubles(dy);
    for (size_t i = 0; i < values.size(); ++i) expected += values[i] * weights[i];
    double magnitude = 0;
    for (const Tensor& leaf : leaves) {
      const Doubles g = doubles(gradient_of(leaf)), v = doubles(leaf);
      for (size_t i = 0; i < g.size(); ++i) {
        sum_of_products += g[i] * v[i];
        magnitude += std::abs(g[i] * v[i]);
        // Every gradient is one of dy, or nothing.
        EXPECT_TRUE(g[i] == 0 || std::ranges::count(weights, g[i]) > 0);
      }
    }
    EXPECT_NEAR(sum_of_products, expected, 1e-12 * magnitude);
  };
  check({x}, [](const auto& in) { return permute(in[0], {2, 0, 1}); });
  check({x}, [](const auto& in) { return narrow(in[0], 1, 1, 2); });
  check({x}, [](const auto& in) { return narrow(in[0], 2, 0, 4); });
  check({x}, [](const auto& in) { return narrow(in[0], 0, 1, 2); });
  check({x, other}, [](const auto& in) { return concat({in[0], in[1]}, 1); });
  check({x, x}, [](const auto& in) { return concat({in[1], in[0], in[1].slice(0, 1)}, 0).slice(0, 4); });
  check({x}, [](const auto& in) { return in[0].reshape({6, 5}).slice(1, 5).reshape({2, 10}); });
}

TEST(Gradient, OfARepeatedBatchIsTheSum) {
  check_gradients(
      {random_tensor({1, 4}, 51)}, [](const auto& in) { return expand_batch(in[0], 3); },
      [](const auto& in) {
        Doubles y;
        for (int i = 0; i < 3; ++i) y.insert(y.end(), in[0].begin(), in[0].end());
        return y;
      });
}

}  // namespace
}  // namespace sinopia
