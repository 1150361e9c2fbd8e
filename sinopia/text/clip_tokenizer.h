#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sinopia {

/// What a CLIP tokenizer takes for a special token when it stands in the text itself. The three settings of
/// transformers differ with the tokenizer_config.json beside the vocabulary, never in anything else.
struct ClipSpecialTokens {
  bool start_in_any_case = false;    ///< "<|StartOfText|>" too is a special token, not only "<|startoftext|>"
  bool end_in_any_case = false;      ///< the same for "<|endoftext|>"
  bool exclamation_is_zero = false;  ///< every "!" is the token 0, because "!" is the padding token
};

/// transformers' CLIPTokenizer made from vocab.json and merges.txt alone; AUTOMATIC1111's for every model.
inline constexpr ClipSpecialTokens kPlainClipTokens{};
/// The `tokenizer` folder of Stable Diffusion 1 and the first one of SDXL (padding token <|endoftext|>).
inline constexpr ClipSpecialTokens kSd1ClipTokens{true, false, false};
/// The `tokenizer` folder of Stable Diffusion 2 and the second one of SDXL and SD3 (padding token "!").
inline constexpr ClipSpecialTokens kSd2ClipTokens{true, true, true};

/// CLIP's lower-cased byte-pair tokenizer, token for token equal to transformers' CLIPTokenizer on any text.
/// Immutable and thread-safe; copies are cheap, all share one vocabulary.
class ClipTokenizer {
 public:
  static constexpr int32_t kBos = 49406;
  static constexpr int32_t kEos = 49407;
  static constexpr int32_t kVocabularySize = 49408;

  explicit ClipTokenizer(ClipSpecialTokens special = kPlainClipTokens) : special_(special) {}

  /// The tokens of a UTF-8 text, without BOS and EOS around them and without a limit. Ill-formed UTF-8 counts
  /// as U+FFFD; NUL is a character like any other. Time O(n log n).  Throws InvalidArgument for 2 GiB or
  /// more.
  std::vector<int32_t> encode(std::string_view text) const;

  /// The text of tokens: lower-cased, one space between words, none at the ends; special tokens are spelled
  /// out. Bytes that are no UTF-8 become U+FFFD.  Throws InvalidArgument for an id outside 0..49407.
  std::string decode(std::span<const int32_t> ids) const;

 private:
  ClipSpecialTokens special_;
};

}  // namespace sinopia
