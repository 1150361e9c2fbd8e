#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sinopia/text/clip_tokenizer.h"
#include "sinopia/text/prompt.h"

namespace sinopia {

/// The context of CLIP's text encoders: BOS, 75 tokens, EOS.
inline constexpr int kChunkTokens = 77;

/// A textual-inversion embedding within a chunk: its vectors replace the outputs of the token embedding at
/// positions position .. position + length - 1 (of the 77), where the ids are 0.
struct EmbeddingPlacement {
  int position = 0;
  int embedding = 0;  ///< the index that EmbeddingNames::add returned
  int length = 0;
};

/// One window of the text encoder.
struct TokenChunk {
  std::vector<int32_t> ids;    ///< kChunkTokens
  std::vector<float> weights;  ///< kChunkTokens; 1 for BOS, EOS and padding
  std::vector<EmbeddingPlacement> embeddings;
};

/// The names of the textual-inversion embeddings that a prompt may mention. A name is found by its tokens, in
/// any letter case, and as a part of a longer text too; of several names that fit, the one of most tokens
/// wins.
class EmbeddingNames {
 public:
  struct Match {
    int embedding = -1;  ///< -1: none
    int tokens = 0;      ///< how many tokens of the prompt spell the name
    int vectors = 0;
  };

  /// vectors: how many positions the embedding takes, 1..75. Returns its index: 0, 1, ..
  /// Throws InvalidArgument for a name without tokens and for another number of vectors.
  int add(const ClipTokenizer& tokenizer, std::string_view name, int vectors);

  /// The embedding whose name starts at tokens[position].
  Match find(std::span<const int32_t> tokens, size_t position) const;

 private:
  struct Entry {
    std::vector<int32_t> tokens;
    int embedding, vectors;
  };
  int count_ = 0;
  std::unordered_map<int32_t, std::vector<Entry>> by_first_token_;  // longest first
};

struct ChunkOptions {
  /// What follows the first EOS of a chunk: EOS for SD1 and SDXL's first encoder, 0 for SD2 and OpenCLIP
  /// encoders.
  int32_t padding = ClipTokenizer::kEos;
  /// A full chunk is cut after its last comma if that is among its last comma_backtrack tokens; 0: never.
  int comma_backtrack = 20;
};

/// Weighted text as the windows of a text encoder, whose outputs are joined along the token axis: nothing is
/// cut off. Each piece is tokenized by itself. A break ends the chunk; an embedding never straddles two. At
/// least one chunk. Follows AUTOMATIC1111's modules/sd_hijack_clip.py, but for embeddings that a comma moves
/// to the next chunk, whose placements move along here.
std::vector<TokenChunk> make_chunks(const ClipTokenizer& tokenizer, std::span<const PromptPiece> pieces,
                                    const EmbeddingNames& embeddings = {}, const ChunkOptions& options = {});

/// The one window that diffusers uses (padding="max_length", truncation, max_length=77): the text as it
/// stands, cut after 75 tokens, all weights 1.
TokenChunk make_truncated_chunk(const ClipTokenizer& tokenizer, std::string_view text,
                                int32_t padding = ClipTokenizer::kEos);

}  // namespace sinopia
