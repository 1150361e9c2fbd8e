#include "sinopia/io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/unicode.h"

namespace sinopia {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are mapped as they are");

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kVersion = 3;
constexpr size_t kMaxTensors = 100'000;  // keeps the table in proportion to the file
constexpr size_t kMaxMetadata = 100'000;
constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxTextBytes = size_t{16} << 20;
constexpr size_t kMaxArrayShown = 1024, kMaxArrayBytes = size_t{1} << 20;
constexpr uint32_t kMaxAxes = 4;
constexpr uint64_t kMaxExtent = uint64_t{1} << 62;
constexpr uint64_t kDefaultAlignment = 32, kLeastAlignment = 8, kMaxAlignment = 1 << 20;
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::string_view kQuantisationKey = "general.quantization_version";
constexpr uint32_t kQuantisationVersion = 2;
// They say how this file is encoded, not what it holds.
constexpr std::string_view kFileKeys[] = {kAlignmentKey, kQuantisationKey, "general.file_type"};

struct NumberedType {
  uint32_t number;
  DType dtype;
};
constexpr NumberedType kTypes[] = {{0, DType::F32},   {1, DType::F16},   {30, DType::BF16}, {8, DType::Q8_0},
                                   {14, DType::Q6_K}, {13, DType::Q5_K}, {12, DType::Q4_K}, {2, DType::Q4_0}};

// ggml's names by number; those that it took out again are empty.
constexpr std::array<std::string_view, 40> kTypeNames = {
    "F32",    "F16",   "Q4_0",  "Q4_1",   "",      "",      "Q5_0",    "Q5_1",   "Q8_0",    "Q8_1",
    "Q2_K",   "Q3_K",  "Q4_K",  "Q5_K",   "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
    "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8",    "I16",   "I32",     "I64",    "F64",     "IQ1_M",
    "BF16",   "",      "",      "",       "TQ1_0", "TQ2_0", "",        "",       "",        "MXFP4"};

enum Kind : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64, kKinds };
constexpr std::array<size_t, kKinds> kKindBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};  // at least

struct Entry {
  std::string name;
  Shape shape;
  DType dtype = DType::F32;
  uint64_t offset = 0;
};

class HeaderReader {
 public:
  HeaderReader(std::string_view bytes, std::string_view file) : bytes_(bytes), file_(file) {}

  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  std::string_view text(std::string_view what) {
    const uint64_t length = number<uint64_t>(what);
    const std::string_view text = take(length, what);
    SINOPIA_CHECK(length <= kMaxTextBytes, Corrupt, "[gguf] {}: {} has {} bytes", file_, what, length);
    SINOPIA_CHECK(is_utf8(text), Corrupt, "[gguf] {}: {} is not UTF-8", file_, what);
    return text;
  }

  std::string name(std::string_view what) {
    const std::string_view name = text(what);
    SINOPIA_CHECK(name.size() <= kMaxNameBytes, Corrupt, "[gguf] {}: {} has {} bytes", file_, what,
                  name.size());
    SINOPIA_CHECK(name.find('\0') == std::string_view::npos, Corrupt, "[gguf] {}: {} holds a NUL byte", file_,
                  what);
    return std::string(name);
  }

  /// A number of things to come, of at least `least` bytes each.
  uint64_t count(std::string_view what, size_t least) {
    const uint64_t count = number<uint64_t>(what);
    SINOPIA_CHECK(count <= left() / least, Corrupt, "[gguf] {}: {} is {} with {} bytes left", file_, what,
                  count, left());
    return count;
  }

  Kind kind(std::string_view key) {
    const uint32_t kind = number<uint32_t>(key);
    SINOPIA_CHECK(kind < kKinds, Corrupt, "[gguf] {}: '{}' has unknown value type {}", file_, key, kind);
    return static_cast<Kind>(kind);
  }

  /// Of any kind but Array.
  nlohmann::json scalar(Kind kind, std::string_view key) {
    switch (kind) {
      case U8:
        return number<uint8_t>(key);
      case I8:
        return number<int8_t>(key);
      case U16:
        return number<uint16_t>(key);
      case I16:
        return number<int16_t>(key);
      case U32:
        return number<uint32_t>(key);
      case I32:
        return number<int32_t>(key);
      case F32:
        return number<float>(key);
      case U64:
        return number<uint64_t>(key);
      case I64:
        return number<int64_t>(key);
      case F64:
        return number<double>(key);
      case String:
        return std::string(text(key));
      case Bool: {
        const uint8_t value = number<uint8_t>(key);
        SINOPIA_CHECK(value <= 1, Corrupt, "[gguf] {}: '{}' is a bool of {}", file_, key, value);
        return value == 1;
      }
      default:
        return nullptr;
    }
  }

  /// The value as text; nothing for a long array.
  std::optional<std::string> value(std::string_view key) {
    const Kind kind = this->kind(key);
    if (kind != Array) return text_of(scalar(kind, key));
    const Kind element = this->kind(key);
    SINOPIA_CHECK(element != Array, Unsupported, "[gguf] {}: '{}' is an array of arrays", file_, key);
    const uint64_t length = count(key, kKindBytes[element]);
    const size_t begin = position_;
    if (element == String) {
      for (uint64_t i = 0; i < length; ++i) text(key);
    } else {
      take(length * kKindBytes[element], key);
    }
    if (length > kMaxArrayShown || position_ - begin > kMaxArrayBytes) return std::nullopt;
    position_ = begin;
    nlohmann::json array = nlohmann::json::array();
    for (uint64_t i = 0; i < length; ++i) array.push_back(scalar(element, key));
    return array.dump();
  }

  Entry entry() {
    Entry entry;
    entry.name = name("a tensor's name");
    const uint32_t axes = number<uint32_t>(entry.name);
    SINOPIA_CHECK(axes <= kMaxAxes, Corrupt, "[gguf] {}: '{}' has {} axes", file_, entry.name, axes);
    std::array<int64_t, kMaxAxes> dims{};
    uint64_t product = 1;
    for (uint32_t i = 0; i < axes; ++i) {
      const uint64_t extent = number<uint64_t>(entry.name);
      SINOPIA_CHECK(extent > 0 && extent <= kMaxExtent && product <= kMaxExtent / extent, Corrupt,
                    "[gguf] {}: '{}' has an extent of {}, or too many elements", file_, entry.name, extent);
      product *= extent;
      dims[axes - 1 - i] = static_cast<int64_t>(extent);  // the file has the fastest axis first
    }
    entry.shape = Shape(std::span<const int64_t>(dims.data(), axes));
    entry.dtype = dtype(entry.name);
    const int64_t block = block_elements(entry.dtype);
    SINOPIA_CHECK(block == 1 || (axes > 0 && entry.shape.dim(-1) % block == 0), Corrupt,
                  "[gguf] {}: the rows of '{}' {} are not whole blocks of {}", file_, entry.name,
                  to_string(entry.shape), to_string(entry.dtype));
    entry.offset = number<uint64_t>(entry.name);
    return entry;
  }

  size_t position() const { return position_; }

 private:
  size_t left() const { return bytes_.size() - position_; }

  std::string_view take(uint64_t count, std::string_view what) {
    SINOPIA_CHECK(count <= left(), Corrupt, "[gguf] {}: {} needs {} bytes, {} are left", file_, what, count,
                  left());
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }

  DType dtype(const std::string& name) {
    const uint32_t number = this->number<uint32_t>(name);
    for (const NumberedType& type : kTypes) {
      if (type.number == number) return type.dtype;
    }
    const bool known = number < kTypeNames.size() && !kTypeNames[number].empty();
    SINOPIA_CHECK(!known, Unsupported, "[gguf] {}: '{}' has elements of type {}, which is not supported",
                  file_, name, kTypeNames[number]);
    fail(ErrorKind::Corrupt, "[gguf] {}: '{}' has unknown element type {}", file_, name, number);
  }

  static std::string text_of(const nlohmann::json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  }

  std::string_view bytes_, file_;
  size_t position_ = 0;
};

uint64_t aligned(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

uint64_t read_alignment(const std::string& text, std::string_view file) {
  uint64_t alignment = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), alignment);
  const bool valid = error == std::errc() && end == text.data() + text.size() &&
                     std::has_single_bit(alignment) && alignment >= kLeastAlignment &&
                     alignment <= kMaxAlignment;
  SINOPIA_CHECK(valid, Corrupt, "[gguf] {}: expected a power of two in [{},{}] as alignment, got '{}'", file,
                kLeastAlignment, kMaxAlignment, text.substr(0, 40));
  return alignment;
}

}  // namespace

TensorFile parse_gguf(const std::shared_ptr<Storage>& bytes, std::string_view name) {
  const std::string_view data(static_cast<const char*>(bytes->data()), bytes->bytes());
  SINOPIA_CHECK(data.starts_with(kMagic), Corrupt, "[gguf] {}: expected the letters GGUF", name);
  HeaderReader reader(data, name);
  reader.number<uint32_t>("the header");
  const auto version = reader.number<uint32_t>("the version");
  SINOPIA_CHECK(version == 2 || version == kVersion, Unsupported,
                "[gguf] {}: expected version 2 or 3, little endian, got {}", name, version);
  constexpr size_t kLeastEntry = 8 + 4 + 4 + 8, kLeastMetadata = 8 + 4 + 1;
  const uint64_t tensor_count = reader.count("the number of tensors", kLeastEntry);
  const uint64_t metadata_count = reader.count("the number of metadata", kLeastMetadata);
  SINOPIA_CHECK(tensor_count <= kMaxTensors && metadata_count <= kMaxMetadata, Unsupported,
                "[gguf] {}: {} tensors and {} metadata are more than {} and {}", name, tensor_count,
                metadata_count, kMaxTensors + 0, kMaxMetadata + 0);

  TensorFile file;
  std::vector<std::string> left_out(std::begin(kFileKeys), std::end(kFileKeys));
  for (uint64_t i = 0; i < metadata_count; ++i) {
    const std::string key = reader.name("a metadata key");
    const std::optional<std::string> value = reader.value(key);
    SINOPIA_CHECK(file.metadata.emplace(key, value.value_or("")).second, Corrupt,
                  "[gguf] {}: metadata '{}' occurs twice", name, key);
    if (!value) left_out.push_back(key);
  }
  const auto said = file.metadata.find(std::string(kAlignmentKey));
  const uint64_t alignment =
      said == file.metadata.end() ? kDefaultAlignment : read_alignment(said->second, name);
  for (const std::string& key : left_out) file.metadata.erase(key);

  std::vector<Entry> entries;
  for (uint64_t i = 0; i < tensor_count; ++i) entries.push_back(reader.entry());
  std::ranges::sort(entries, {}, &Entry::offset);
  const uint64_t begin = aligned(reader.position(), alignment);
  uint64_t end = 0;  // of the tensors so far, from `begin`
  for (Entry& entry : entries) {
    SINOPIA_CHECK(entry.offset == aligned(end, alignment), Corrupt,
                  "[gguf] {}: expected '{}' at offset {}, got {}", name, entry.name, aligned(end, alignment),
                  entry.offset);
    const uint64_t size =
        static_cast<uint64_t>(entry.shape.numel() / block_elements(entry.dtype)) * block_bytes(entry.dtype);
    SINOPIA_CHECK(begin <= data.size() && entry.offset <= data.size() - begin &&
                      size <= data.size() - begin - entry.offset,
                  Corrupt, "[gguf] {}: '{}' at offset {} of {} bytes lies past the end of the file", name,
                  entry.name, entry.offset, size);
    end = entry.offset + size;
    Tensor tensor(entry.shape, entry.dtype, bytes, begin + entry.offset);
    SINOPIA_CHECK(file.tensors.emplace(entry.name, std::move(tensor)).second, Corrupt,
                  "[gguf] {}: '{}' occurs twice", name, entry.name);
  }
  SINOPIA_CHECK(data.size() <= begin + aligned(end, alignment), Corrupt,
                "[gguf] {}: expected at most {} bytes, got {}", name, begin + aligned(end, alignment),
                data.size());
  return file;
}

TensorFile read_gguf(const std::filesystem::path& path) {
  return parse_gguf(map_file(path), path.filename().string());
}

void write_gguf(const std::filesystem::path& path, const TensorFile& file) {
  std::string header(kMagic);
  const auto put = [&](auto value) { header.append(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto put_text = [&](std::string_view text) {
    SINOPIA_CHECK(is_utf8(text), InvalidArgument, "[gguf] a name or metadata text is not valid UTF-8");
    put(static_cast<uint64_t>(text.size()));
    header.append(text);
  };
  put(kVersion);
  put(static_cast<uint64_t>(file.tensors.size()));
  const bool quantised =
      std::ranges::any_of(file.tensors, [](const auto& item) { return is_quantised(item.second.dtype()); });
  put(static_cast<uint64_t>(file.metadata.size() + (quantised ? 1 : 0)));
  for (const auto& [key, value] : file.metadata) {
    put_text(key);
    put(static_cast<uint32_t>(String));
    put_text(value);
  }
  if (quantised) {
    put_text(kQuantisationKey);
    put(static_cast<uint32_t>(U32));
    put(kQuantisationVersion);
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    SINOPIA_CHECK(tensor.defined() && tensor.device().is_cpu() && tensor.numel() > 0 &&
                      tensor.rank() <= static_cast<int>(kMaxAxes),
                  InvalidArgument, "[gguf] expected '{}' on the CPU, not empty, with at most {} axes, got {}",
                  name, kMaxAxes + 0, describe(tensor));
    SINOPIA_CHECK(name.size() <= kMaxNameBytes && name.find('\0') == std::string::npos, InvalidArgument,
                  "[gguf] '{}' cannot be the name of a tensor", name.substr(0, 100));
    const auto type = std::ranges::find(kTypes, tensor.dtype(), &NumberedType::dtype);
    SINOPIA_CHECK(type != std::end(kTypes), Unsupported, "[gguf] cannot write '{}' in {}", name,
                  to_string(tensor.dtype()));
    put_text(name);
    put(static_cast<uint32_t>(std::max(tensor.rank(), 1)));
    if (tensor.rank() == 0) put(uint64_t{1});
    for (int axis = tensor.rank() - 1; axis >= 0; --axis) put(static_cast<uint64_t>(tensor.dim(axis)));
    put(type->number);
    put(offset);
    offset = aligned(offset + tensor.bytes(), kDefaultAlignment);
  }
  header.resize(aligned(header.size(), kDefaultAlignment), '\0');

  AtomicFile out(path);
  out.write(header);
  for (const auto& [name, tensor] : file.tensors) {
    out.write(tensor.raw(), tensor.bytes());
    out.write(std::string(aligned(tensor.bytes(), kDefaultAlignment) - tensor.bytes(), '\0'));
    tensor.drop_pages();
  }
  out.commit();
}

}  // namespace sinopia
