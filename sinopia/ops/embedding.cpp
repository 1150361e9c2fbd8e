#include "sinopia/ops/embedding.h"

#include <array>
#include <vector>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/checks.h"
#include "sinopia/ops/shape.h"

namespace sinopia {

Tensor embedding(const Tensor& table, const Tensor& ids) {
  SINOPIA_CHECK(ids.defined() && ids.dtype() == DType::I32, InvalidArgument,
                "[embedding] expected i32 ids, got {}", describe(ids));
  checks::matrix("embedding", "table", table, table);
  const Tensor here = copy_to(ids, {});
  for (int32_t id : here.values<int32_t>()) {
    SINOPIA_CHECK(id >= 0 && id < table.dim(0), InvalidArgument, "[embedding] expected ids in [0,{}), got {}",
                  table.dim(0), id);
  }
  std::vector<int64_t> dims(ids.shape().dims().begin(), ids.shape().dims().end());
  dims.push_back(table.dim(1));
  const Device device = table.device();
  const bool in_halves = !device.is_cpu() && (table.dtype() == DType::F16 || table.dtype() == DType::BF16);
  Tensor y = Tensor::empty(Shape(dims), in_halves ? table.dtype() : DType::F32, device);
  const Tensor places = copy_to(ids, device);
  kernels(device).gather_rows(table, places, y);
  return record("embedding", y, std::array{&table}, [shape = table.shape(), places](const Tensor& dy) {
    Tensor dtable = Tensor::empty(shape, DType::F32, dy.device());
    kernels(dy.device()).sum_rows(to_dtype(dy, DType::F32), places, dtable);
    return Gradients{dtable};
  });
}

Tensor timestep_embedding(const Tensor& t, const TimestepEmbeddingOptions& options) {
  checks::activation("timestep_embedding", "t", t);
  checks::rank("timestep_embedding", "t", t, 1);
  SINOPIA_CHECK(
      options.dim >= 2 && static_cast<float>(options.dim / 2) != options.shift && options.max_period > 0,
      InvalidArgument,
      "[timestep_embedding] expected dim >= 2, shift other than dim / 2 and a positive period, "
      "got {}, {} and {}",
      options.dim, options.shift, options.max_period);
  Tensor y = Tensor::empty({t.dim(0), options.dim}, t.dtype(), t.device());
  kernels(t.device()).timestep_embedding(t, options.cos_first, options.shift, options.max_period, y);
  return y;
}

}  // namespace sinopia
