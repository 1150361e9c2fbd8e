#include "sinopia/ops/pool.h"

#include "sinopia/ops/checks.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

/// The larger of neighbours along an axis.
Tensor halved(const Tensor& x, int axis) {
  const int64_t half = x.dim(axis) / 2;
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  dims[static_cast<size_t>(axis)] = half;
  dims.insert(dims.begin() + axis + 1, 2);
  const Tensor pairs = narrow(x, axis, 0, 2 * half).reshape(Shape(dims));
  const Tensor larger = maximum(narrow(pairs, axis + 1, 0, 1), narrow(pairs, axis + 1, 1, 2));
  return larger.reshape(x.shape().with(axis, half));
}

}  // namespace

Tensor max_pool2(const Tensor& x) {
  checks::activation("max_pool2", "x", x);
  checks::rank("max_pool2", "x", x, 4);
  return halved(halved(x, 1), 2);
}

}  // namespace sinopia
