#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <ctime>

#include <fmt/format.h>
#include <unistd.h>

#include "sinopia/io/file.h"
#include "sinopia/train/metrics/metrics.h"

namespace sinopia {
namespace {

// CRC-32C (Castagnoli), which zlib does not have, in TensorFlow's masked form.
uint32_t masked_crc(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> result{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? c >> 1 ^ 0x82F63B78u : c >> 1;
      result[i] = c;
    }
    return result;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = table[(crc ^ static_cast<uint8_t>(byte)) & 255] ^ crc >> 8;
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/// A protocol buffer under construction; fields of tensorflow/core/util/event.proto and
/// framework/summary.proto.
class Message {
 public:
  Message& varint(int field, uint64_t value) {
    key(field, 0);
    raw_varint(value);
    return *this;
  }
  Message& number(int field, double value) {
    key(field, 1);
    return little_endian(std::bit_cast<uint64_t>(value), 8);
  }
  Message& number(int field, float value) {
    key(field, 5);
    return little_endian(std::bit_cast<uint32_t>(value), 4);
  }
  Message& bytes(int field, std::string_view value) {
    key(field, 2);
    raw_varint(value.size());
    bytes_.append(value);
    return *this;
  }
  Message& little_endian(uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_.push_back(static_cast<char>(value >> 8 * i));
    return *this;
  }
  const std::string& str() const { return bytes_; }

 private:
  void key(int field, int type) {
    raw_varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(type));
  }
  void raw_varint(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_.push_back(static_cast<char>(value | 128));
    bytes_.push_back(static_cast<char>(value));
  }
  std::string bytes_;
};

double seconds_of_day() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path new_event_file(const std::filesystem::path& folder) {
  make_folder(folder);
  for (int i = 0;; ++i) {
    const auto path = folder / fmt::format("events.out.tfevents.{:010}.sinopia.{}.{}",
                                           static_cast<int64_t>(seconds_of_day()), ::getpid(), i);
    if (!std::filesystem::exists(path)) return path;
  }
}

class TensorBoard final : public MetricsWriter {
 public:
  TensorBoard(const std::filesystem::path& folder, int64_t first_step) : file_(new_event_file(folder)) {
    write(event(0).bytes(3, "brain.Event:2"));
    constexpr int kStart = 1;
    write(event(first_step).bytes(7, Message().varint(1, kStart).str()));
  }

  void scalars(int64_t step, const Scalars& values) override {
    Message summary;
    for (const auto& [name, value] : values)
      summary.bytes(1, Message().bytes(1, name).number(2, static_cast<float>(value)).str());
    write(event(step).bytes(5, summary.str()));
  }

  void image(int64_t step, const std::string& name, const Image& image) override {
    const std::vector<uint8_t> png = encode_image(image, ImageFormat::Png);
    const Message picture = Message()
                                .varint(1, static_cast<uint64_t>(image.height))
                                .varint(2, static_cast<uint64_t>(image.width))
                                .varint(3, static_cast<uint64_t>(image.channels))
                                .bytes(4, {reinterpret_cast<const char*>(png.data()), png.size()});
    const Message value = Message().bytes(1, name).bytes(4, picture.str());
    write(event(step).bytes(5, Message().bytes(1, value.str()).str()));
  }

 private:
  static Message event(int64_t step) {
    Message message;
    message.number(1, seconds_of_day());
    if (step != 0) message.varint(2, static_cast<uint64_t>(step));
    return message;
  }

  /// One record: length, its check sum, the bytes, theirs.
  void write(const Message& message) {
    const std::string& bytes = message.str();
    const Message length = Message().little_endian(bytes.size(), 8);
    Message record = length;
    record.little_endian(masked_crc(length.str()), 4);
    file_.append(record.str() + bytes + Message().little_endian(masked_crc(bytes), 4).str());
  }

  AppendedFile file_;
};

}  // namespace

std::unique_ptr<MetricsWriter> tensorboard_metrics(const std::filesystem::path& folder, int64_t first_step) {
  return std::make_unique<TensorBoard>(folder, first_step);
}

}  // namespace sinopia
