// A picture of any format from memory: it is decoded, and then encodes again, or is refused with an Error.
// PNG's checksums are put right first, so that the fuzzer gets past them.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <zlib.h>

#include "sinopia/base/error.h"
#include "sinopia/io/image.h"
#include "sinopia/io/image_size.h"

namespace {

void put_checksums_right(std::vector<uint8_t>& png) {
  for (size_t at = 8; at + 12 <= png.size();) {
    const uint64_t length = static_cast<uint64_t>(png[at]) << 24 | static_cast<uint64_t>(png[at + 1]) << 16 |
                            static_cast<uint64_t>(png[at + 2]) << 8 | png[at + 3];
    if (length > png.size() - at - 12) return;
    const auto crc = static_cast<uint32_t>(crc32(0, &png[at + 4], static_cast<uInt>(length + 4)));
    for (int i = 0; i < 4; ++i) {
      png[at + 8 + length + static_cast<size_t>(i)] = static_cast<uint8_t>(crc >> (24 - 8 * i));
    }
    at += 12 + length;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  if (size > 8 && std::memcmp(data, "\x89PNG", 4) == 0) put_checksums_right(bytes);
  try {
    const sinopia::Image image = sinopia::decode_image(bytes);
    if (sinopia::read_image_size(bytes) != sinopia::PictureSize{image.height, image.width}) std::abort();
    constexpr int kQuickPixels = 10'000;
    if (image.width * image.height > kQuickPixels) return 0;
    if (sinopia::decode_image(encode_image({image.width, image.height, image.channels, image.pixels, {}},
                                           sinopia::ImageFormat::Png))
            .pixels != image.pixels) {
      std::abort();
    }
  } catch (const sinopia::Error&) {
  }
  return 0;
}
