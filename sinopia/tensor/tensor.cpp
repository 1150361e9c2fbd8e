#include "sinopia/tensor/tensor.h"

#include <fmt/format.h>

#include "sinopia/tensor/allocator.h"

namespace sinopia {
namespace {

size_t bytes_of(const Shape& shape, DType dtype) {
  const int64_t block = block_elements(dtype);
  SINOPIA_CHECK(block == 1 || (shape.rank() > 0 && shape.dim(-1) % block == 0), InvalidArgument,
                "[tensor] expected a last axis in blocks of {} for {}, got {}", block, to_string(dtype),
                to_string(shape));
  return static_cast<size_t>(shape.numel() / block) * block_bytes(dtype);
}

}  // namespace

Tensor::Tensor(Shape shape, DType dtype, std::shared_ptr<Storage> storage, size_t byte_offset)
    : shape_(shape),
      dtype_(dtype),
      storage_(std::move(storage)),
      byte_offset_(byte_offset),
      bytes_(bytes_of(shape, dtype)) {
  SINOPIA_CHECK(storage_ && byte_offset_ <= storage_->bytes() && bytes() <= storage_->bytes() - byte_offset_,
                InvalidArgument, "[tensor] {} {} does not fit its storage of {} bytes at offset {}",
                to_string(dtype_), to_string(shape_), storage_ ? storage_->bytes() : 0, byte_offset_);
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  return Tensor(shape, dtype, Storage::allocate(bytes_of(shape, dtype), device));
}

Tensor Tensor::reshape(const Shape& shape) const {
  SINOPIA_CHECK(shape.numel() == numel(), InvalidArgument, "[reshape] {} does not have the elements of {}",
                to_string(shape), to_string(shape_));
  SINOPIA_CHECK(!is_quantised(dtype_) || (shape.rank() > 0 && shape.dim(-1) == dim(-1)), InvalidArgument,
                "[reshape] expected a last axis of {} for {}, got {}", dim(-1), to_string(dtype_),
                to_string(shape));
  Tensor result = *this;
  result.shape_ = shape;
  return result;
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  SINOPIA_CHECK(rank() >= 1 && begin >= 0 && begin <= end && end <= dim(0), InvalidArgument,
                "[slice] expected 0 <= begin <= end <= {}, got [{},{}) of {}", rank() ? dim(0) : 0, begin,
                end, to_string(shape_));
  SINOPIA_CHECK(rank() > 1 || !is_quantised(dtype_), InvalidArgument, "[slice] cannot cut a vector of {}",
                to_string(dtype_));
  Tensor result = *this;
  result.shape_ = shape_.with(0, end - begin);
  const size_t row_bytes = dim(0) ? bytes() / static_cast<size_t>(dim(0)) : 0;
  result.byte_offset_ += static_cast<size_t>(begin) * row_bytes;
  result.bytes_ = static_cast<size_t>(end - begin) * row_bytes;
  return result;
}

void Tensor::check_type(DType asked) const {
  SINOPIA_CHECK(defined() && dtype_ == asked, InvalidArgument, "[tensor] expected {} elements, got {}",
                to_string(asked), describe(*this));
}

void Tensor::check_on_cpu() const {
  SINOPIA_CHECK(device().is_cpu(), InvalidArgument, "[tensor] expected elements on the CPU, got {}",
                describe(*this));
}

Tensor copy_to(const Tensor& x, Device device) {
  SINOPIA_CHECK(x.defined(), InvalidArgument, "[copy_to] expected a tensor, got none");
  if (x.device() == device) return x;
  Tensor y = Tensor::empty(x.shape(), x.dtype(), device);
  SINOPIA_CHECK(x.device().is_cpu() || device.is_cpu(), Unsupported, "[copy_to] from {} to {}: go by the CPU",
                to_string(x.device()), to_string(device));
  if (x.bytes() > 0) allocator(device.is_cpu() ? x.device() : device).copy(y.raw(), x.raw(), x.bytes());
  return y;
}

std::string describe(const Tensor& x) {
  if (!x.defined()) return "absent";
  const std::string kind = fmt::format("{} {}", to_string(x.dtype()), to_string(x.shape()));
  return x.device().is_cpu() ? kind : fmt::format("{} on {}", kind, to_string(x.device()));
}

}  // namespace sinopia
