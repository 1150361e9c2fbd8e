#include "sinopia/io/ckpt.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>

#include "sinopia/base/error.h"
#include "sinopia/base/threads.h"
#include "sinopia/io/file.h"
#include "sinopia/io/pickle.h"
#include "sinopia/io/unicode.h"
#include "sinopia/io/zip.h"

namespace sinopia {
namespace {

using pickle::Node;
using pickle::Value;

constexpr size_t kMaxPickleBytes = size_t{64} << 20;
constexpr size_t kMaxDeflatedPickleBytes = size_t{8} << 20;
constexpr size_t kMaxNameBytes = 4096;
constexpr int kMaxDepth = 16;

const Node* node_of(const Value& value, Node::Kind kind) {
  return value.kind == Value::Kind::Node && value.node->kind == kind ? value.node : nullptr;
}

// The dictionary under a key, null if there is none. Of equal keys the last counts.
const Node* dict_at(const Node& dict, std::string_view key) {
  const Node* found = nullptr;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const Node* name = node_of(dict.items[i], Node::Kind::Text);
    if (name && name->text == key) found = node_of(dict.items[i + 1], Node::Kind::Dict);
  }
  return found;
}

class Reader {
 public:
  Reader(const std::shared_ptr<Storage>& bytes, std::string_view name)
      : zip_(bytes, name), name_(name), copy_budget_(bytes->bytes()) {}

  TensorFile read() {
    const std::string root = find_root();
    if (const ZipEntry* order = zip_.find(root + "byteorder")) {
      std::string buffer;
      SINOPIA_CHECK(zip_.read(*order, 16, buffer) == "little", Unsupported, "[ckpt] {}: written big endian",
                    name_);
    }
    std::string buffer;
    const ZipEntry& entry = *zip_.find(root + "data.pkl");
    const std::string_view bytes =
        zip_.read(entry, entry.stored ? kMaxPickleBytes : kMaxDeflatedPickleBytes, buffer);
    const pickle::Document document = pickle::parse(bytes, name_);
    const Node* top = node_of(document.root, Node::Kind::Dict);
    SINOPIA_CHECK(top, Unsupported, "[ckpt] {}: expected a dictionary of tensors", name_);
    records_ = root + "data/";

    read_metadata(*top);
    const Node* weights = top;
    for (const char* wrapper : {"state_dict", "model"}) {
      if (const Node* inner = dict_at(*weights, wrapper)) weights = inner;
    }
    flatten(*weights, "", 0);
    build_tensors();
    return std::move(file_);
  }

 private:
  struct Record {
    const ZipEntry* entry;
    DType dtype;
    int64_t count;
  };

  // The folder that all records lie in, with its slash.
  std::string find_root() const {
    constexpr std::string_view kPickle = "data.pkl";
    std::optional<std::string> root;
    for (const ZipEntry& entry : zip_.entries()) {
      const std::string_view name = entry.name;
      SINOPIA_CHECK(!name.ends_with("/constants.pkl") || name.find('/') != name.rfind('/'), Unsupported,
                    "[ckpt] {}: a TorchScript program; export its state_dict instead", name_);
      if (!name.ends_with(kPickle)) continue;
      const std::string_view folder = name.substr(0, name.size() - kPickle.size());
      const bool is_top = folder.empty() || (folder.find('/') == folder.size() - 1);
      if (!is_top) continue;
      SINOPIA_CHECK(!root, Corrupt, "[ckpt] {}: more than one data.pkl", name_);
      root = folder;
    }
    SINOPIA_CHECK(root, Corrupt, "[ckpt] {}: a zip archive without data.pkl", name_);
    return *root;
  }

  void read_metadata(const Node& top) {
    for (size_t i = 0; i + 1 < top.items.size(); i += 2) {
      const Node* key = node_of(top.items[i], Node::Kind::Text);
      if (!key || key->text.size() > kMaxNameBytes || !is_utf8(key->text)) continue;
      const Value& value = top.items[i + 1];
      std::string text;
      if (value.kind == Value::Kind::Bool) {
        text = value.integer ? "true" : "false";
      } else if (value.kind == Value::Kind::Integer) {
        text = fmt::format("{}", value.integer);
      } else if (value.kind == Value::Kind::Float) {
        text = fmt::format("{}", value.number);
      } else if (const Node* node = node_of(value, Node::Kind::Text); node && is_utf8(node->text)) {
        text = node->text;
      } else {
        continue;
      }
      file_.metadata.insert_or_assign(std::string(key->text), std::move(text));
    }
  }

  void flatten(const Node& dict, const std::string& prefix, int depth) {
    SINOPIA_CHECK(depth < kMaxDepth && seen_.insert(&dict).second, Corrupt,
                  "[ckpt] {}: dictionaries that hold each other, at '{}'", name_, prefix);
    for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const Value& value = dict.items[i + 1];
      const Node* tensor = node_of(value, Node::Kind::Tensor);
      const Node* inner = node_of(value, Node::Kind::Dict);
      if (!tensor && !inner) continue;
      std::string name = prefix + name_of_key(dict.items[i]);
      SINOPIA_CHECK(name.size() <= kMaxNameBytes && name.find('\0') == std::string::npos && is_utf8(name),
                    Corrupt, "[ckpt] {}: a tensor's name is too long, holds a NUL or is not UTF-8", name_);
      if (inner) {
        flatten(*inner, name + '.', depth + 1);
      } else {
        tensors_.insert_or_assign(std::move(name), tensor);
      }
    }
  }

  std::string name_of_key(const Value& key) const {
    if (key.kind == Value::Kind::Integer) return fmt::format("{}", key.integer);
    const Node* text = node_of(key, Node::Kind::Text);
    if (!text) text = node_of(key, Node::Kind::Bytes);
    // Lightning keys its callbacks by their class.
    if (!text) text = node_of(key, Node::Kind::Global);
    SINOPIA_CHECK(text, Unsupported, "[ckpt] {}: a tensor under a key that is no text", name_);
    return std::string(text->text.substr(0, kMaxNameBytes + 1));
  }

  void build_tensors() {
    for (const auto& [name, node] : tensors_) {
      const Node& storage = *node->items[0].node;
      if (!record_of_.contains(storage.text)) record_of_.emplace(storage.text, find_record(name, storage));
      const Record& record = record_of_.at(storage.text);
      SINOPIA_CHECK(record.dtype == storage.dtype && record.count == storage.count, Corrupt,
                    "[ckpt] {}: '{}' takes record '{}' for another type or size", name_, name, storage.text);
      file_.tensors.emplace_hint(file_.tensors.end(), name, make_tensor(name, *node, record));
    }
    verify_records();
    for (const auto& [name, tensor] : file_.tensors) {
      if (tensor.dtype() != DType::Bool) continue;
      const auto* values = static_cast<const uint8_t*>(tensor.raw());
      SINOPIA_CHECK(std::all_of(values, values + tensor.bytes(), [](uint8_t value) { return value <= 1; }),
                    Corrupt, "[ckpt] {}: '{}' holds booleans other than 0 and 1", name_, name);
    }
  }

  // Large files are read once for this, by all threads; waking them for a small one takes longer than its
  // sums.
  void verify_records() const {
    std::vector<const ZipEntry*> entries;
    uint64_t bytes = 0;
    for (const auto& [key, record] : record_of_) {
      entries.push_back(record.entry);
      bytes += record.entry->bytes;
    }
    constexpr uint64_t kSerialBytes = uint64_t{4} << 20;
    const auto count = static_cast<int64_t>(entries.size());
    parallel_for(count, bytes <= kSerialBytes ? count : 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) zip_.verify(*entries[static_cast<size_t>(i)]);
    });
  }

  Record find_record(const std::string& name, const Node& storage) const {
    const ZipEntry* entry = zip_.find(fmt::format("{}{}", records_, storage.text));
    SINOPIA_CHECK(entry, Corrupt, "[ckpt] {}: no record '{}' for '{}'", name_, storage.text.substr(0, 100),
                  name);
    SINOPIA_CHECK(entry->stored, Unsupported,
                  "[ckpt] {}: '{}' is compressed; torch.save stores tensors as they are", name_, name);
    const size_t size = size_of(storage.dtype);
    SINOPIA_CHECK(entry->bytes % size == 0 && entry->bytes / size == static_cast<uint64_t>(storage.count),
                  Corrupt, "[ckpt] {}: expected {} elements of {} in record '{}', got {} bytes", name_,
                  storage.count, to_string(storage.dtype), storage.text, entry->bytes);
    return {entry, storage.dtype, storage.count};
  }

  Tensor make_tensor(const std::string& name, const Node& node, const Record& record) {
    SINOPIA_CHECK(node.sizes.size() <= Shape::kMaxRank, Unsupported,
                  "[ckpt] {}: expected at most {} axes for '{}', got {}", name_, Shape::kMaxRank + 0, name,
                  node.sizes.size());
    bool empty = false, contiguous = true;
    unsigned __int128 last = static_cast<unsigned __int128>(node.offset);  // of the elements that are reached
    int64_t numel = 1;
    for (size_t i = node.sizes.size(); i-- > 0;) {
      const int64_t size = node.sizes[i];
      empty = empty || size == 0;
      if (size <= 1) continue;
      contiguous = contiguous && node.strides[i] == numel;
      last += static_cast<unsigned __int128>(size - 1) * static_cast<unsigned __int128>(node.strides[i]);
      SINOPIA_CHECK(numel <= (int64_t{1} << 62) / size, Corrupt, "[ckpt] {}: the size of '{}' overflows",
                    name_, name);
      numel *= size;
    }
    const Shape shape(std::span<const int64_t>(node.sizes));
    const size_t element = size_of(record.dtype);
    SINOPIA_CHECK(empty ? node.offset <= record.count : last < static_cast<unsigned __int128>(record.count),
                  Corrupt, "[ckpt] {}: '{}' {} leaves its record of {} elements", name_, name,
                  to_string(shape), record.count);
    if (empty) return Tensor::empty(shape, record.dtype);

    const size_t begin = record.entry->offset + static_cast<size_t>(node.offset) * element;
    const char* from = static_cast<const char*>(zip_.storage()->data()) + begin;
    const bool aligned = reinterpret_cast<uintptr_t>(from) % element == 0;
    if (contiguous && aligned) return Tensor(shape, record.dtype, zip_.storage(), begin);
    // An expanded tensor can be far larger than its record.
    const auto bytes = static_cast<unsigned __int128>(numel) * element;
    SINOPIA_CHECK(bytes <= copy_budget_, Unsupported, "[ckpt] {}: '{}' expands to more than the file holds",
                  name_, name);
    copy_budget_ -= static_cast<size_t>(bytes);
    Tensor tensor = Tensor::empty(shape, record.dtype);
    copy_strided(node, element, from, static_cast<char*>(tensor.raw()), 0);
    return tensor;
  }

  static char* copy_strided(const Node& node, size_t element, const char* from, char* to, size_t axis) {
    if (axis == node.sizes.size()) {
      std::memcpy(to, from, element);
      return to + element;
    }
    for (int64_t i = 0; i < node.sizes[axis]; ++i) {
      to = copy_strided(node, element, from + static_cast<size_t>(i * node.strides[axis]) * element, to,
                        axis + 1);
    }
    return to;
  }

  ZipArchive zip_;
  std::string name_;
  size_t copy_budget_;
  std::string records_;
  std::unordered_set<const Node*> seen_;
  std::map<std::string, const Node*> tensors_;
  std::unordered_map<std::string_view, Record> record_of_;
  TensorFile file_;
};

}  // namespace

TensorFile parse_ckpt(const std::shared_ptr<Storage>& bytes, std::string_view name) {
  const std::string_view data(static_cast<const char*>(bytes->data()), bytes->bytes());
  constexpr size_t kTarMagicAt = 257;
  const bool tar = data.size() > kTarMagicAt + 5 && data.substr(kTarMagicAt, 5) == "ustar";
  const bool older = data.size() > 2 && data[0] == '\x80' && data[1] <= 5;
  SINOPIA_CHECK(
      !tar && !older, Unsupported,
      "[ckpt] {}: written in the format that torch.save had before version 1.6; load it with torch.load and "
      "save it again with torch.save, or as safetensors",
      name);
  return Reader(bytes, name).read();
}

TensorFile read_ckpt(const std::filesystem::path& path) {
  return parse_ckpt(map_file(path), path.filename().string());
}

}  // namespace sinopia
