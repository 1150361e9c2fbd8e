#include "sinopia/ops/shape.h"

#include <array>
#include <vector>

#include <fmt/ranges.h>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/checks.h"

namespace sinopia {
namespace {

void check_defined(std::string_view op, const Tensor& x) {
  SINOPIA_CHECK(x.defined(), InvalidArgument, "[{}] expected a tensor, got none", op);
}

// Blocks of a quantised tensor cannot be taken apart.
void check_elements(std::string_view op, const Tensor& x) {
  SINOPIA_CHECK(!is_quantised(x.dtype()), InvalidArgument, "[{}] expected single elements, got {}", op,
                describe(x));
}

// Axis counted from the front.
int axis_of(std::string_view op, const Tensor& x, int axis) {
  const int result = axis < 0 ? axis + x.rank() : axis;
  SINOPIA_CHECK(result >= 0 && result < x.rank(), InvalidArgument, "[{}] no axis {} in {}", op, axis,
                to_string(x.shape()));
  return result;
}

}  // namespace

Tensor to_dtype(const Tensor& x, DType dtype) {
  check_defined("to_dtype", x);
  if (x.dtype() == dtype) return x;
  SINOPIA_CHECK(dtype != DType::Bool, Unsupported, "[to_dtype] cannot convert {} to bool",
                to_string(x.dtype()));
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  kernels(x.device()).convert(x, y);
  return record("to_dtype", y, std::array{&x},
                [type = x.dtype()](const Tensor& dy) { return Gradients{to_dtype(dy, type)}; });
}

Tensor to_device(const Tensor& x, Device device) {
  check_defined("to_device", x);
  if (x.device() == device) return x;
  return record("to_device", copy_to(x, device), std::array{&x},
                [from = x.device()](const Tensor& dy) { return Gradients{to_device(dy, from)}; });
}

Tensor full(const Shape& shape, float value, Device device) {
  Tensor y = Tensor::empty(shape, DType::F32, device);
  kernels(device).fill(y, value);
  return y;
}

Tensor permute(const Tensor& x, std::span<const int> axes) {
  check_defined("permute", x);
  check_elements("permute", x);
  std::array<int64_t, Shape::kMaxRank> dims{};
  std::array<bool, Shape::kMaxRank> seen{};
  bool valid = static_cast<int>(axes.size()) == x.rank();
  for (size_t i = 0; valid && i < axes.size(); ++i) {
    valid = axes[i] >= 0 && axes[i] < x.rank() && !seen[static_cast<size_t>(axes[i])];
    if (!valid) break;
    seen[static_cast<size_t>(axes[i])] = true;
    dims[i] = x.dim(axes[i]);
  }
  SINOPIA_CHECK(valid, InvalidArgument, "[permute] expected each axis of {} once, got [{}]",
                to_string(x.shape()), fmt::join(axes, ","));
  Tensor y = Tensor::empty(Shape(std::span<const int64_t>(dims.data(), axes.size())), x.dtype(), x.device());
  kernels(x.device()).permute(x, axes, y);
  std::array<int, Shape::kMaxRank> back{};
  for (size_t i = 0; i < axes.size(); ++i) back[static_cast<size_t>(axes[i])] = static_cast<int>(i);
  return record("permute", y, std::array{&x}, [back, rank = axes.size()](const Tensor& dy) {
    return Gradients{permute(dy, std::span<const int>(back.data(), rank))};
  });
}

Tensor channels_last(const Tensor& x) {
  checks::rank("channels_last", "x", x, 4);
  return permute(x, {0, 2, 3, 1});
}

Tensor channels_first(const Tensor& x) {
  checks::rank("channels_first", "x", x, 4);
  return permute(x, {0, 3, 1, 2});
}

Tensor concat(std::span<const Tensor> xs, int axis) {
  SINOPIA_CHECK(!xs.empty(), InvalidArgument, "[concat] expected at least one tensor, got none");
  const Tensor& first = xs.front();
  check_defined("concat", first);
  const int along = axis_of("concat", first, axis);
  if (xs.size() == 1) return first;
  int64_t total = 0;
  for (const Tensor& x : xs) {
    const bool agrees = x.defined() && x.dtype() == first.dtype() && x.device() == first.device() &&
                        x.rank() == first.rank() && x.shape().with(along, first.dim(along)) == first.shape();
    SINOPIA_CHECK(agrees, InvalidArgument, "[concat] expected {} but for axis {}, got {}", describe(first),
                  along, describe(x));
    total += x.dim(along);
  }
  Tensor y = Tensor::empty(first.shape().with(along, total), first.dtype(), first.device());
  kernels(first.device()).concat(xs, along, y);
  if (!recording_gradients()) return y;
  std::vector<const Tensor*> inputs;
  std::vector<int64_t> extents;
  for (const Tensor& x : xs) {
    inputs.push_back(&x);
    extents.push_back(x.dim(along));
  }
  return record("concat", y, inputs, [along, extents](const Tensor& dy, const Wanted& wanted) {
    Gradients gradients;
    int64_t begin = 0;
    for (size_t i = 0; i < extents.size(); begin += extents[i++])
      gradients.push_back(wanted[i] ? narrow(dy, along, begin, begin + extents[i]) : Tensor());
    return gradients;
  });
}

Tensor narrow(const Tensor& x, int axis, int64_t begin, int64_t end) {
  check_defined("narrow", x);
  const int along = axis_of("narrow", x, axis);
  SINOPIA_CHECK(0 <= begin && begin <= end && end <= x.dim(along), InvalidArgument,
                "[narrow] expected 0 <= begin <= end <= {}, got [{},{}) of axis {} of {}", x.dim(along),
                begin, end, along, to_string(x.shape()));
  if (along == 0) return x.slice(begin, end);
  check_elements("narrow", x);
  Tensor y = Tensor::empty(x.shape().with(along, end - begin), x.dtype(), x.device());
  kernels(x.device()).narrow(x, along, begin, y);
  return record("narrow", y, std::array{&x}, [along, begin, end, shape = x.shape()](const Tensor& dy) {
    const auto nothing = [&](int64_t extent) {
      return to_dtype(zeros(shape.with(along, extent), dy.device()), dy.dtype());
    };
    return Gradients{concat({nothing(begin), dy, nothing(shape.dim(along) - end)}, along)};
  });
}

Tensor expand_batch(const Tensor& x, int64_t count) {
  check_defined("expand_batch", x);
  checks::rank_at_least("expand_batch", x, 1);
  if (x.dim(0) == count) return x;
  SINOPIA_CHECK(x.dim(0) == 1 && count >= 0, InvalidArgument,
                "[expand_batch] expected a batch of 1 or {}, got x={}", count, to_string(x.shape()));
  if (count == 0) return x.slice(0, 0);
  return concat(std::vector<Tensor>(static_cast<size_t>(count), x), 0);
}

}  // namespace sinopia
