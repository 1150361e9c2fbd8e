#include "sinopia/text/clip_tokenizer.h"

#include <algorithm>
#include <queue>

#include "sinopia/base/error.h"
#include "sinopia/text/clip_vocabulary.h"
#include "sinopia/text/unicode.h"

namespace sinopia {
namespace {

constexpr std::string_view kStart = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";

struct Symbol {
  int32_t token, previous, next;  // neighbours in the word, -1 at its ends; token -1: merged away
};

struct Candidate {
  int32_t rank, position;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

// Merges the symbols of one word: always the pair of the lowest rank, the leftmost of them first.
class WordEncoder {
 public:
  explicit WordEncoder(std::vector<int32_t>& ids) : ids_(ids) {}

  void encode(std::string_view word) {
    symbols_.clear();
    const int32_t length = static_cast<int32_t>(word.size());
    for (int32_t i = 0; i < length; ++i) {
      const int32_t token = vocabulary_.byte_token(static_cast<unsigned char>(word[static_cast<size_t>(i)]));
      symbols_.push_back({i + 1 < length ? token : token + 256, i - 1, i + 1 < length ? i + 1 : -1});
    }
    for (int32_t i = 0; i + 1 < length; ++i) propose(i);
    while (!candidates_.empty()) {
      const Candidate candidate = candidates_.top();
      candidates_.pop();
      merge(candidate);
    }
    for (int32_t i = 0; i >= 0; i = symbols_[static_cast<size_t>(i)].next) {
      ids_.push_back(symbols_[static_cast<size_t>(i)].token);
    }
  }

 private:
  Symbol& symbol(int32_t position) { return symbols_[static_cast<size_t>(position)]; }

  int32_t rank_at(int32_t position) {
    const Symbol& left = symbol(position);
    return left.token < 0 || left.next < 0 ? -1 : vocabulary_.merge_rank(left.token, symbol(left.next).token);
  }

  void propose(int32_t position) {
    const int32_t rank = rank_at(position);
    if (rank >= 0) candidates_.push({rank, position});
  }

  void merge(const Candidate& candidate) {
    if (rank_at(candidate.position) != candidate.rank) return;  // a neighbour was merged since
    Symbol& left = symbol(candidate.position);
    Symbol& right = symbol(left.next);
    left.token = ClipVocabulary::kFirstMerged + candidate.rank;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbol(left.next).previous = candidate.position;
    if (left.previous >= 0) propose(left.previous);
    propose(candidate.position);
  }

  const ClipVocabulary& vocabulary_ = ClipVocabulary::instance();
  std::vector<int32_t>& ids_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates_;
};

// The length of the contraction that starts here, or 0.
size_t contraction_length(std::string_view text) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(ending)) return ending.size();
  }
  return 0;
}

enum class CharacterClass { Space, Letter, Number, Other };

CharacterClass classify(char32_t c) {
  if (unicode::is_space(c)) return CharacterClass::Space;
  if (unicode::is_letter(c)) return CharacterClass::Letter;
  return unicode::is_number(c) ? CharacterClass::Number : CharacterClass::Other;
}

// Cuts normalised text into words: contractions, runs of letters, single digits, runs of anything else.
void encode_words(std::string_view text, WordEncoder& encoder) {
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\'') {
      if (const size_t length = contraction_length(text.substr(i))) {
        encoder.encode(text.substr(i, length));
        i += length;
        continue;
      }
    }
    if (text[i] == '<') {
      // Only a name that was no special token before it was lower-cased is left here: not joined to what
      // follows.
      const std::string_view rest = text.substr(i);
      const size_t length = rest.starts_with(kStart) ? kStart.size()
                            : rest.starts_with(kEnd) ? kEnd.size()
                                                     : 0;
      if (length) {
        encoder.encode("<|");
        encoder.encode(rest.substr(2, length - 4));
        encoder.encode("|>");
        i += length;
        continue;
      }
    }
    const size_t start = i;
    const CharacterClass kind = classify(unicode::next_code_point(text, i));
    if (kind == CharacterClass::Space) continue;
    if (kind != CharacterClass::Number) {
      for (size_t next = i; next < text.size(); i = next) {
        if (classify(unicode::next_code_point(text, next)) != kind) break;
      }
    }
    encoder.encode(text.substr(start, i - start));
  }
}

struct SpecialToken {
  std::string_view name;
  int32_t id;
};

// Calls between(text) for what lies between special tokens, and appends the ids of those.
template <class Between>
void split_at_special(std::string_view text, std::span<const SpecialToken> specials,
                      std::vector<int32_t>& ids, Between between) {
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '<' && text[i] != '!') {
      ++i;
      continue;
    }
    const auto special = std::find_if(specials.begin(), specials.end(), [&](const SpecialToken& s) {
      return text.substr(i).starts_with(s.name);
    });
    if (special == specials.end()) {
      ++i;
      continue;
    }
    if (i > start) between(text.substr(start, i - start));
    ids.push_back(special->id);
    start = i += special->name.size();
  }
  if (start < text.size()) between(text.substr(start));
}

}  // namespace

std::vector<int32_t> ClipTokenizer::encode(std::string_view text) const {
  std::vector<SpecialToken> verbatim, in_any_case;
  (special_.start_in_any_case ? in_any_case : verbatim).push_back({kStart, kBos});
  (special_.end_in_any_case ? in_any_case : verbatim).push_back({kEnd, kEos});
  if (special_.exclamation_is_zero) verbatim.push_back({"!", 0});

  std::vector<int32_t> ids;
  WordEncoder encoder(ids);
  split_at_special(text, verbatim, ids, [&](std::string_view raw) {
    const std::string normalized = unicode::normalize_for_clip(raw);
    split_at_special(normalized, in_any_case, ids,
                     [&](std::string_view words) { encode_words(words, encoder); });
  });
  return ids;
}

std::string ClipTokenizer::decode(std::span<const int32_t> ids) const {
  constexpr std::string_view kWordEnd = "</w>";
  const ClipVocabulary& vocabulary = ClipVocabulary::instance();
  std::string bytes;
  for (const int32_t id : ids) {
    SINOPIA_CHECK(id >= 0 && id < kVocabularySize, InvalidArgument,
                  "[clip_tokenizer] expected an id in 0..{}, got {}", kVocabularySize - 1, id);
    bytes += vocabulary.bytes(id);
  }
  const std::string text = unicode::to_valid_utf8(bytes);
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const size_t end = text.find(kWordEnd, i);
    if (end == std::string::npos) {
      result.append(text, i);
      break;
    }
    result.append(text, i, end - i).append(" ");
    i = end + kWordEnd.size();
  }
  size_t first = 0, last = result.size();
  for (size_t next = 0; next < last; first = next) {
    if (!unicode::is_python_space(unicode::next_code_point(result, next))) break;
  }
  for (size_t previous = last; previous > first; last = previous) {
    if (!unicode::is_python_space(unicode::previous_code_point(result, previous))) break;
  }
  return result.substr(first, last - first);
}

}  // namespace sinopia
