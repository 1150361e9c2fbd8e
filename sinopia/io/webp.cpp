#include <cstring>
#include <memory>
#include <vector>

#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "sinopia/base/error.h"
#include "sinopia/io/exif.h"
#include "sinopia/io/image_codecs.h"

namespace sinopia {
namespace {

using Demuxer = std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)>;
using Mux = std::unique_ptr<WebPMux, decltype(&WebPMuxDelete)>;

uint32_t read_u32(const uint8_t* bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

std::vector<uint8_t> read_exif(const WebPDemuxer* demuxer) {
  WebPChunkIterator chunk{};
  std::vector<uint8_t> exif;
  if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
    exif.assign(chunk.chunk.bytes, chunk.chunk.bytes + chunk.chunk.size);
    WebPDemuxReleaseChunkIterator(&chunk);
  }
  return exif;
}

// A still picture, or an animation's first frame, which may cover a part of the canvas.
Image decode_first_frame(const WebPDemuxer* demuxer, int width, int height, bool alpha) {
  WebPIterator frame{};
  SINOPIA_CHECK(WebPDemuxGetFrame(demuxer, 1, &frame), Corrupt, "[webp] no picture");
  const std::unique_ptr<WebPIterator, decltype(&WebPDemuxReleaseIterator)> release(&frame,
                                                                                   WebPDemuxReleaseIterator);
  const bool fits = frame.complete && frame.x_offset >= 0 && frame.y_offset >= 0 && frame.width > 0 &&
                    frame.height > 0 && frame.width <= width - frame.x_offset &&
                    frame.height <= height - frame.y_offset;
  SINOPIA_CHECK(fits, Corrupt, "[webp] a frame that leaves the picture, or is cut off");
  WebPBitstreamFeatures features{};
  SINOPIA_CHECK(WebPGetFeatures(frame.fragment.bytes, frame.fragment.size, &features) == VP8_STATUS_OK &&
                    features.width == frame.width && features.height == frame.height,
                Corrupt, "[webp] a broken frame");
  alpha = alpha || features.has_alpha || frame.width < width || frame.height < height;
  Image image = make_image(width, height, alpha ? 4 : 3);
  uint8_t* first = image.pixel(frame.y_offset, frame.x_offset);
  const int stride = width * image.channels;
  const size_t room = static_cast<size_t>(image.pixels.data() + image.pixels.size() - first);
  const auto decode = alpha ? WebPDecodeRGBAInto : WebPDecodeRGBInto;
  SINOPIA_CHECK(decode(frame.fragment.bytes, frame.fragment.size, first, room, stride), Corrupt,
                "[webp] broken or cut off");
  return image;
}

struct Header {
  explicit Header(std::span<const uint8_t> bytes) : demuxer(nullptr, WebPDemuxDelete) {
    SINOPIA_CHECK(bytes.size() >= 20 && uint64_t{read_u32(&bytes[4])} + 8 <= bytes.size(), Corrupt,
                  "[webp] the file is cut off at byte {}", bytes.size());
    WebPBitstreamFeatures features{};
    SINOPIA_CHECK(WebPGetFeatures(bytes.data(), bytes.size(), &features) == VP8_STATUS_OK, Corrupt,
                  "[webp] no valid header");
    check_image_size(static_cast<uint64_t>(features.width), static_cast<uint64_t>(features.height), "webp");
    const WebPData data{bytes.data(), bytes.size()};
    demuxer.reset(WebPDemux(&data));
    SINOPIA_CHECK(demuxer, Corrupt, "[webp] broken or cut off");
    width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
    height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
    check_image_size(width, height, "webp");
    alpha = features.has_alpha != 0;
  }

  Demuxer demuxer;
  uint32_t width = 0, height = 0;
  bool alpha = false;
};

std::vector<uint8_t> with_exif(const uint8_t* webp, size_t bytes, const std::vector<uint8_t>& exif) {
  const WebPData picture{webp, bytes}, metadata{exif.data(), exif.size()};
  const Mux mux(WebPMuxCreate(&picture, 0), WebPMuxDelete);
  WebPData assembled{};
  SINOPIA_CHECK(mux && WebPMuxSetChunk(mux.get(), "EXIF", &metadata, 0) == WEBP_MUX_OK &&
                    WebPMuxAssemble(mux.get(), &assembled) == WEBP_MUX_OK,
                OutOfMemory, "[webp] cannot put the file together");
  const std::unique_ptr<WebPData, decltype(&WebPDataClear)> release(&assembled, WebPDataClear);
  return {assembled.bytes, assembled.bytes + assembled.size};
}

}  // namespace

PictureSize read_webp_size(std::span<const uint8_t> bytes) {
  const Header header(bytes);
  return oriented_size(header.width, header.height, read_exif(header.demuxer.get()));
}

Image decode_webp(std::span<const uint8_t> bytes) {
  const Header header(bytes);
  Image image = decode_first_frame(header.demuxer.get(), static_cast<int>(header.width),
                                   static_cast<int>(header.height), header.alpha);
  return apply_exif(std::move(image), read_exif(header.demuxer.get()));
}

std::vector<uint8_t> encode_webp(const Image& image, int quality, bool lossless) {
  SINOPIA_CHECK(image.width <= WEBP_MAX_DIMENSION && image.height <= WEBP_MAX_DIMENSION, InvalidArgument,
                "[webp] expected sides of at most {}, got {}x{}", WEBP_MAX_DIMENSION + 0, image.width,
                image.height);
  Image opaque;
  if (image.channels == 1) opaque = without_alpha(image);
  if (image.channels == 2) {
    opaque = make_image(image.width, image.height, 4);
    for (size_t i = 0; i < image.pixels.size() / 2; ++i) {
      std::memset(&opaque.pixels[4 * i], image.pixels[2 * i], 3);
      opaque.pixels[4 * i + 3] = image.pixels[2 * i + 1];
    }
  }
  const Image& source = image.channels < 3 ? opaque : image;

  WebPConfig config;
  SINOPIA_CHECK(WebPConfigInit(&config), Backend, "[webp] cannot start libwebp");
  config.lossless = lossless;
  config.quality = lossless ? 75.0f : static_cast<float>(quality);  // lossless: effort
  config.exact = lossless;
  struct Picture : WebPPicture {
    Picture() { SINOPIA_CHECK(WebPPictureInit(this), Backend, "[webp] cannot start libwebp"); }
    ~Picture() { WebPPictureFree(this); }
  } picture;
  struct Memory : WebPMemoryWriter {
    Memory() { WebPMemoryWriterInit(this); }
    ~Memory() { WebPMemoryWriterClear(this); }
  } memory;
  picture.use_argb = lossless;
  picture.width = source.width;
  picture.height = source.height;
  picture.writer = WebPMemoryWrite;
  picture.custom_ptr = static_cast<WebPMemoryWriter*>(&memory);
  const int stride = source.width * source.channels;
  const bool imported = source.channels == 4 ? WebPPictureImportRGBA(&picture, source.pixels.data(), stride)
                                             : WebPPictureImportRGB(&picture, source.pixels.data(), stride);
  SINOPIA_CHECK(imported && WebPEncode(&config, &picture), Backend, "[webp] cannot encode: error {}",
                static_cast<int>(picture.error_code));
  const auto parameters = image.text.find("parameters");
  if (parameters == image.text.end()) return {memory.mem, memory.mem + memory.size};
  return with_exif(memory.mem, memory.size, make_exif(parameters->second));
}

}  // namespace sinopia
