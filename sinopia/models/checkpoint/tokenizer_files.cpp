#include "sinopia/models/checkpoint/tokenizer_files.h"

#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/text/clip_vocabulary.h"

namespace sinopia {
namespace {

/// The printable character that stands for a byte in the files (GPT-2's byte-level pairs), in UTF-8.
std::vector<std::string> byte_characters() {
  std::vector<std::string> result;
  int stand_in = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    const int code = printable ? b : stand_in++;
    result.push_back(
        code < 128 ? std::string(1, static_cast<char>(code))
                   : std::string{static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))});
  }
  return result;
}

ClipTokenizerFiles make_files() {
  const ClipVocabulary& vocabulary = ClipVocabulary::instance();
  std::vector<std::string> text(ClipVocabulary::kSize);
  const std::vector<std::string> characters = byte_characters();
  for (int b = 0; b < 256; ++b) {
    const size_t token = static_cast<size_t>(vocabulary.byte_token(static_cast<unsigned char>(b)));
    text[token] = characters[static_cast<size_t>(b)];
    text[token + 256] = text[token] + "</w>";
  }
  std::unordered_map<std::string, std::vector<int32_t>> by_bytes;
  for (int32_t i = 0; i < ClipVocabulary::kFirstMerged; ++i) by_bytes[vocabulary.bytes(i)].push_back(i);

  ClipTokenizerFiles files{"", "#version: 0.2\n"};
  for (int32_t rank = 0; rank < ClipVocabulary::kMerges; ++rank) {
    const int32_t token = ClipVocabulary::kFirstMerged + rank;
    const std::string& bytes = vocabulary.bytes(token);
    bool found = false;
    for (size_t cut = 1; cut < bytes.size() && !found; ++cut) {
      const auto lefts = by_bytes.find(bytes.substr(0, cut)), rights = by_bytes.find(bytes.substr(cut));
      if (lefts == by_bytes.end() || rights == by_bytes.end()) continue;
      for (int32_t left : lefts->second) {
        for (int32_t right : rights->second) {
          if (found || vocabulary.merge_rank(left, right) != rank) continue;
          const std::string &l = text[static_cast<size_t>(left)], &r = text[static_cast<size_t>(right)];
          files.merges_txt += l + " " + r + "\n";
          text[static_cast<size_t>(token)] = l + r;
          found = true;
        }
      }
    }
    SINOPIA_CHECK(found, Corrupt, "[clip_vocabulary] merge {} makes a token of nothing", rank);
    by_bytes[bytes].push_back(token);
  }
  for (int32_t i = ClipVocabulary::kFirstMerged + ClipVocabulary::kMerges; i < ClipVocabulary::kSize; ++i) {
    text[static_cast<size_t>(i)] = vocabulary.bytes(i);
  }
  std::string& json = files.vocab_json;
  json = "{";
  for (size_t i = 0; i < text.size(); ++i) {
    json += (i ? ", " : "") + nlohmann::json(text[i]).dump() + ": " + std::to_string(i);
  }
  json += "}\n";
  return files;
}

}  // namespace

const ClipTokenizerFiles& clip_tokenizer_files() {
  static const ClipTokenizerFiles files = make_files();
  return files;
}

}  // namespace sinopia
