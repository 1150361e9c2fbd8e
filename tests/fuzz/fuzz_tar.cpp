// A tar archive from memory: it is read or refused with an Error, and every member lies within it. Checksums
// are put right first, so that the fuzzer gets past them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "sinopia/base/error.h"
#include "sinopia/io/tar.h"
#include "tests/io/memory_storage.h"

namespace {

void put_checksums_right(std::string& archive) {
  constexpr size_t kBlock = 512, kSum = 148;
  for (size_t at = 0; at + kBlock <= archive.size(); at += kBlock) {
    const auto block = archive.begin() + static_cast<std::ptrdiff_t>(at);
    if (std::all_of(block, block + kBlock, [](char c) { return c == 0; })) continue;
    std::fill_n(block + kSum, 8, ' ');
    unsigned sum = 0;
    for (size_t i = 0; i < kBlock; ++i) sum += static_cast<uint8_t>(archive[at + i]);
    const std::string digits = fmt::format("{:06o}", sum);
    std::copy_n(digits.begin(), 6, block + kSum);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  put_checksums_right(bytes);
  volatile char sink = 0;
  try {
    const sinopia::TarArchive archive(sinopia::testing_io::memory_storage(bytes), "fuzz");
    for (const sinopia::TarEntry& entry : archive.entries()) {
      if (archive.find(entry.name) != &entry) std::abort();
      for (const char c : archive.read(entry)) sink = c;
    }
  } catch (const sinopia::Error&) {
  }
  (void)sink;
  return 0;
}
