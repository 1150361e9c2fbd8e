// A PyTorch checkpoint from memory. Input that is no zip archive is taken for a pickle and put into one with
// a right checksum, so that the fuzzer reaches the interpreter.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "sinopia/base/error.h"
#include "sinopia/io/ckpt.h"
#include "tests/io/memory_storage.h"
#include "tests/io/zip_builder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sinopia::testing_io;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (!bytes.starts_with("PK")) {
    bytes = make_zip({stored("archive/data.pkl", bytes), stored("archive/data/0", std::string(48, '\0')),
                      stored("archive/data/1", std::string(8, '\1'))});
  }
  volatile uint8_t sink = 0;
  try {
    const sinopia::TensorFile file = sinopia::parse_ckpt(memory_storage(bytes));
    for (const auto& [name, tensor] : file.tensors) {
      const auto* values = static_cast<const uint8_t*>(tensor.raw());
      for (size_t i = 0; i < tensor.bytes(); ++i) sink = values[i];
    }
  } catch (const sinopia::Error&) {
  }
  (void)sink;
  return 0;
}
