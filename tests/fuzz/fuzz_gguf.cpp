// A GGUF file from memory.

#include "sinopia/io/gguf.h"
#include "tests/fuzz/read_every_byte.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sinopia::testing_io::read_every_byte({reinterpret_cast<const char*>(data), size},
                                       [](const auto& bytes) { return sinopia::parse_gguf(bytes); });
  return 0;
}
