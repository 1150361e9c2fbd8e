#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "sinopia/tensor/device.h"

namespace sinopia {

/// A run of bytes that tensors share: from an allocator, or a mapped file, which is read only, or a device's
/// copy that comes when it is needed and may go between two uses.
class Storage {
 public:
  /// Gives the bytes back; called once with the pointer and size of the storage.
  using Release = std::function<void(void* data, size_t bytes)>;
  /// Tells the system that the resident pages of a mapped range may be dropped; they are read again when
  /// touched.
  using DropPages = std::function<void(const void* data, size_t bytes)>;

  /// Brings bytes to the device that are not there, and tells where they are; they stay for the kernel that
  /// is called next.
  using Fetch = std::function<void*()>;

  Storage(void* data, size_t bytes, Device device, Release release, DropPages drop_pages = nullptr)
      : data_(data),
        bytes_(bytes),
        device_(device),
        release_(std::move(release)),
        drop_pages_(std::move(drop_pages)) {}
  ~Storage() {
    if (release_) release_(data_, bytes_);
  }
  /// Bytes that come and go; `release` is given a null pointer.
  Storage(size_t bytes, Device device, Fetch fetch, Release release)
      : data_(nullptr),
        bytes_(bytes),
        device_(device),
        release_(std::move(release)),
        fetch_(std::move(fetch)) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  /// `bytes` uninitialised bytes, aligned to 64, from the device's caching allocator. Throws OutOfMemory.
  static std::shared_ptr<Storage> allocate(size_t bytes, Device device);

  void* data() const { return fetch_ ? fetch_() : data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool is_mapped() const { return static_cast<bool>(drop_pages_); }
  /// Drops the resident pages of a mapped range; does nothing for other storage.
  void drop_pages(size_t offset, size_t bytes) const {
    if (drop_pages_) drop_pages_(static_cast<const char*>(data_) + offset, bytes);
  }

 private:
  void* data_;
  size_t bytes_;
  Device device_;
  Release release_;
  DropPages drop_pages_;
  Fetch fetch_;
};

}  // namespace sinopia
