// A PyTorch checkpoint from memory. Input that is no zip archive is taken for a pickle and put into one with
// a right checksum, so that the fuzzer reaches the interpreter.

#include <string>

#include "sinopia/io/ckpt.h"
#include "tests/fuzz/read_every_byte.h"
#include "tests/io/zip_builder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sinopia::testing_io;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (!bytes.starts_with("PK")) {
    bytes = make_zip({stored("archive/data.pkl", bytes), stored("archive/data/0", std::string(48, '\0')),
                      stored("archive/data/1", std::string(8, '\1'))});
  }
  read_every_byte(bytes, [](const auto& storage) { return sinopia::parse_ckpt(storage); });
  return 0;
}
