#include <algorithm>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sinopia/backend/cpu/elementwise_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sinopia/backend/cpu/math-inl.h"
#include "sinopia/backend/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinopia {
namespace HWY_NAMESPACE {

/// f'(x) of an activation or another function.
template <UnaryOp kOp, class D, class V = hn::Vec<D>>
HWY_INLINE V Derivative(D d, V x) {
  const V one = hn::Set(d, 1.0f), half = hn::Set(d, 0.5f);
  // f = x sigmoid(a(x)): s + x a' s (1 - s)
  const auto gated = [&](V a, V slope) HWY_ATTR {
    const V s = Sigmoid(d, a);
    return hn::MulAdd(hn::Mul(hn::Mul(x, slope), s), hn::Sub(one, s), s);
  };
  if constexpr (kOp == UnaryOp::Silu) {
    return gated(x, one);
  } else if constexpr (kOp == UnaryOp::Gelu) {
    const V normal = hn::Mul(half, hn::Add(one, Erf(d, hn::Mul(x, hn::Set(d, 0.70710678f)))));
    const V density = hn::Mul(hn::Set(d, 0.39894228f), Exp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f))));
    return hn::MulAdd(x, density, normal);
  } else if constexpr (kOp == UnaryOp::GeluTanh) {
    const V square = hn::Mul(x, x), scale = hn::Set(d, 1.59576912f);
    const V inner = hn::MulAdd(square, hn::Set(d, 0.044715f), one);
    const V slope = hn::MulAdd(square, hn::Set(d, 3 * 0.044715f), one);
    return gated(hn::Mul(hn::Mul(x, scale), inner), hn::Mul(scale, slope));
  } else if constexpr (kOp == UnaryOp::QuickGelu) {
    const V scale = hn::Set(d, 1.702f);
    return gated(hn::Mul(x, scale), scale);
  } else if constexpr (kOp == UnaryOp::Relu) {
    return hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), one);
  } else if constexpr (kOp == UnaryOp::LeakyRelu) {
    return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), one, hn::Set(d, kLeak));
  } else if constexpr (kOp == UnaryOp::Tanh) {
    const V t = Tanh(d, x);
    return hn::NegMulAdd(t, t, one);
  } else if constexpr (kOp == UnaryOp::Sigmoid) {
    const V s = Sigmoid(d, x);
    return hn::Mul(s, hn::Sub(one, s));
  } else if constexpr (kOp == UnaryOp::Exp) {
    return Exp(d, x);
  } else if constexpr (kOp == UnaryOp::Log) {
    return hn::Div(one, x);
  } else if constexpr (kOp == UnaryOp::Sqrt) {
    return hn::Div(half, hn::Sqrt(x));
  } else if constexpr (kOp == UnaryOp::Abs) {
    return hn::IfThenZeroElse(hn::Eq(x, hn::Zero(d)), hn::CopySign(one, x));
  } else {
    static_assert(kOp == UnaryOp::Square);
    return hn::Add(x, x);
  }
}

/// dx[i] = op(x[i], dy[i])
template <class Op>
void Map2(const Op& op, const float* x, const float* dy, float* dx, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(op(d, hn::LoadU(d, x + i), hn::LoadU(d, dy + i)), d, dx + i);
  for (; i < n; ++i) hn::StoreU(op(d1, hn::LoadU(d1, x + i), hn::LoadU(d1, dy + i)), d1, dx + i);
}

template <UnaryOp kOp>
struct ChainOp {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V dy) const {
    return hn::Mul(dy, Derivative<kOp>(d, x));
  }
};
struct InsideOp {
  float low, high;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V dy) const {
    return hn::IfThenElseZero(hn::And(hn::Ge(x, hn::Set(d, low)), hn::Le(x, hn::Set(d, high))), dy);
  }
};

void UnaryBackwardRun(UnaryOp op, const float* x, const float* dy, float* dx, size_t n) {
  switch (op) {
    case UnaryOp::Silu:
      return Map2(ChainOp<UnaryOp::Silu>(), x, dy, dx, n);
    case UnaryOp::Gelu:
      return Map2(ChainOp<UnaryOp::Gelu>(), x, dy, dx, n);
    case UnaryOp::GeluTanh:
      return Map2(ChainOp<UnaryOp::GeluTanh>(), x, dy, dx, n);
    case UnaryOp::QuickGelu:
      return Map2(ChainOp<UnaryOp::QuickGelu>(), x, dy, dx, n);
    case UnaryOp::Relu:
      return Map2(ChainOp<UnaryOp::Relu>(), x, dy, dx, n);
    case UnaryOp::LeakyRelu:
      return Map2(ChainOp<UnaryOp::LeakyRelu>(), x, dy, dx, n);
    case UnaryOp::Tanh:
      return Map2(ChainOp<UnaryOp::Tanh>(), x, dy, dx, n);
    case UnaryOp::Sigmoid:
      return Map2(ChainOp<UnaryOp::Sigmoid>(), x, dy, dx, n);
    case UnaryOp::Exp:
      return Map2(ChainOp<UnaryOp::Exp>(), x, dy, dx, n);
    case UnaryOp::Log:
      return Map2(ChainOp<UnaryOp::Log>(), x, dy, dx, n);
    case UnaryOp::Sqrt:
      return Map2(ChainOp<UnaryOp::Sqrt>(), x, dy, dx, n);
    case UnaryOp::Abs:
      return Map2(ChainOp<UnaryOp::Abs>(), x, dy, dx, n);
    case UnaryOp::Square:
      return Map2(ChainOp<UnaryOp::Square>(), x, dy, dx, n);
  }
}

void ClampBackwardRun(float low, float high, const float* x, const float* dy, float* dx, size_t n) {
  Map2(InsideOp{low, high}, x, dy, dx, n);
}

/// Of a row x [2D] = (a, g) with y = a gelu(g): dx = (dy gelu(g), dy a gelu'(g)).
void GegluBackwardRow(const float* x, const float* dy, float* dx, size_t n) {
  const auto row = [&](auto d, size_t i) HWY_ATTR {
    const auto a = hn::LoadU(d, x + i), g = hn::LoadU(d, x + n + i), v = hn::LoadU(d, dy + i);
    hn::StoreU(hn::Mul(v, Activate<Activation::Gelu>(d, g)), d, dx + i);
    hn::StoreU(hn::Mul(hn::Mul(v, a), Derivative<UnaryOp::Gelu>(d, g)), d, dx + n + i);
  };
  const hn::ScalableTag<float> d;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) row(d, i);
  for (; i < n; ++i) row(hn::CappedTag<float, 1>(), i);
}

struct ProductTerm {
  const float *a, *b;
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    return hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
  }
};

struct SoftmaxOp {
  float mean;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V y, V dy) const {
    return hn::Mul(y, hn::Sub(dy, hn::Set(d, mean)));
  }
};

void SoftmaxBackwardRow(const float* y, const float* dy, float* dx, size_t n) {
  const auto mean = static_cast<float>(SumOver(n, ProductTerm{y, dy}));
  Map2(SoftmaxOp{mean}, y, dy, dx, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace sinopia
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinopia {

HWY_EXPORT(UnaryBackwardRun);
HWY_EXPORT(ClampBackwardRun);
HWY_EXPORT(GegluBackwardRow);
HWY_EXPORT(SoftmaxBackwardRow);

namespace {

/// run(offset, elements) on pieces of n elements.
template <class Run>
void for_pieces(int64_t n, int64_t grain, const Run& run) {
  parallel_for(n, grain, [&](int64_t begin, int64_t end) { run(begin, static_cast<size_t>(end - begin)); });
}

/// run(row) on rows of D elements.
template <class Run>
void for_rows(int64_t rows, int64_t D, const Run& run) {
  parallel_for(rows, std::max<int64_t>(1, kMathGrain / D), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) run(row);
  });
}

}  // namespace

void CpuKernels::unary_backward(UnaryOp op, const Tensor& x, const Tensor& dy, Tensor& dx) {
  for_pieces(x.numel(), kMathGrain, [&](int64_t at, size_t n) {
    HWY_DYNAMIC_DISPATCH(UnaryBackwardRun)
    (op, x.data<float>() + at, dy.data<float>() + at, dx.data<float>() + at, n);
  });
}

void CpuKernels::clamp_backward(const Tensor& x, float low, float high, const Tensor& dy, Tensor& dx) {
  for_pieces(x.numel(), kMemoryGrain, [&](int64_t at, size_t n) {
    HWY_DYNAMIC_DISPATCH(ClampBackwardRun)
    (low, high, x.data<float>() + at, dy.data<float>() + at, dx.data<float>() + at, n);
  });
}

void CpuKernels::geglu_backward(const Tensor& x, const Tensor& dy, Tensor& dx) {
  if (dy.numel() == 0) return;
  const int64_t D = dy.dim(-1);
  for_rows(dy.numel() / D, D, [&](int64_t row) {
    HWY_DYNAMIC_DISPATCH(GegluBackwardRow)
    (x.data<float>() + row * 2 * D, dy.data<float>() + row * D, dx.data<float>() + row * 2 * D,
     static_cast<size_t>(D));
  });
}

void CpuKernels::softmax_backward(const Tensor& y, const Tensor& dy, Tensor& dx) {
  if (y.numel() == 0) return;
  const int64_t D = y.dim(-1);
  for_rows(y.numel() / D, D, [&](int64_t row) {
    HWY_DYNAMIC_DISPATCH(SoftmaxBackwardRow)
    (y.data<float>() + row * D, dy.data<float>() + row * D, dx.data<float>() + row * D,
     static_cast<size_t>(D));
  });
}

void CpuKernels::sum_middle(const Tensor& x, Tensor& y) {
  const int64_t A = x.dim(0), R = x.dim(1), B = x.dim(2);
  // Rows are added in blocks, in double from block to block: any R keeps the precision of a short sum. Blocks
  // are tasks of their own, and their sums are added in their order.
  constexpr int64_t kRows = 128;
  const int64_t blocks = std::max<int64_t>(1, (R + kRows - 1) / kRows);
  std::vector<float> partial(static_cast<size_t>(A * blocks * B));
  parallel_for(A * blocks, std::max<int64_t>(1, kMemoryGrain / std::max<int64_t>(1, kRows * B)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t a = i / blocks, first = i % blocks * kRows;
                   float* sums = partial.data() + i * B;
                   for (int64_t r = first; r < std::min(R, first + kRows); ++r) {
                     const float* row = x.data<float>() + (a * R + r) * B;
                     for (int64_t b = 0; b < B; ++b) sums[b] += row[b];
                   }
                 }
               });
  parallel_for(A, std::max<int64_t>(1, kMemoryGrain / std::max<int64_t>(1, blocks * B)),
               [&](int64_t begin, int64_t end) {
                 std::vector<double> sums(static_cast<size_t>(B));
                 for (int64_t a = begin; a < end; ++a) {
                   std::fill(sums.begin(), sums.end(), 0.0);
                   for (int64_t i = 0; i < blocks; ++i) {
                     const float* from = partial.data() + (a * blocks + i) * B;
                     for (int64_t b = 0; b < B; ++b)
                       sums[static_cast<size_t>(b)] += static_cast<double>(from[b]);
                   }
                   for (int64_t b = 0; b < B; ++b)
                     y.data<float>()[a * B + b] = static_cast<float>(sums[static_cast<size_t>(b)]);
                 }
               });
}

}  // namespace sinopia
#endif  // HWY_ONCE
