#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace sinopia {

/// The 49,408 tokens of CLIP's vocab.json and the 48,894 merges that build them (Radford et al. 2021), read
/// from the list that is built into the library. Ids: 512 single bytes (the second half ends a word), one id
/// for each merge in order of rank, <|startoftext|>, <|endoftext|>.
class ClipVocabulary {
 public:
  static constexpr int32_t kMerges = 48894;
  static constexpr int32_t kFirstMerged = 512;  ///< the token that merge 0 makes
  static constexpr int32_t kSize = kFirstMerged + kMerges + 2;

  /// Inflated and read at the first call; thread-safe.
  static const ClipVocabulary& instance();

  /// The token of one byte inside a word; + 256 at its end.
  int32_t byte_token(unsigned char byte) const { return byte_tokens_[byte]; }

  /// The rank of the merge of two neighbouring tokens, or -1.
  int32_t merge_rank(int32_t left, int32_t right) const {
    const auto found = ranks_.find(pair_key(left, right));
    return found == ranks_.end() ? -1 : found->second;
  }

  /// The bytes of a token; one that ends a word ends in "</w>".  0 <= token < kSize.
  const std::string& bytes(int32_t token) const { return bytes_[static_cast<size_t>(token)]; }

 private:
  ClipVocabulary();
  static uint64_t pair_key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }

  std::array<int32_t, 256> byte_tokens_{};
  std::vector<std::string> bytes_;
  std::unordered_map<uint64_t, int32_t> ranks_;
};

}  // namespace sinopia
