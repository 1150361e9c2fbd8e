#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sinopia/base/error.h"
#include "sinopia/io/tensor_map.h"
#include "tests/io/memory_storage.h"

namespace sinopia::testing_io {

/// Runs `parse` on the bytes: it reads or refuses them with an Error, and every tensor lies within them.
template <class Parse>
void read_every_byte(std::string_view bytes, const Parse& parse) {
  volatile uint8_t sink = 0;
  try {
    const TensorFile file = parse(memory_storage(bytes));
    for (const auto& [name, tensor] : file.tensors) {
      const auto* values = static_cast<const uint8_t*>(tensor.raw());
      for (size_t i = 0; i < tensor.bytes(); ++i) sink = values[i];
    }
  } catch (const Error&) {
  }
  (void)sink;
}

}  // namespace sinopia::testing_io
