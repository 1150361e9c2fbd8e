#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <jerror.h>
#include <jpeglib.h>

#include "sinopia/base/error.h"
#include "sinopia/io/exif.h"
#include "sinopia/io/image_codecs.h"

namespace sinopia {
namespace {

constexpr int kMaxScans = 100;
constexpr long kMaxLibraryBytes = 700L << 20;  // coefficients of 64 megapixels in progressive mode
constexpr size_t kMaxMarkerBytes = 65533;
constexpr char kExifPrefix[6] = {'E', 'x', 'i', 'f', 0, 0};

// libjpeg reports an error by a callback that must not return: it jumps to guard(). What runs inside holds
// only values without a destructor, and everything that has one lives outside.
struct Session {
  jpeg_error_mgr errors{};
  std::jmp_buf landing{};
  char message[JMSG_LENGTH_MAX] = "";
  bool out_of_memory = false;

  Session() {
    jpeg_std_error(&errors);
    errors.error_exit = [](j_common_ptr info) {
      auto* session = static_cast<Session*>(info->client_data);
      info->err->format_message(info, session->message);
      session->out_of_memory = info->err->msg_code == JERR_OUT_OF_MEMORY;
      std::longjmp(session->landing, 1);
    };
    errors.emit_message = [](j_common_ptr info, int level) {
      if (level >= 0) return;
      // Warnings after which pixels are guessed; others, such as stray bytes between markers, do no harm.
      switch (info->err->msg_code) {
        case JWRN_JPEG_EOF:
        case JWRN_HIT_MARKER:
        case JWRN_HUFF_BAD_CODE:
        case JWRN_MUST_RESYNC:
        case JWRN_BOGUS_PROGRESSION:
          info->err->error_exit(info);
      }
    };
    errors.output_message = [](j_common_ptr) {};
  }

  template <class Body>
  void guard(const Body& body) {
    if (setjmp(landing))
      fail(out_of_memory ? ErrorKind::OutOfMemory : ErrorKind::Corrupt, "[jpeg] {}", message);
    body();
  }
};

struct Reader : Session {
  jpeg_decompress_struct info{};
  jpeg_progress_mgr progress{};

  Reader() {
    info.err = &errors;
    info.client_data = static_cast<Session*>(this);
    guard([&] { jpeg_create_decompress(&info); });
    info.client_data = static_cast<Session*>(this);
    info.mem->max_memory_to_use = kMaxLibraryBytes;
    progress.progress_monitor = [](j_common_ptr common) {
      auto* decompress = reinterpret_cast<j_decompress_ptr>(common);
      if (decompress->input_scan_number > kMaxScans) ERREXIT(common, JERR_BAD_PROGRESSION);
    };
    info.progress = &progress;
  }
  ~Reader() { jpeg_destroy_decompress(&info); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
};

struct Writer : Session {
  jpeg_compress_struct info{};
  unsigned char* buffer = nullptr;
  unsigned long buffer_bytes = 0;

  Writer() {
    info.err = &errors;
    info.client_data = static_cast<Session*>(this);
    guard([&] { jpeg_create_compress(&info); });
    info.client_data = static_cast<Session*>(this);
  }
  ~Writer() {
    jpeg_destroy_compress(&info);
    std::free(buffer);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
};

// Adobe's CMYK holds the complement of the inks; like Pillow and the browsers we take every CMYK file to be
// so.
Image cmyk_to_rgb(const Image& cmyk) {
  Image image = make_image(cmyk.width, cmyk.height, 3);
  uint8_t* to = image.pixels.data();
  for (size_t i = 0; i < cmyk.pixels.size(); i += 4) {
    const int white = cmyk.pixels[i + 3];
    for (size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk.pixels[i + c]) * white + 128;
      const int ink = ((product >> 8) + product) >> 8;
      *to++ = static_cast<uint8_t>(std::max(white - ink, 0));
    }
  }
  return image;
}

// Copied, since the end of decompression frees the markers.
std::vector<uint8_t> read_exif(const jpeg_decompress_struct& info) {
  for (auto marker = info.marker_list; marker; marker = marker->next) {
    if (marker->marker == JPEG_APP0 + 1 && marker->data_length >= sizeof kExifPrefix &&
        std::memcmp(marker->data, kExifPrefix, sizeof kExifPrefix) == 0) {
      return {marker->data, marker->data + marker->data_length};
    }
  }
  return {};
}

void read_header(Reader& reader, std::span<const uint8_t> bytes) {
  jpeg_decompress_struct& info = reader.info;
  reader.guard([&] {
    jpeg_mem_src(&info, bytes.data(), bytes.size());
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&info, TRUE);
  });
  check_image_size(info.image_width, info.image_height, "jpeg");
}

}  // namespace

PictureSize read_jpeg_size(std::span<const uint8_t> bytes) {
  Reader reader;
  read_header(reader, bytes);
  return oriented_size(reader.info.image_width, reader.info.image_height, read_exif(reader.info));
}

Image decode_jpeg(std::span<const uint8_t> bytes) {
  Reader reader;
  jpeg_decompress_struct& info = reader.info;
  read_header(reader, bytes);
  // A block of 8x8 takes at least a bit: a file too short for its size is refused before memory is asked for.
  const uint64_t blocks = (uint64_t{info.image_width} + 7) / 8 * ((uint64_t{info.image_height} + 7) / 8);
  SINOPIA_CHECK(!info.arith_code, Unsupported, "[jpeg] arithmetic coding");
  SINOPIA_CHECK(blocks <= 8 * bytes.size(), Corrupt, "[jpeg] {} bytes cannot hold {}x{} pixels", bytes.size(),
                info.image_width, info.image_height);
  SINOPIA_CHECK(info.num_components == 1 || info.num_components == 3 || info.num_components == 4, Unsupported,
                "[jpeg] expected 1, 3 or 4 components, got {}", info.num_components);
  info.out_color_space = info.num_components == 1   ? JCS_GRAYSCALE
                         : info.num_components == 3 ? JCS_RGB
                                                    : JCS_CMYK;

  Image image = make_image(static_cast<int>(info.image_width), static_cast<int>(info.image_height),
                           info.num_components);
  const std::vector<uint8_t> exif = read_exif(info);
  reader.guard([&] {
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = image.pixel(static_cast<int>(info.output_scanline), 0);
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
  });
  if (image.channels == 4) image = cmyk_to_rgb(image);
  return apply_exif(std::move(image), exif);
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  std::vector<uint8_t> exif;
  if (const auto parameters = image.text.find("parameters"); parameters != image.text.end()) {
    exif.assign(kExifPrefix, kExifPrefix + sizeof kExifPrefix);
    const std::vector<uint8_t> tiff = make_exif(parameters->second);
    exif.insert(exif.end(), tiff.begin(), tiff.end());
    SINOPIA_CHECK(exif.size() <= kMaxMarkerBytes, InvalidArgument,
                  "[jpeg] a text of {} bytes is more than the format holds", parameters->second.size());
  }
  SINOPIA_CHECK(image.width <= JPEG_MAX_DIMENSION && image.height <= JPEG_MAX_DIMENSION, InvalidArgument,
                "[jpeg] expected sides of at most {}, got {}x{}", JPEG_MAX_DIMENSION + 0, image.width,
                image.height);
  Writer writer;
  jpeg_compress_struct& info = writer.info;
  writer.guard([&] {
    jpeg_mem_dest(&info, &writer.buffer, &writer.buffer_bytes);
    info.image_width = static_cast<JDIMENSION>(image.width);
    info.image_height = static_cast<JDIMENSION>(image.height);
    info.input_components = image.channels;
    info.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    info.optimize_coding = TRUE;
    constexpr int kFullColorQuality = 90;
    if (image.channels == 3 && quality >= kFullColorQuality) {
      info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
    }
    jpeg_start_compress(&info, TRUE);
    if (!exif.empty())
      jpeg_write_marker(&info, JPEG_APP0 + 1, exif.data(), static_cast<unsigned>(exif.size()));
    while (info.next_scanline < info.image_height) {
      JSAMPROW row = const_cast<JSAMPROW>(image.pixel(static_cast<int>(info.next_scanline), 0));
      jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
  });
  return {writer.buffer, writer.buffer + writer.buffer_bytes};
}

}  // namespace sinopia
