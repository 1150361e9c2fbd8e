#include "sinopia/text/clip_vocabulary.h"

#include <algorithm>
#include <string_view>

#include <zlib.h>

#include "sinopia/base/error.h"
#include "sinopia/text/unicode.h"

// data/clip/bpe_simple_vocab_16e6.txt.gz, whose path the build passes in; no compiler can read it as fast.
// clang-format off
asm(".section .rodata\n"
    ".global sinopia_clip_merges\n"
    ".global sinopia_clip_merges_end\n"
    "sinopia_clip_merges:\n"
    ".incbin \"" SINOPIA_CLIP_MERGES "\"\n"
    "sinopia_clip_merges_end:\n"
    ".byte 0\n"
    ".previous\n");
// clang-format on
extern "C" const unsigned char sinopia_clip_merges[];
extern "C" const unsigned char sinopia_clip_merges_end[];

namespace sinopia {
namespace {

// Only the head of the list is in the vocabulary, so that inflating stops there.
class MergeLines {
 public:
  MergeLines() {
    SINOPIA_CHECK(inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK, OutOfMemory,
                  "[clip_vocabulary] zlib did not start");
    stream_.next_in = const_cast<Bytef*>(sinopia_clip_merges);
    stream_.avail_in = static_cast<uInt>(sinopia_clip_merges_end - sinopia_clip_merges);
  }
  MergeLines(const MergeLines&) = delete;
  MergeLines& operator=(const MergeLines&) = delete;
  ~MergeLines() { inflateEnd(&stream_); }

  std::string next() {
    std::string line;
    for (;;) {
      const auto end = std::find(unread_, filled_, '\n');
      line.append(unread_, end);
      if (end != filled_) {
        unread_ = end + 1;
        return line;
      }
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
      stream_.avail_out = static_cast<uInt>(buffer_.size());
      SINOPIA_CHECK(inflate(&stream_, Z_NO_FLUSH) == Z_OK, Corrupt,
                    "[clip_vocabulary] the built-in merges are damaged");
      unread_ = buffer_.data();
      filled_ = buffer_.data() + (buffer_.size() - stream_.avail_out);
    }
  }

 private:
  z_stream stream_{};
  std::array<char, 65536> buffer_;
  const char* unread_ = buffer_.data();
  const char* filled_ = buffer_.data();
};

// The printable stand-in of each byte in the list (GPT-2's byte-level BPE), in the order of the vocabulary.
struct ByteCharacters {
  std::vector<unsigned char> bytes;
  std::vector<std::string> characters;

  ByteCharacters() {
    const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
    for (const bool wanted : {true, false}) {
      char32_t stand_in = 256;
      for (int b = 0; b < 256; ++b) {
        if (printable(b) != wanted) continue;
        bytes.push_back(static_cast<unsigned char>(b));
        unicode::append_utf8(characters.emplace_back(), wanted ? static_cast<char32_t>(b) : stand_in++);
      }
    }
  }
};

}  // namespace

const ClipVocabulary& ClipVocabulary::instance() {
  static const ClipVocabulary vocabulary;
  return vocabulary;
}

ClipVocabulary::ClipVocabulary() {
  std::unordered_map<std::string, int32_t> ids;
  ids.reserve(kSize);
  bytes_.reserve(kSize);
  ranks_.reserve(kMerges);

  const ByteCharacters table;
  for (const char* ending : {"", "</w>"}) {
    for (size_t i = 0; i < 256; ++i) {
      ids.emplace(table.characters[i] + ending, static_cast<int32_t>(bytes_.size()));
      bytes_.push_back(std::string(1, static_cast<char>(table.bytes[i])) + ending);
    }
  }
  for (size_t i = 0; i < 256; ++i) byte_tokens_[table.bytes[i]] = static_cast<int32_t>(i);

  MergeLines lines;
  lines.next();  // the version
  for (int32_t rank = 0; rank < kMerges; ++rank) {
    const std::string line = lines.next();
    const size_t space = line.find(' ');
    SINOPIA_CHECK(space != std::string::npos, Corrupt, "[clip_vocabulary] merge {} is not a pair: '{}'", rank,
                  line);
    const int32_t left = ids.at(line.substr(0, space)), right = ids.at(line.substr(space + 1));
    ranks_.emplace(pair_key(left, right), rank);
    ids.emplace(line.substr(0, space) + line.substr(space + 1), kFirstMerged + rank);
    bytes_.push_back(bytes_[static_cast<size_t>(left)] + bytes_[static_cast<size_t>(right)]);
  }
  bytes_.insert(bytes_.end(), {"<|startoftext|>", "<|endoftext|>"});
}

}  // namespace sinopia
