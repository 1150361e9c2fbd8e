#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sinopia/io/image.h"
#include "sinopia/io/image_size.h"
#include "sinopia/tensor/storage.h"
#include "sinopia/train/data/layout_boxes.h"

namespace sinopia {

/// One example of a training set.
struct CaptionedPicture {
  std::string name;                   ///< path below the set's folder, or "shard.tar/member"
  std::vector<std::string> captions;  ///< alternatives in UTF-8, at least one
  std::string label;                  ///< the class, for models that take one; empty if none is said
  std::string split;                  ///< "train", "validation", ..; empty if none is said
  bool mirror = true;                 ///< whether a flipped picture still fits its captions
  std::vector<LayoutBox> boxes;       ///< what is seen where, in the order of the file
  bool has_semantic_map = false;      ///< see CaptionedPictures::semantic_map
};

struct CaptionedPicturesOptions {
  bool allow_missing_captions = false;  ///< a picture without a caption has the empty one
  std::string split = {};               ///< takes the examples of this split alone; empty: all
  /// Of captions listed by language; an example with none in it is left out. Empty: all languages.
  std::string language = "en";
};

/// The bytes of a picture's file, and what keeps them in memory.
struct PictureBytes {
  std::shared_ptr<Storage> storage;
  std::span<const uint8_t> bytes;
};

/// A list of pictures with captions in a folder, a JSON Lines file, or tar shards, in byte order of their
/// names. Captions are read once; pictures are mapped when asked for. Thread safe to read.
class CaptionedPictures {
 public:
  /// Every .png, .jpg, .jpeg and .webp file below `folder`, with NAME.txt beside it: a caption a line, blank
  /// lines left out. NAME.map.png beside it is its semantic map. Throws NotFound, naming the file, where a
  /// caption is missing.
  static CaptionedPictures from_folder(const std::filesystem::path& folder,
                                       const CaptionedPicturesOptions& options = {});

  /// An object a line: a picture's path from the file's folder on under "file", "file_name" or "image";
  /// captions, a text or a list, under "caption", "text" or "captions", or lists by language under
  /// "captions"; optional "class" (a text or a number), "split", "mirror", "boxes", a list of
  /// [label, left, top, right, bottom] as LayoutBox has them, and "semantic_map", a path. Other keys are
  /// passed over.
  static CaptionedPictures from_json_lines(const std::filesystem::path& file,
                                           const CaptionedPicturesOptions& options = {});

  /// Shards as WebDataset has them: KEY.png (.jpg, .jpeg, .webp) with KEY.json, as a line of JSON Lines, or
  /// KEY.txt, or both; where both have captions, those of the .json count. KEY.map.png is its semantic map.
  /// KEY ends at the first point of the last part of a member's name. Other members are passed over.
  static CaptionedPictures from_shards(const std::vector<std::filesystem::path>& shards,
                                       const CaptionedPicturesOptions& options = {});

  /// By what is there: a .tar file; a .jsonl file; a folder with metadata.jsonl; a folder that holds .tar
  /// files and no picture; any other folder.
  static CaptionedPictures open(const std::filesystem::path& path,
                                const CaptionedPicturesOptions& options = {});

  // All four throw Corrupt for text that is not UTF-8, broken JSON, fields of another type, boxes that are
  // empty or leave the picture, a picture listed twice and names that leave the folder; NotFound where a
  // caption is missing or there is no picture at all.

  int64_t size() const { return static_cast<int64_t>(examples_.size()); }
  const CaptionedPicture& operator[](int64_t i) const { return examples_[static_cast<size_t>(i)]; }

  /// Throws as map_file does, and Corrupt for a file of more than 512 MiB.
  PictureBytes bytes(int64_t i) const;
  /// SHA-256 of bytes(i), 64 hexadecimal digits.
  std::string content_hash(int64_t i) const;
  /// decode_image of bytes(i), whose errors name the picture.
  Image picture(int64_t i) const;
  /// The size of picture(i), from its header alone.
  PictureSize size_of(int64_t i) const;
  /// A gray picture, as large as picture(i) or of its shape, whose values are the numbers of classes. Throws
  /// NotFound for an example without one.
  Image semantic_map(int64_t i) const;

 private:
  struct File {
    std::filesystem::path path;
    int shard = -1;  ///< if not -1: a part of shards_[shard]
    uint64_t offset = 0, bytes = 0;
  };
  struct Place {
    File picture;
    std::optional<File> map = {};
  };

  void add(CaptionedPicture example, Place place, const CaptionedPicturesOptions& options);
  void finish(const std::string& where);
  const Place& place(int64_t i) const;
  PictureBytes bytes_of(const File& file, const std::string& name) const;
  template <class Read>
  auto read(const File& file, const std::string& name, const Read& from_bytes) const;

  std::vector<CaptionedPicture> examples_;
  std::vector<Place> places_;
  std::vector<std::shared_ptr<Storage>> shards_;
};

}  // namespace sinopia
