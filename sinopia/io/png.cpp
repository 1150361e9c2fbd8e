#include <csetjmp>
#include <cstring>
#include <memory>
#include <vector>

#include <png.h>

#include "sinopia/base/error.h"
#include "sinopia/io/exif.h"
#include "sinopia/io/image_codecs.h"
#include "sinopia/io/png_text.h"

namespace sinopia {
namespace {

// libpng reports an error by a jump. guard() is where it lands: what runs inside holds only values without a
// destructor, and everything that has one lives outside.
struct Session {
  char message[128] = "";
  png_structp png = nullptr;
  png_infop info = nullptr;

  template <class Body>
  void guard(const Body& body) {
    if (setjmp(png_jmpbuf(png))) fail(ErrorKind::Corrupt, "[png] {}", message);
    body();
  }

  static void on_error(png_structp png, png_const_charp text) {
    auto* session = static_cast<Session*>(png_get_error_ptr(png));
    std::strncpy(session->message, text, sizeof session->message - 1);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
};

struct Reader : Session {
  const uint8_t* next;
  size_t left;

  explicit Reader(std::span<const uint8_t> bytes) : next(bytes.data()), left(bytes.size()) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, static_cast<Session*>(this), on_error, on_warning);
    if (png) info = png_create_info_struct(png);
    SINOPIA_CHECK(info, OutOfMemory, "[png] cannot start libpng");
  }
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  static void on_read(png_structp png, png_bytep to, size_t count) {
    auto* reader = static_cast<Reader*>(png_get_io_ptr(png));
    if (count > reader->left) png_error(png, "the file is cut off");
    std::memcpy(to, reader->next, count);
    reader->next += count;
    reader->left -= count;
  }
};

struct Writer : Session {
  std::vector<uint8_t> bytes;
  bool out_of_memory = false;

  Writer() {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, static_cast<Session*>(this), on_error, on_warning);
    if (png) info = png_create_info_struct(png);
    SINOPIA_CHECK(info, OutOfMemory, "[png] cannot start libpng");
  }
  ~Writer() { png_destroy_write_struct(&png, &info); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  static void on_write(png_structp png, png_bytep from, size_t count) {
    auto* writer = static_cast<Writer*>(png_get_io_ptr(png));
    try {
      writer->bytes.insert(writer->bytes.end(), from, from + count);
    } catch (const std::bad_alloc&) {
      writer->out_of_memory = true;
    }
    if (writer->out_of_memory) png_error(png, "out of memory");
  }
  static void on_flush(png_structp) {}
};

struct Header {
  png_uint_32 width, height;
  int depth, color;
  int channels;      // of the rows that libpng delivers
  size_t row_bytes;  // of these rows
  png_colorp palette;
  int palette_size;
  png_bytep palette_alpha;
  int palette_alpha_size;
};

void read_header(Reader& reader, Header& header) {
  png_structp png = reader.png;
  png_infop info = reader.info;
  reader.guard([&] {
    // Text, EXIF and colour profiles are read elsewhere or not at all; libpng must not inflate them.
    static const png_byte ignored[] = "tEXt\0zTXt\0iTXt\0iCCP\0eXIf\0sPLT";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, ignored, 6);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_set_read_fn(png, &reader, Reader::on_read);
    png_read_info(png, info);
    png_get_IHDR(png, info, &header.width, &header.height, &header.depth, &header.color, nullptr, nullptr,
                 nullptr);
    header.palette_size = header.palette_alpha_size = 0;
    if (header.color == PNG_COLOR_TYPE_PALETTE) {
      png_get_PLTE(png, info, &header.palette, &header.palette_size);
      png_get_tRNS(png, info, &header.palette_alpha, &header.palette_alpha_size, nullptr);
      if (header.depth < 8) png_set_packing(png);
    } else {
      if (header.depth < 8) png_set_expand_gray_1_2_4_to_8(png);
      if (png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
      if (header.depth == 16) png_set_strip_16(png);
    }
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    header.channels = png_get_channels(png, info);
    header.row_bytes = png_get_rowbytes(png, info);
  });
}

Image expand_palette(const Image& indices, const Header& header) {
  Image image = make_image(indices.width, indices.height, header.palette_alpha_size > 0 ? 4 : 3);
  uint8_t* to = image.pixels.data();
  for (const uint8_t index : indices.pixels) {
    SINOPIA_CHECK(index < header.palette_size, Corrupt, "[png] colour {} of a palette of {}", index,
                  header.palette_size);
    const png_color& color = header.palette[index];
    *to++ = color.red;
    *to++ = color.green;
    *to++ = color.blue;
    if (image.channels == 4) *to++ = index < header.palette_alpha_size ? header.palette_alpha[index] : 255;
  }
  return image;
}

// The size comes first in the file, before anything is unpacked.
void check_size(std::span<const uint8_t> bytes) {
  SINOPIA_CHECK(bytes.size() >= 33 && std::memcmp(&bytes[12], "IHDR", 4) == 0, Corrupt, "[png] no header");
  check_image_size(png_get_uint_32(&bytes[16]), png_get_uint_32(&bytes[20]), "png");
}

}  // namespace

PictureSize read_png_size(std::span<const uint8_t> bytes) {
  check_size(bytes);
  return oriented_size(png_get_uint_32(&bytes[16]), png_get_uint_32(&bytes[20]), read_png_extras(bytes).exif);
}

Image decode_png(std::span<const uint8_t> bytes) {
  check_size(bytes);
  PngExtras extras = read_png_extras(bytes);

  Reader reader(bytes);
  Header header{};
  read_header(reader, header);
  // Deflate packs at most 1032 to 1: a file too short for its size is refused before the pixels are asked
  // for.
  const uint64_t packed_row = (uint64_t{header.width} * static_cast<uint64_t>(header.depth) + 7) / 8;
  SINOPIA_CHECK(packed_row * header.height / 1032 <= bytes.size(), Corrupt,
                "[png] {} bytes cannot hold {}x{} pixels", bytes.size(), header.width, header.height);
  Image image = make_image(static_cast<int>(header.width), static_cast<int>(header.height), header.channels);
  SINOPIA_CHECK(header.row_bytes * header.height == image.pixels.size(), Corrupt,
                "[png] unexpected row size");
  std::vector<png_bytep> rows(header.height);
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = image.pixels.data() + y * header.row_bytes;
  reader.guard([&] {
    png_read_image(reader.png, rows.data());
    png_read_end(reader.png, nullptr);
  });
  if (header.color == PNG_COLOR_TYPE_PALETTE) image = expand_palette(image, header);
  image.text = std::move(extras.text);
  return apply_exif(std::move(image), extras.exif);
}

std::vector<uint8_t> encode_png(const Image& image, int compression) {
  constexpr int kColorTypes[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                                 PNG_COLOR_TYPE_RGB_ALPHA};
  std::vector<std::pair<const char*, std::string>> chunks;
  for (const auto& [key, value] : image.text) chunks.push_back(make_png_text(key, value));

  Writer writer;
  png_structp png = writer.png;
  const auto width = static_cast<png_uint_32>(image.width), height = static_cast<png_uint_32>(image.height);
  const size_t row_bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.channels);
  writer.guard([&] {
    png_set_write_fn(png, &writer, Writer::on_write, Writer::on_flush);
    png_set_compression_level(png, compression);
    png_set_IHDR(png, writer.info, width, height, 8, kColorTypes[image.channels - 1], PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, writer.info);
    for (size_t i = 0; i < chunks.size(); ++i) {
      png_write_chunk(png, reinterpret_cast<png_const_bytep>(chunks[i].first),
                      reinterpret_cast<png_const_bytep>(chunks[i].second.data()), chunks[i].second.size());
    }
    for (png_uint_32 y = 0; y < height; ++y) png_write_row(png, image.pixels.data() + y * row_bytes);
    png_write_end(png, nullptr);
  });
  return std::move(writer.bytes);
}

}  // namespace sinopia
