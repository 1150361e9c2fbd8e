#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <string>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// 16 hexadecimal digits that name weights, for the maker of a cache.
std::string hash_of_tensors(const TensorMap& tensors);

/// Tensors that were made of something, kept on the disk by the hash of what they were made of and the name
/// of what made them: latents of pictures, embeddings of captions. An entry is a safetensors file
/// "folder/maker/ab/abcdef...safetensors", written in one step, with a check sum of all that is in it. Safe
/// for several threads, and for several processes as far as the limit is not concerned.
class TensorCache {
 public:
  using Make = std::function<TensorMap()>;

  /// `maker`: letters, digits, '-', '_' and '.', at most 100; whatever changes the tensors has to change it.
  /// When the maker's files have `max_bytes`, no more are added: an epoch takes every entry once, so that to
  /// throw out the oldest would leave none to be found. Throws InvalidArgument, and Backend where the folder
  /// cannot be made.
  TensorCache(const std::filesystem::path& folder, const std::string& maker,
              uint64_t max_bytes = std::numeric_limits<uint64_t>::max());

  /// The tensors of a content hash (64 hexadecimal digits, see sha256_hex), bit for bit as they were made;
  /// made now, and kept, if there are none. A damaged entry is made again, with a warning in the log. Throws
  /// what `make` throws, and Backend when the system refuses, as on a full disk.
  TensorMap get(const std::string& content_hash, const Make& make);

  /// The same, without making: absent if there is none, or a damaged one.
  std::optional<TensorMap> find(const std::string& content_hash) const;

  /// Of the maker's files.
  uint64_t bytes() const;

 private:
  std::filesystem::path path_of(const std::string& content_hash) const;
  void keep(const std::string& content_hash, const TensorMap& tensors);

  std::filesystem::path folder_;
  std::string maker_;
  uint64_t max_bytes_;
  mutable std::mutex mutex_;  // guards what follows
  uint64_t bytes_ = 0;
  bool full_ = false;
};

}  // namespace sinopia
