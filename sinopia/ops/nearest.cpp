#include "sinopia/ops/nearest.h"

#include <array>
#include <vector>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/checks.h"

namespace sinopia {

Tensor nearest_rows(const Tensor& x, const Tensor& table) {
  checks::activation("nearest_rows", "x", x);
  checks::rank_at_least("nearest_rows", x, 1);
  checks::weight("nearest_rows", "table", table, x);
  checks::rank("nearest_rows", "table", table, 2);
  SINOPIA_CHECK(table.dim(0) > 0 && table.dim(1) > 0 && table.dim(1) == x.dim(-1), InvalidArgument,
                "[nearest_rows] expected rows like those of x, got {} (x={})", describe(table),
                to_string(x.shape()));
  const auto dims = x.shape().dims();
  Tensor place =
      Tensor::empty(Shape(std::vector<int64_t>(dims.begin(), dims.end() - 1)), DType::I32, x.device());
  kernels(x.device()).nearest_rows(x, table, place);
  return place;
}

Tensor straight_through(const Tensor& value, const Tensor& through) {
  checks::activation("straight_through", "value", value);
  checks::operand("straight_through", "through", through, value);
  SINOPIA_CHECK(value.shape() == through.shape(), InvalidArgument,
                "[straight_through] expected two tensors of one shape, got {} and {}",
                to_string(value.shape()), to_string(through.shape()));
  return record("straight_through", without_gradient(value), std::array{&through},
                [](const Tensor& dy) { return Gradients{dy}; });
}

}  // namespace sinopia
