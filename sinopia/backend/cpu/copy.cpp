#include <algorithm>
#include <cstring>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

namespace sinopia {
namespace {

constexpr int64_t kBytesGrain = kMemoryGrain * 4;

// Rows of `bytes` bytes, source_step and target_step bytes apart; long rows are cut, so that one row uses all
// threads too.
void copy_rows(const char* source, int64_t source_step, char* target, int64_t target_step, int64_t rows,
               int64_t bytes) {
  if (rows == 0 || bytes == 0) return;
  if (bytes >= kBytesGrain) {
    const int64_t pieces = (bytes + kBytesGrain - 1) / kBytesGrain;
    parallel_for(rows * pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / pieces, at = i % pieces * kBytesGrain;
        std::memcpy(target + row * target_step + at, source + row * source_step + at,
                    static_cast<size_t>(std::min(kBytesGrain, bytes - at)));
      }
    });
    return;
  }
  parallel_for(rows, std::max<int64_t>(1, kBytesGrain / bytes), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(target + row * target_step, source + row * source_step, static_cast<size_t>(bytes));
    }
  });
}

int64_t product(const Shape& shape, int begin, int end) {
  int64_t result = 1;
  for (int axis = begin; axis < end; ++axis) result *= shape.dim(axis);
  return result;
}

}  // namespace

void CpuKernels::fill(Tensor& y, float value) {
  visit_dtype(y.dtype(), [&](auto type) {
    using T = decltype(type);
    T* target = y.data<T>();
    const T element = cast_element<T>(value);
    parallel_for(y.numel(), kMemoryGrain,
                 [&](int64_t begin, int64_t end) { std::fill(target + begin, target + end, element); });
  });
}

void CpuKernels::concat(std::span<const Tensor> xs, int axis, Tensor& y) {
  const int64_t rows = product(y.shape(), 0, axis);
  if (rows == 0) return;
  const int64_t y_step = static_cast<int64_t>(y.bytes()) / rows;
  char* target = static_cast<char*>(y.raw());
  for (const Tensor& x : xs) {
    const int64_t x_step = static_cast<int64_t>(x.bytes()) / rows;
    copy_rows(static_cast<const char*>(x.raw()), x_step, target, y_step, rows, x_step);
    target += x_step;
  }
}

void CpuKernels::narrow(const Tensor& x, int axis, int64_t begin, Tensor& y) {
  const auto size = static_cast<int64_t>(size_of(x.dtype()));
  const int64_t below = product(x.shape(), axis + 1, x.rank()) * size;
  const int64_t rows = product(x.shape(), 0, axis);
  copy_rows(static_cast<const char*>(x.raw()) + begin * below, x.dim(axis) * below,
            static_cast<char*>(y.raw()), y.dim(axis) * below, rows, y.dim(axis) * below);
}

void CpuKernels::gather_rows(const Tensor& table, const Tensor& ids, Tensor& y) {
  const int64_t D = table.dim(1);
  for (int64_t i = 0; i < ids.numel(); ++i) {
    Tensor row = Tensor(Shape{D}, DType::F32, y.storage(), y.byte_offset() + static_cast<size_t>(i * D) * 4);
    convert(table.slice(ids.data<int32_t>()[i], ids.data<int32_t>()[i] + 1), row);
  }
}

}  // namespace sinopia
