#include "sinopia/train/data/captioned_pictures.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <numeric>
#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/archive_name.h"
#include "sinopia/io/file.h"
#include "sinopia/io/json_file.h"
#include "sinopia/io/sha256.h"
#include "sinopia/io/tar.h"
#include "sinopia/io/unicode.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxPictureBytes = size_t{512} << 20;
constexpr size_t kMaxCaptionBytes = size_t{1} << 20;

constexpr std::string_view kMapEnding = ".map.png";

bool is_picture_name(const fs::path& name) {
  if (name.string().ends_with(kMapEnding)) return false;
  std::string ending = name.extension().string();
  std::ranges::transform(ending, ending.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 4> kEndings = {".png", ".jpg", ".jpeg", ".webp"};
  return std::ranges::find(kEndings, ending) != kEndings.end();
}

std::string_view trimmed(std::string_view text) {
  constexpr const char* kBlank = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

/// Calls take(line, number) for every line that is not blank.
template <class Take>
void for_each_line(std::string_view text, const Take& take) {
  for (size_t at = 0, number = 1; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = trimmed(text.substr(at, end - at));
    if (!line.empty()) take(line, number);
    at = end + 1;
  }
}

std::vector<std::string> lines_of(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<std::string> lines;
  for_each_line(text, [&](std::string_view line, size_t) { lines.emplace_back(line); });
  return lines;
}

const json* field_of(const json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const auto found = object.find(key);
    if (found != object.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::string text_of(const json& value, std::string_view key, std::string_view where) {
  SINOPIA_CHECK(value.is_string(), Corrupt, "[dataset] {}: '{}' is not a text", where, key);
  return value.get<std::string>();
}

void append_captions(const json& value, std::string_view where, std::vector<std::string>& to) {
  if (value.is_array()) {
    for (const json& caption : value) to.push_back(text_of(caption, "captions", where));
  } else {
    to.push_back(text_of(value, "caption", where));
  }
}

std::string label_of(const json& value, std::string_view key, std::string_view where) {
  return value.is_number_integer() ? value.dump() : text_of(value, key, where);
}

std::vector<LayoutBox> boxes_of(const json& list, std::string_view where) {
  SINOPIA_CHECK(list.is_array(), Corrupt, "[dataset] {}: 'boxes' is not a list", where);
  std::vector<LayoutBox> boxes;
  for (const json& box : list) {
    SINOPIA_CHECK(box.is_array() && box.size() == 5 &&
                      std::all_of(box.begin() + 1, box.end(), [](const json& x) { return x.is_number(); }),
                  Corrupt, "[dataset] {}: box {} is not [label, left, top, right, bottom]", where,
                  boxes.size());
    const LayoutBox read{label_of(box[0], "boxes", where), box[1].get<double>(), box[2].get<double>(),
                         box[3].get<double>(), box[4].get<double>()};
    try {
      check(read);
    } catch (const Error& error) {
      fail(ErrorKind::Corrupt, "[dataset] {}: box {}: {}", where, boxes.size(), error.what());
    }
    boxes.push_back(read);
  }
  return boxes;
}

/// An example without its name from an object of JSON; nothing if its captions are all in other languages.
std::optional<CaptionedPicture> example_of(const json& object, std::string_view where,
                                           const CaptionedPicturesOptions& options) {
  SINOPIA_CHECK(object.is_object(), Corrupt, "[dataset] {}: expected an object", where);
  CaptionedPicture example;
  if (const json* captions = field_of(object, {"captions", "caption", "text"})) {
    if (captions->is_object()) {
      for (const auto& [language, list] : captions->items()) {
        if (options.language.empty() || options.language == language)
          append_captions(list, where, example.captions);
      }
      if (example.captions.empty() && !captions->empty()) return std::nullopt;
    } else {
      append_captions(*captions, where, example.captions);
    }
  }
  if (const json* label = field_of(object, {"class"})) example.label = label_of(*label, "class", where);
  if (const json* split = field_of(object, {"split"})) example.split = text_of(*split, "split", where);
  if (const json* mirror = field_of(object, {"mirror"})) {
    SINOPIA_CHECK(mirror->is_boolean(), Corrupt, "[dataset] {}: 'mirror' is not true or false", where);
    example.mirror = mirror->get<bool>();
  }
  if (const json* boxes = field_of(object, {"boxes"})) example.boxes = boxes_of(*boxes, where);
  return example;
}

bool has_entry(const fs::path& folder, bool (*wanted)(const fs::path&)) {
  return std::ranges::any_of(fs::directory_iterator(folder),
                             [&](const fs::directory_entry& entry) { return wanted(entry.path()); });
}

bool is_shard_name(const fs::path& name) { return name.extension() == ".tar"; }

}  // namespace

void CaptionedPictures::add(CaptionedPicture example, Place place, const CaptionedPicturesOptions& options) {
  if (!options.split.empty() && example.split != options.split) return;
  SINOPIA_CHECK(is_utf8(example.name), Corrupt, "[dataset] the name of '{}' is not UTF-8", example.name);
  for (const std::string& caption : example.captions) {
    SINOPIA_CHECK(is_utf8(caption), Corrupt, "[dataset] a caption of '{}' is not UTF-8", example.name);
  }
  if (example.captions.empty()) {
    SINOPIA_CHECK(options.allow_missing_captions, NotFound, "[dataset] no caption for '{}'", example.name);
    example.captions.emplace_back();
  }
  example.has_semantic_map = place.map.has_value();
  examples_.push_back(std::move(example));
  places_.push_back(std::move(place));
}

void CaptionedPictures::finish(const std::string& where) {
  SINOPIA_CHECK(!examples_.empty(), NotFound, "[dataset] no picture in '{}'", where);
  std::vector<size_t> order(examples_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) -> const std::string& { return examples_[i].name; });
  std::vector<CaptionedPicture> examples;
  std::vector<Place> places;
  for (const size_t i : order) {
    SINOPIA_CHECK(examples.empty() || examples.back().name != examples_[i].name, Corrupt,
                  "[dataset] '{}' is listed twice", examples_[i].name);
    examples.push_back(std::move(examples_[i]));
    places.push_back(std::move(places_[i]));
  }
  examples_ = std::move(examples);
  places_ = std::move(places);
}

CaptionedPictures CaptionedPictures::from_folder(const fs::path& folder,
                                                 const CaptionedPicturesOptions& options) {
  SINOPIA_CHECK(fs::is_directory(folder), NotFound, "[dataset] there is no folder '{}'", folder.string());
  CaptionedPictures set;
  try {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file() || !is_picture_name(entry.path())) continue;
      CaptionedPicture example;
      example.name = entry.path().lexically_relative(folder).generic_string();
      const fs::path text = fs::path(entry.path()).replace_extension(".txt");
      if (fs::exists(text)) example.captions = lines_of(read_text_file(text, kMaxCaptionBytes));
      Place place{{entry.path()}};
      const fs::path map = fs::path(entry.path()).replace_extension(kMapEnding);
      if (fs::exists(map)) place.map = File{map};
      set.add(std::move(example), std::move(place), options);
    }
  } catch (const fs::filesystem_error& error) {
    fail(ErrorKind::Backend, "[dataset] {}", error.what());
  }
  set.finish(folder.string());
  return set;
}

CaptionedPictures CaptionedPictures::from_json_lines(const fs::path& file,
                                                     const CaptionedPicturesOptions& options) {
  const auto mapped = map_file(file);
  std::string_view text(static_cast<const char*>(mapped->data()), mapped->bytes());
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  CaptionedPictures set;
  for_each_line(text, [&](std::string_view line, size_t number) {
    const std::string where = fmt::format("{} line {}", file.filename().string(), number);
    const json object = parse_json(line, where);
    std::optional<CaptionedPicture> example = example_of(object, where, options);
    if (!example) return;
    const auto path_in = [&](const json& value, std::string_view key) {
      std::string path = fs::path(text_of(value, key, where)).lexically_normal().generic_string();
      SINOPIA_CHECK(is_safe_archive_name(path), Corrupt,
                    "[dataset] {}: '{}' is not a path from the file's folder on", where, path.substr(0, 100));
      return path;
    };
    const json* name = field_of(object, {"file", "file_name", "image"});
    SINOPIA_CHECK(name, Corrupt, "[dataset] {}: no \"file\"", where);
    example->name = path_in(*name, "file");
    Place place{{file.parent_path() / example->name}};
    if (const json* map = field_of(object, {"semantic_map"}))
      place.map = File{file.parent_path() / path_in(*map, "semantic_map")};
    set.add(std::move(*example), std::move(place), options);
  });
  set.finish(file.string());
  return set;
}

CaptionedPictures CaptionedPictures::from_shards(const std::vector<fs::path>& shards,
                                                 const CaptionedPicturesOptions& options) {
  CaptionedPictures set;
  std::string names;
  for (const fs::path& shard : shards) {
    const std::string shard_name = shard.filename().string();
    names += (names.empty() ? "" : ", ") + shard_name;
    const TarArchive archive(map_file(shard), shard_name);
    struct Parts {
      const TarEntry *picture = nullptr, *map = nullptr, *text = nullptr, *json = nullptr;
    };
    std::map<std::string_view, Parts> parts;
    for (const TarEntry& entry : archive.entries()) {
      const size_t slash = entry.name.rfind('/');
      const size_t base = slash == std::string::npos ? 0 : slash + 1;
      const size_t point = std::min(entry.name.find('.', base), entry.name.size());
      Parts& example = parts[std::string_view(entry.name).substr(0, point)];
      const std::string_view ending = std::string_view(entry.name).substr(point);
      if (is_picture_name(entry.name)) {
        SINOPIA_CHECK(!example.picture, Corrupt, "[dataset] {}: '{}' and '{}' have one key", shard_name,
                      example.picture->name, entry.name);
        example.picture = &entry;
      } else if (ending == kMapEnding) {
        example.map = &entry;
      } else if (ending == ".txt" || ending == ".json") {
        SINOPIA_CHECK(entry.bytes <= kMaxCaptionBytes, Corrupt, "[dataset] {}: '{}' has {} bytes", shard_name,
                      entry.name, entry.bytes);
        (ending == ".txt" ? example.text : example.json) = &entry;
      }
    }
    const int index = static_cast<int>(set.shards_.size());
    for (const auto& [key, found] : parts) {
      if (!found.picture) continue;
      std::optional<CaptionedPicture> example(std::in_place);
      if (found.json) {
        const std::string where = shard_name + "/" + found.json->name;
        example = example_of(parse_json(archive.read(*found.json), where), where, options);
      }
      if (!example) continue;
      if (found.text && example->captions.empty()) example->captions = lines_of(archive.read(*found.text));
      example->name = shard_name + "/" + found.picture->name;
      const auto part = [&](const TarEntry& entry) { return File{shard, index, entry.offset, entry.bytes}; };
      Place place{part(*found.picture)};
      if (found.map) place.map = part(*found.map);
      set.add(std::move(*example), std::move(place), options);
    }
    set.shards_.push_back(archive.storage());
  }
  set.finish(names);
  return set;
}

CaptionedPictures CaptionedPictures::open(const fs::path& path, const CaptionedPicturesOptions& options) {
  if (!fs::is_directory(path)) {
    SINOPIA_CHECK(fs::exists(path), NotFound, "[dataset] there is no '{}'", path.string());
    if (is_shard_name(path)) return from_shards({path}, options);
    SINOPIA_CHECK(path.extension() == ".jsonl", InvalidArgument,
                  "[dataset] expected a folder, a .jsonl or a .tar file, got '{}'", path.string());
    return from_json_lines(path, options);
  }
  if (fs::exists(path / "metadata.jsonl")) return from_json_lines(path / "metadata.jsonl", options);
  if (!has_entry(path, is_shard_name) || has_entry(path, is_picture_name)) return from_folder(path, options);
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (is_shard_name(entry.path())) shards.push_back(entry.path());
  }
  return from_shards(shards, options);
}

const CaptionedPictures::Place& CaptionedPictures::place(int64_t i) const {
  SINOPIA_CHECK(i >= 0 && i < size(), InvalidArgument, "[dataset] no picture {} of {}", i, size());
  return places_[static_cast<size_t>(i)];
}

PictureBytes CaptionedPictures::bytes_of(const File& file, const std::string& name) const {
  PictureBytes result;
  const bool whole = file.shard < 0;
  result.storage = whole ? map_file(file.path) : shards_[static_cast<size_t>(file.shard)];
  const auto* data = static_cast<const uint8_t*>(result.storage->data());
  result.bytes = whole ? std::span(data, result.storage->bytes()) : std::span(data + file.offset, file.bytes);
  SINOPIA_CHECK(result.bytes.size() <= kMaxPictureBytes, Corrupt, "[dataset] '{}' has {} bytes, more than {}",
                name, result.bytes.size(), kMaxPictureBytes + 0);
  return result;
}

PictureBytes CaptionedPictures::bytes(int64_t i) const {
  const Place& at = place(i);
  return bytes_of(at.picture, (*this)[i].name);
}

std::string CaptionedPictures::content_hash(int64_t i) const { return sha256_hex(bytes(i).bytes); }

template <class Read>
auto CaptionedPictures::read(const File& file, const std::string& name, const Read& from_bytes) const {
  const PictureBytes content = bytes_of(file, name);
  try {
    return from_bytes(content.bytes);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{} in '{}'", error.what(), name));
  }
}

Image CaptionedPictures::picture(int64_t i) const {
  const Place& at = place(i);
  return read(at.picture, (*this)[i].name, decode_image);
}

PictureSize CaptionedPictures::size_of(int64_t i) const {
  const Place& at = place(i);
  return read(at.picture, (*this)[i].name, read_image_size);
}

Image CaptionedPictures::semantic_map(int64_t i) const {
  const std::optional<File>& map = place(i).map;
  SINOPIA_CHECK(map, NotFound, "[dataset] no semantic map for '{}'", (*this)[i].name);
  return read(*map, "the semantic map of " + (*this)[i].name, decode_image);
}

}  // namespace sinopia
