// A GGUF file from memory: it is read or refused with an Error, and every tensor lies within the
// bytes.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "sinopia/base/error.h"
#include "sinopia/io/gguf.h"
#include "tests/io/memory_storage.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  volatile uint8_t sink = 0;
  try {
    const sinopia::TensorFile file = sinopia::parse_gguf(sinopia::testing_io::memory_storage(bytes));
    for (const auto& [name, tensor] : file.tensors) {
      const auto* values = static_cast<const uint8_t*>(tensor.raw());
      for (size_t i = 0; i < tensor.bytes(); ++i) sink = values[i];
    }
  } catch (const sinopia::Error&) {
  }
  (void)sink;
  return 0;
}
