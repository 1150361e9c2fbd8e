// Any bytes as a prompt, through every step of reading one: finite weights, whole chunks, or an
// InvalidArgument.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sinopia/base/error.h"
#include "sinopia/text/chunks.h"
#include "sinopia/text/prompt.h"

using namespace sinopia;

namespace {

void require(bool condition) {
  if (!condition) abort();
}

void check_chunks(std::string_view text, const EmbeddingNames& names) {
  const auto pieces = parse_attention(text);
  require(!pieces.empty());
  for (const PromptPiece& piece : pieces) require(std::isfinite(piece.weight));
  const auto chunks = make_chunks(ClipTokenizer(), pieces, names);
  require(!chunks.empty());
  for (const TokenChunk& chunk : chunks) {
    require(chunk.ids.size() == kChunkTokens && chunk.weights.size() == kChunkTokens);
    require(chunk.ids.front() == ClipTokenizer::kBos && chunk.ids.back() == ClipTokenizer::kEos);
    int last = 0;
    for (const EmbeddingPlacement& placement : chunk.embeddings) {
      require(placement.position > last && placement.position + placement.length < kChunkTokens);
      last = placement.position + placement.length - 1;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const EmbeddingNames names = [] {
    EmbeddingNames result;
    result.add(ClipTokenizer(), "a", 40);
    result.add(ClipTokenizer(), "b c", 3);
    return result;
  }();
  if (size == 0) return 0;
  const int steps = 1 + data[0] % 20;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const Prompt prompt = parse_prompt(text);
    require(!prompt.subprompts.empty());
    for (const SubPrompt& part : prompt.subprompts) {
      require(std::isfinite(part.weight));
      const auto schedule = resolve_schedule(part.text, steps);
      require(!schedule.empty() && schedule.back().last_step == steps);
      require(std::is_sorted(schedule.begin(), schedule.end(),
                             [](const auto& a, const auto& b) { return a.last_step < b.last_step; }));
      check_chunks(schedule.front().text, names);
      check_chunks(schedule.back().text, names);
    }
    for (const ExtraNetwork& network : prompt.extra_networks) lora_reference(network);
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::InvalidArgument);
  }
  return 0;
}
