#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "sinopia/base/error.h"
#include "sinopia/tensor/device.h"
#include "sinopia/tensor/dtype.h"
#include "sinopia/tensor/shape.h"
#include "sinopia/tensor/storage.h"

namespace sinopia {

class GradientNode;  // autograd/gradient_node.h

/// A small value that shares its elements: shape, dtype, device and a place in a Storage. Always contiguous,
/// last axis fastest: images and latents [N,H,W,C], tokens [N,T,C], weights [O,I] and, as in every file,
/// [O,I,KH,KW]. Copies share the elements. An op never changes a tensor that it was given.
class Tensor {
 public:
  /// The undefined tensor, which stands for "absent" where an argument is optional.
  Tensor() = default;
  /// A view of `storage` from `byte_offset`. Throws InvalidArgument if it does not fit, or if the last axis
  /// of a quantised dtype is not a whole number of blocks.
  Tensor(Shape shape, DType dtype, std::shared_ptr<Storage> storage, size_t byte_offset = 0);

  /// Uninitialised elements.
  static Tensor empty(const Shape& shape, DType dtype = DType::F32, Device device = {});
  /// A copy of `values` on the CPU; values.size() must be shape.numel().
  template <class T>
  static Tensor from(const Shape& shape, std::span<const T> values);
  template <class T>
  static Tensor from(const Shape& shape, const std::vector<T>& values) {
    return from(shape, std::span<const T>(values));
  }

  bool defined() const { return storage_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_.dim(axis); }
  int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : Device{}; }
  size_t bytes() const { return bytes_; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  size_t byte_offset() const { return byte_offset_; }

  /// The elements; T must be the dtype's type. Throws InvalidArgument otherwise.
  template <class T>
  const T* data() const {
    check_type(DTypeOf<T>::value);
    return static_cast<const T*>(raw());
  }
  template <class T>
  T* data() {
    check_type(DTypeOf<T>::value);
    return static_cast<T*>(raw());
  }
  const void* raw() const {
    return storage_ ? static_cast<const char*>(storage_->data()) + byte_offset_ : nullptr;
  }
  void* raw() { return storage_ ? static_cast<char*>(storage_->data()) + byte_offset_ : nullptr; }
  /// The elements as a span, CPU only.
  template <class T>
  std::span<const T> values() const {
    check_on_cpu();
    return {data<T>(), static_cast<size_t>(numel())};
  }

  /// The same elements under another shape with as many; that of a quantised tensor must keep its last axis.
  /// Throws InvalidArgument.
  Tensor reshape(const Shape& shape) const;
  /// Rows [begin,end) of the first axis, a view.
  Tensor slice(int64_t begin, int64_t end) const;
  /// A copy of the elements into a vector, CPU only.
  template <class T>
  std::vector<T> to_vector() const {
    check_on_cpu();
    return {data<T>(), data<T>() + numel()};
  }
  /// How this tensor came about, where a gradient is wanted; null otherwise. Copies and views share it.
  const std::shared_ptr<GradientNode>& gradient_node() const { return gradient_node_; }
  void set_gradient_node(std::shared_ptr<GradientNode> node) { gradient_node_ = std::move(node); }

  /// Tells the system that the pages of a mapped tensor may leave memory for now.
  void drop_pages() const {
    if (storage_) storage_->drop_pages(byte_offset_, bytes());
  }

 private:
  void check_type(DType asked) const;
  void check_on_cpu() const;

  Shape shape_;
  DType dtype_ = DType::F32;
  std::shared_ptr<Storage> storage_;
  size_t byte_offset_ = 0, bytes_ = 0;
  std::shared_ptr<GradientNode> gradient_node_;
};

/// Uninitialised, with x's shape, dtype and device.
inline Tensor empty_like(const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), x.device()); }

/// x itself if it is on `device` already, else a copy of its elements there, of any dtype.
Tensor copy_to(const Tensor& x, Device device);

/// "f32 [1,64,64,4]", or "absent".
std::string describe(const Tensor& x);

template <class T>
Tensor Tensor::from(const Shape& shape, std::span<const T> values) {
  SINOPIA_CHECK(static_cast<int64_t>(values.size()) == shape.numel(), InvalidArgument,
                "[tensor] expected {} values for {}, got {}", shape.numel(), to_string(shape), values.size());
  Tensor result = empty(shape, DTypeOf<T>::value);
  if (!values.empty()) std::memcpy(result.raw(), values.data(), values.size_bytes());
  return result;
}

}  // namespace sinopia
