#include "sinopia/io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"

namespace sinopia {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference library
constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxTensors = 250'000;  // keeps the table in proportion to the file
constexpr size_t kMaxMetadata = 100'000;
constexpr size_t kMaxStringBytes = size_t{16} << 20;  // training metadata runs to a few MB
constexpr int kMaxDepth = 3;                          // header, tensor, shape
constexpr uint64_t kMaxExtent = uint64_t{1} << 62;
constexpr std::string_view kMetadataKey = "__metadata__";

struct NamedType {
  std::string_view name;
  DType dtype;
};

// From the narrowest to the widest, in the order of the reference library's enumeration, which orders the
// file.
constexpr std::array<NamedType, 10> kTypes = {{{"BOOL", DType::Bool},
                                               {"U8", DType::U8},
                                               {"I8", DType::I8},
                                               {"I16", DType::I16},
                                               {"F16", DType::F16},
                                               {"BF16", DType::BF16},
                                               {"I32", DType::I32},
                                               {"F32", DType::F32},
                                               {"F64", DType::F64},
                                               {"I64", DType::I64}}};
constexpr std::array<std::string_view, 14> kForeignTypes = {
    "U16",     "U32",     "U64",     "C64",         "F4",          "F6_E2M3", "F6_E3M2",
    "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C128",    "U4"};

size_t order_of(DType dtype) {
  return static_cast<size_t>(std::ranges::find(kTypes, dtype, &NamedType::dtype) - kTypes.begin());
}

struct Entry {
  std::string name;
  Shape shape;
  DType dtype = DType::F32;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Receives the header's JSON as events. Throws Error itself, so that every message names the file and the
// tensor.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view file) : file_(file) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool null() { refuse("null"); }
  bool boolean(bool) { refuse("a boolean"); }
  bool number_integer(int64_t value) { refuse(fmt::format("{}", value)); }
  bool number_float(double, const std::string& text) { refuse(text); }
  bool binary(std::vector<uint8_t>&) { refuse("binary data"); }

  bool number_unsigned(uint64_t value) {
    if (place_ != Place::Shape && place_ != Place::Offsets) refuse(fmt::format("{}", value));
    if (count_ < numbers_.size()) numbers_[count_] = value;
    ++count_;
    return true;
  }

  bool string(std::string& value) {
    if (place_ == Place::Metadata) {
      SINOPIA_CHECK(metadata.size() < kMaxMetadata, Unsupported,
                    "[safetensors] {}: more than {} metadata entries", file_, kMaxMetadata + 0);
      metadata.insert_or_assign(key_, std::move(value));
    } else if (place_ == Place::Tensor && key_ == "dtype") {
      dtype_ = read_dtype(value);
    } else {
      refuse("a string");
    }
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == Place::Outside) {
      place_ = Place::Header;
    } else if (place_ == Place::Header && key_ == kMetadataKey) {
      SINOPIA_CHECK(!seen_metadata_, Corrupt, "[safetensors] {}: {} occurs twice", file_, kMetadataKey);
      seen_metadata_ = true;
      place_ = Place::Metadata;
    } else if (place_ == Place::Header) {
      SINOPIA_CHECK(entries.size() < kMaxTensors, Unsupported, "[safetensors] {}: more than {} tensors",
                    file_, kMaxTensors + 0);
      place_ = Place::Tensor;
      name_ = key_;
      dtype_.reset();
      shape_.reset();
      offsets_.reset();
    } else {
      refuse("an object");
    }
    return true;
  }

  bool key(std::string& value) {
    SINOPIA_CHECK(value.size() <= kMaxNameBytes, Corrupt, "[safetensors] {}: a name of {} bytes", file_,
                  value.size());
    SINOPIA_CHECK(value.find('\0') == std::string::npos, Corrupt, "[safetensors] {}: a name holds a NUL byte",
                  file_);
    if (place_ == Place::Tensor) {
      const bool again = (value == "dtype" && dtype_) || (value == "shape" && shape_) ||
                         (value == "data_offsets" && offsets_);
      SINOPIA_CHECK(!again, Corrupt, "[safetensors] {}: field '{}' of '{}' occurs twice", file_, value,
                    name_);
    } else if (place_ == Place::Metadata) {
      SINOPIA_CHECK(!metadata.contains(value), Corrupt, "[safetensors] {}: metadata '{}' occurs twice", file_,
                    value);
    }
    key_ = std::move(value);
    return true;
  }

  bool end_object() {
    if (place_ == Place::Tensor) finish_tensor();
    place_ = place_ == Place::Header ? Place::Outside : Place::Header;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ == Place::Tensor && key_ == "shape") {
      place_ = Place::Shape;
    } else if (place_ == Place::Tensor && key_ == "data_offsets") {
      place_ = Place::Offsets;
    } else {
      refuse("an array");
    }
    count_ = 0;
    return true;
  }

  bool end_array() {
    if (place_ == Place::Shape) {
      shape_ = read_shape();
    } else {
      SINOPIA_CHECK(count_ == 2, Corrupt, "[safetensors] {}: expected 2 data_offsets for '{}', got {}", file_,
                    name_, count_);
      offsets_ = {numbers_[0], numbers_[1]};
    }
    place_ = Place::Tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) {
    fail(ErrorKind::Corrupt, "[safetensors] {}: the header is not valid JSON near byte {}", file_, position);
  }

 private:
  enum class Place { Outside, Header, Metadata, Tensor, Shape, Offsets };

  [[noreturn]] void refuse(std::string_view what) const {
    switch (place_) {
      case Place::Outside:
        fail(ErrorKind::Corrupt, "[safetensors] {}: expected an object as header, got {}", file_, what);
      case Place::Metadata:
        fail(ErrorKind::Corrupt, "[safetensors] {}: expected text for metadata '{}', got {}", file_, key_,
             what);
      case Place::Header:
        fail(ErrorKind::Corrupt, "[safetensors] {}: expected an object for '{}', got {}", file_, key_, what);
      default:
        fail(ErrorKind::Corrupt, "[safetensors] {}: unexpected {} in field '{}' of '{}'", file_, what, key_,
             name_);
    }
  }

  DType read_dtype(std::string_view text) const {
    for (const NamedType& type : kTypes) {
      if (type.name == text) return type.dtype;
    }
    SINOPIA_CHECK(std::ranges::find(kForeignTypes, text) == kForeignTypes.end(), Unsupported,
                  "[safetensors] {}: '{}' has elements of type {}, which is not supported", file_, name_,
                  text);
    fail(ErrorKind::Corrupt, "[safetensors] {}: '{}' has unknown element type '{}'", file_, name_,
         text.substr(0, 40));
  }

  Shape read_shape() const {
    SINOPIA_CHECK(count_ <= numbers_.size(), Unsupported,
                  "[safetensors] {}: expected at most {} axes for '{}', got {}", file_, numbers_.size(),
                  name_, count_);
    std::array<int64_t, Shape::kMaxRank> dims{};
    uint64_t product = 1;
    for (size_t i = 0; i < count_; ++i) {
      const uint64_t extent = numbers_[i];
      SINOPIA_CHECK(extent <= kMaxExtent && (extent == 0 || product <= kMaxExtent / extent), Corrupt,
                    "[safetensors] {}: the shape of '{}' overflows", file_, name_);
      if (extent > 0) product *= extent;
      dims[i] = static_cast<int64_t>(extent);
    }
    return Shape(std::span<const int64_t>(dims.data(), count_));
  }

  void finish_tensor() {
    SINOPIA_CHECK(dtype_ && shape_ && offsets_, Corrupt, "[safetensors] {}: '{}' lacks {}", file_, name_,
                  !dtype_   ? "dtype"
                  : !shape_ ? "shape"
                            : "data_offsets");
    const auto [begin, end] = *offsets_;
    const unsigned __int128 bytes = static_cast<unsigned __int128>(shape_->numel()) * size_of(*dtype_);
    SINOPIA_CHECK(begin <= end && end - begin == bytes, Corrupt,
                  "[safetensors] {}: {} {} of '{}' does not fill its data_offsets [{},{}]", file_,
                  to_string(*dtype_), to_string(*shape_), name_, begin, end);
    entries.push_back({std::move(name_), *shape_, *dtype_, begin, end});
  }

  std::string_view file_;
  Place place_ = Place::Outside;
  bool seen_metadata_ = false;
  std::string key_, name_;
  std::array<uint64_t, Shape::kMaxRank> numbers_{};
  size_t count_ = 0;
  std::optional<DType> dtype_;
  std::optional<Shape> shape_;
  std::optional<std::pair<uint64_t, uint64_t>> offsets_;
};

// The JSON parser buffers a token before it hands it over, and keeps a stack; so lengths and depth are looked
// at first.
void check_structure(std::string_view header, std::string_view file) {
  int depth = 0;
  for (size_t i = 0; i < header.size(); ++i) {
    const char c = header[i];
    if (c == '{' || c == '[') {
      SINOPIA_CHECK(++depth <= kMaxDepth, Corrupt, "[safetensors] {}: the header is nested too deeply", file);
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == '"') {
      const size_t begin = i;
      for (++i; i < header.size() && header[i] != '"'; ++i) {
        if (header[i] == '\\') ++i;
      }
      SINOPIA_CHECK(i - begin <= kMaxStringBytes, Corrupt,
                    "[safetensors] {}: a text of {} bytes in the header", file, i - begin);
    } else if ((c >= '0' && c <= '9') || c == '-') {
      const size_t begin = i;
      while (i + 1 < header.size() &&
             std::string_view("0123456789+-.eE").find(header[i + 1]) != std::string_view::npos)
        ++i;
      SINOPIA_CHECK(i - begin < 400, Corrupt, "[safetensors] {}: a number of {} digits in the header", file,
                    i - begin);
    }
  }
}

bool is_aligned(const void* data, size_t alignment) {
  return reinterpret_cast<uintptr_t>(data) % alignment == 0;
}

Tensor make_tensor(const Entry& entry, const std::shared_ptr<Storage>& storage, size_t data_begin) {
  const size_t offset = data_begin + static_cast<size_t>(entry.begin);
  const char* address = static_cast<const char*>(storage->data()) + offset;
  if (is_aligned(address, size_of(entry.dtype))) return Tensor(entry.shape, entry.dtype, storage, offset);
  Tensor copy = Tensor::empty(entry.shape, entry.dtype);
  if (copy.bytes()) std::memcpy(copy.raw(), address, copy.bytes());
  return copy;
}

std::string json_text(std::string_view text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::InvalidArgument, "[safetensors] a name or metadata text is not valid UTF-8");
  }
}

}  // namespace

TensorFile parse_safetensors(const std::shared_ptr<Storage>& bytes, std::string_view name) {
  const size_t size = bytes->bytes();
  SINOPIA_CHECK(size >= 8, Corrupt, "[safetensors] {}: expected a header, got {} bytes", name, size);
  const char* data = static_cast<const char*>(bytes->data());
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, data, 8);
  SINOPIA_CHECK(header_bytes >= 2 && header_bytes <= kMaxHeaderBytes && header_bytes <= size - 8, Corrupt,
                "[safetensors] {}: a header of {} bytes in a file of {}", name, header_bytes, size);
  const std::string_view header(data + 8, header_bytes);
  const size_t first = header.find_first_not_of(" \t\r\n");
  SINOPIA_CHECK(first != std::string_view::npos && header[first] == '{', Corrupt,
                "[safetensors] {}: the header is not a JSON object", name);
  check_structure(header, name);

  HeaderReader reader(name);
  nlohmann::json::sax_parse(header.begin() + static_cast<std::ptrdiff_t>(first), header.end(), &reader);

  const size_t data_begin = 8 + static_cast<size_t>(header_bytes);
  const size_t data_bytes = size - data_begin;
  std::vector<Entry>& entries = reader.entries;
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t end = 0;
  for (const Entry& entry : entries) {
    SINOPIA_CHECK(entry.begin == end, Corrupt,
                  "[safetensors] {}: '{}' begins at {}, {} the tensor before it ends at {}", name, entry.name,
                  entry.begin, entry.begin < end ? "but" : "leaving a hole, since", end);
    end = entry.end;
    SINOPIA_CHECK(end <= data_bytes, Corrupt, "[safetensors] {}: '{}' ends at {}, past the {} bytes of data",
                  name, entry.name, end, data_bytes);
  }
  SINOPIA_CHECK(end == data_bytes, Corrupt, "[safetensors] {}: {} bytes follow the last tensor", name,
                data_bytes - end);

  std::ranges::sort(entries, {}, &Entry::name);
  const auto twice = std::ranges::adjacent_find(entries, {}, &Entry::name);
  SINOPIA_CHECK(twice == entries.end(), Corrupt, "[safetensors] {}: '{}' occurs twice", name, twice->name);

  TensorFile file;
  file.metadata = std::move(reader.metadata);
  for (Entry& entry : entries) {
    Tensor tensor = make_tensor(entry, bytes, data_begin);
    if (entry.dtype == DType::Bool) {
      const auto* values = static_cast<const uint8_t*>(tensor.raw());
      SINOPIA_CHECK(std::all_of(values, values + tensor.bytes(), [](uint8_t value) { return value <= 1; }),
                    Corrupt, "[safetensors] {}: '{}' holds booleans other than 0 and 1", name, entry.name);
    }
    file.tensors.emplace_hint(file.tensors.end(), std::move(entry.name), std::move(tensor));
  }
  return file;
}

TensorFile read_safetensors(const std::filesystem::path& path) {
  return parse_safetensors(map_file(path), path.filename().string());
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  std::vector<const TensorMap::value_type*> order;
  for (const auto& item : file.tensors) {
    const auto& [name, tensor] = item;
    SINOPIA_CHECK(tensor.defined() && tensor.device().is_cpu(), InvalidArgument,
                  "[safetensors] expected '{}' on the CPU, got {}", name, describe(tensor));
    SINOPIA_CHECK(
        name != kMetadataKey && name.size() <= kMaxNameBytes && name.find('\0') == std::string::npos,
        InvalidArgument, "[safetensors] '{}' cannot be the name of a tensor", name.substr(0, 100));
    SINOPIA_CHECK(!is_quantised(tensor.dtype()), InvalidArgument,
                  "[safetensors] cannot store '{}' in {}, which a GGUF file can", name,
                  to_string(tensor.dtype()));
    order.push_back(&item);
  }
  std::ranges::stable_sort(order, std::greater<>{},
                           [](const auto* item) { return order_of(item->second.dtype()); });

  std::string header = "{";
  if (!file.metadata.empty()) {
    header += fmt::format("\"{}\":{{", kMetadataKey);
    for (const auto& [key, value] : file.metadata) header += json_text(key) + ":" + json_text(value) + ",";
    header.back() = '}';
    header += ',';
  }
  size_t offset = 0;
  for (const auto* item : order) {
    const Tensor& tensor = item->second;
    header += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}},",
                          json_text(item->first), kTypes[order_of(tensor.dtype())].name,
                          to_string(tensor.shape()), offset, offset + tensor.bytes());
    offset += tensor.bytes();
  }
  if (header.back() == ',') header.pop_back();
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  SINOPIA_CHECK(header.size() <= kMaxHeaderBytes, InvalidArgument,
                "[safetensors] the header would have {} bytes", header.size());

  AtomicFile out(path);
  const uint64_t header_bytes = header.size();
  out.write(&header_bytes, sizeof header_bytes);
  out.write(header);
  for (const auto* item : order) {
    out.write(item->second.raw(), item->second.bytes());
    item->second.drop_pages();
  }
  out.commit();
}

}  // namespace sinopia
