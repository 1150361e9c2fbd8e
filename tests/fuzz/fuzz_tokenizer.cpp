// Any bytes as text: ids stay in the vocabulary, and text that went through the tokenizer once stays what it
// is.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sinopia/text/clip_tokenizer.h"

using namespace sinopia;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ClipSpecialTokens special{(data[0] & 1) != 0, (data[0] & 2) != 0, (data[0] & 4) != 0};
  const ClipTokenizer tokenizer(special);
  const auto ids = tokenizer.encode({reinterpret_cast<const char*>(data) + 1, size - 1});
  for (const int32_t id : ids) {
    if (id < 0 || id >= ClipTokenizer::kVocabularySize) abort();
  }
  if (ids.size() > 4 * size) abort();
  tokenizer.encode(tokenizer.decode(ids));
  return 0;
}
