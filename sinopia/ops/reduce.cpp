#include "sinopia/ops/reduce.h"

#include <array>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/checks.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"

namespace sinopia {

Moments moments(const Tensor& x, int correction) {
  checks::activation("moments", "x", x);
  checks::rank_at_least("moments", x, 1);
  SINOPIA_CHECK(correction >= 0, InvalidArgument, "[moments] expected correction >= 0, got {}", correction);
  const Shape shape{x.dim(0)};
  Moments result{Tensor::empty(shape, x.dtype(), x.device()), Tensor::empty(shape, x.dtype(), x.device())};
  kernels(x.device()).moments(x, correction, result.mean, result.variance);
  const int64_t N = x.dim(0), each = N > 0 ? x.numel() / N : 0;
  const auto of_rows = [N, each](const Tensor& v, double scale) { return v.reshape({N, 1}) * (1 / scale); };
  result.mean = record("mean", result.mean, std::array{&x}, [N, each, of_rows](const Tensor& dy) {
    return Gradients{zeros({N, each}, dy.device()) + of_rows(dy, static_cast<double>(each))};
  });
  result.variance =
      record("variance", result.variance, std::array{&x},
             [x, N, each, correction, of_rows, mean = result.mean](const Tensor& dy) {
               const Tensor away = x.reshape({N, each}) - mean.reshape({N, 1});
               return Gradients{away * of_rows(dy * 2.0, static_cast<double>(each - correction))};
             });
  return result;
}

double item(const Tensor& x) {
  SINOPIA_CHECK(x.dtype() == DType::F32 && x.numel() == 1, InvalidArgument,
                "[item] expected one f32 element, got {}", describe(x));
  return static_cast<double>(copy_to(x, {}).to_vector<float>().front());
}

bool all_finite(const Tensor& x) {
  checks::activation("all_finite", "x", x);
  return kernels(x.device()).all_finite(x);
}

RowMax row_max(const Tensor& x) {
  checks::activation("row_max", "x", x);
  checks::rank_at_least("row_max", x, 1);
  SINOPIA_CHECK(x.dim(-1) > 0, InvalidArgument, "[row_max] expected rows with elements, got {}", describe(x));
  const auto dims = x.shape().dims();
  const Shape shape(std::vector<int64_t>(dims.begin(), dims.end() - 1));
  RowMax result{Tensor::empty(shape, x.dtype(), x.device()), Tensor::empty(shape, DType::I32, x.device())};
  kernels(x.device()).row_max(x, result.value, result.place);
  return result;
}

Tensor group_mean(const Tensor& x, const Tensor& group, int64_t count) {
  checks::activation("group_mean", "x", x);
  checks::rank("group_mean", "x", x, 3);
  const Shape rows{x.dim(0), x.dim(1)};
  SINOPIA_CHECK(
      group.defined() && group.dtype() == DType::I32 && group.shape() == rows && group.device().is_cpu(),
      InvalidArgument, "[group_mean] expected groups i32 {} on the CPU, got {}", to_string(rows),
      describe(group));
  for (const int32_t g : group.values<int32_t>())
    SINOPIA_CHECK(g >= 0 && g < count, InvalidArgument, "[group_mean] expected groups in [0,{}), got {}",
                  count, g);
  Tensor y = Tensor::empty({x.dim(0), count, x.dim(2)}, x.dtype(), x.device());
  kernels(x.device()).group_mean(x, copy_to(group, x.device()), y);
  return y;
}

}  // namespace sinopia
