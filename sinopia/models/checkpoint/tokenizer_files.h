#pragma once

#include <string>

namespace sinopia {

/// CLIP's vocabulary as the two files that transformers' CLIPTokenizer reads.
struct ClipTokenizerFiles {
  std::string vocab_json;
  std::string merges_txt;
};
const ClipTokenizerFiles& clip_tokenizer_files();

}  // namespace sinopia
