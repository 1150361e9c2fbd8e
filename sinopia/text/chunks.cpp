#include "sinopia/text/chunks.h"

#include <algorithm>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr size_t kWindow = kChunkTokens - 2;

void pad(TokenChunk& chunk, int32_t padding) {
  chunk.ids.resize(kChunkTokens - 1, ClipTokenizer::kEos);
  chunk.ids.push_back(ClipTokenizer::kEos);
  chunk.weights.resize(kChunkTokens, 1.0f);
  if (padding == ClipTokenizer::kEos) return;  // text behind an EOS that the prompt spells out stays
  const auto end = std::find(chunk.ids.begin(), chunk.ids.end(), ClipTokenizer::kEos);
  std::fill(end + 1, chunk.ids.end(), padding);
}

class ChunkBuilder {
 public:
  ChunkBuilder(const EmbeddingNames& embeddings, const ChunkOptions& options)
      : embeddings_(embeddings), options_(options), comma_(ClipTokenizer().encode(",").front()) {
    start();
  }

  void add(std::span<const int32_t> tokens, float weight) {
    for (size_t i = 0; i < tokens.size();) {
      if (tokens[i] == comma_) {
        last_comma_ = static_cast<int>(chunk_.ids.size());
      } else if (full() && comma_is_near()) {
        cut_after_comma();
      }
      if (full()) finish();

      const EmbeddingNames::Match match = embeddings_.find(tokens, i);
      if (match.embedding < 0) {
        append(tokens[i++], weight);
        continue;
      }
      if (used() + static_cast<size_t>(match.vectors) > kWindow) finish();
      chunk_.embeddings.push_back({static_cast<int>(chunk_.ids.size()), match.embedding, match.vectors});
      for (int k = 0; k < match.vectors; ++k) append(0, weight);
      i += static_cast<size_t>(match.tokens);
    }
  }

  void finish() {
    pad(chunk_, options_.padding);
    chunks_.push_back(std::move(chunk_));
    start();
  }

  std::vector<TokenChunk> result() {
    if (used() > 0 || chunks_.empty()) finish();
    return std::move(chunks_);
  }

 private:
  size_t used() const { return chunk_.ids.size() - 1; }
  bool full() const { return used() == kWindow; }

  void start() {
    chunk_ = TokenChunk{{ClipTokenizer::kBos}, {1.0f}, {}};
    last_comma_ = -1;
  }

  void append(int32_t id, float weight) {
    chunk_.ids.push_back(id);
    chunk_.weights.push_back(weight);
  }

  bool comma_is_near() const {
    return last_comma_ >= 0 && static_cast<int>(chunk_.ids.size()) - last_comma_ <= options_.comma_backtrack;
  }

  // Ends the chunk after its last comma; what followed starts the next one.
  void cut_after_comma() {
    const int cut = last_comma_ + 1;
    const std::vector<int32_t> ids(chunk_.ids.begin() + cut, chunk_.ids.end());
    const std::vector<float> weights(chunk_.weights.begin() + cut, chunk_.weights.end());
    std::vector<EmbeddingPlacement> moved;
    std::vector<EmbeddingPlacement>& placed = chunk_.embeddings;
    const auto first = std::find_if(placed.begin(), placed.end(), [cut](const EmbeddingPlacement& placement) {
      return placement.position >= cut;
    });
    for (auto placement = first; placement != placed.end(); ++placement) {
      moved.push_back({placement->position - cut + 1, placement->embedding, placement->length});
    }
    placed.erase(first, placed.end());
    chunk_.ids.resize(static_cast<size_t>(cut));
    chunk_.weights.resize(static_cast<size_t>(cut));
    finish();
    chunk_.ids.insert(chunk_.ids.end(), ids.begin(), ids.end());
    chunk_.weights.insert(chunk_.weights.end(), weights.begin(), weights.end());
    chunk_.embeddings = std::move(moved);
  }

  const EmbeddingNames& embeddings_;
  const ChunkOptions& options_;
  const int32_t comma_;
  TokenChunk chunk_;
  int last_comma_ = -1;  // its position in chunk_
  std::vector<TokenChunk> chunks_;
};

}  // namespace

int EmbeddingNames::add(const ClipTokenizer& tokenizer, std::string_view name, int vectors) {
  SINOPIA_CHECK(vectors >= 1 && vectors <= static_cast<int>(kWindow), InvalidArgument,
                "[chunks] expected an embedding of 1 to {} vectors, got {} in '{}'", kWindow, vectors, name);
  std::vector<int32_t> tokens = tokenizer.encode(name);
  SINOPIA_CHECK(!tokens.empty(), InvalidArgument, "[chunks] expected the name of an embedding, got '{}'",
                name);
  std::vector<Entry>& entries = by_first_token_[tokens.front()];
  const auto shorter = std::find_if(entries.begin(), entries.end(),
                                    [&](const Entry& entry) { return entry.tokens.size() < tokens.size(); });
  entries.insert(shorter, Entry{std::move(tokens), count_, vectors});
  return count_++;
}

EmbeddingNames::Match EmbeddingNames::find(std::span<const int32_t> tokens, size_t position) const {
  const auto entries = by_first_token_.find(tokens[position]);
  if (entries == by_first_token_.end()) return {};
  const std::span<const int32_t> rest = tokens.subspan(position);
  for (const Entry& entry : entries->second) {
    if (entry.tokens.size() <= rest.size() &&
        std::equal(entry.tokens.begin(), entry.tokens.end(), rest.begin())) {
      return {entry.embedding, static_cast<int>(entry.tokens.size()), entry.vectors};
    }
  }
  return {};
}

std::vector<TokenChunk> make_chunks(const ClipTokenizer& tokenizer, std::span<const PromptPiece> pieces,
                                    const EmbeddingNames& embeddings, const ChunkOptions& options) {
  ChunkBuilder builder(embeddings, options);
  for (const PromptPiece& piece : pieces) {
    if (piece.chunk_break) {
      builder.finish();
    } else {
      builder.add(tokenizer.encode(piece.text), piece.weight);
    }
  }
  return builder.result();
}

TokenChunk make_truncated_chunk(const ClipTokenizer& tokenizer, std::string_view text, int32_t padding) {
  std::vector<int32_t> tokens = tokenizer.encode(text);
  tokens.resize(std::min(tokens.size(), kWindow));
  TokenChunk chunk;
  chunk.ids.assign(kChunkTokens, padding);
  chunk.ids[0] = ClipTokenizer::kBos;
  std::copy(tokens.begin(), tokens.end(), chunk.ids.begin() + 1);
  chunk.ids[tokens.size() + 1] = ClipTokenizer::kEos;
  chunk.weights.assign(kChunkTokens, 1.0f);
  return chunk;
}

}  // namespace sinopia
