#pragma once

#include <cstring>
#include <memory>
#include <string_view>

#include "sinopia/tensor/storage.h"

namespace sinopia::testing_io {

/// A copy of the bytes in a block of exactly their size, so that the sanitizers see a read past the end.
inline std::shared_ptr<Storage> memory_storage(std::string_view bytes) {
  char* data = new char[bytes.size()];
  if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
  return std::make_shared<Storage>(data, bytes.size(), Device{},
                                   [](void* begin, size_t) { delete[] static_cast<char*>(begin); });
}

}  // namespace sinopia::testing_io
