#include "sinopia/pipelines/text_encoding.h"

#include <algorithm>

#include "sinopia/base/log.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

constexpr size_t kMaxRemembered = 128;

bool weighted(const TokenChunk& chunk) {
  return std::ranges::any_of(chunk.weights, [](float w) { return w != 1.0f; });
}

double mean_of(const Tensor& z) { return moments(z).mean.data<float>()[0]; }

// Fills up with the last vector, as AUTOMATIC1111's reconstruct_multicond_batch.
Tensor lengthen(const Tensor& context, int64_t tokens) {
  const int64_t have = context.dim(1);
  if (have == tokens) return context;
  const Tensor last = narrow(context, 1, have - 1, have);
  std::vector<Tensor> parts = {context};
  parts.insert(parts.end(), static_cast<size_t>(tokens - have), last);
  return concat(parts, 1);
}

void refuse_or_mention(const ExtraNetwork& network) {
  if (network.kind == "lora") {
    log_warning("[prompt] <lora:{}> has no effect: LoRAs are not supported yet",
                lora_reference(network).name);
  } else {
    log_warning("[prompt] <{}:..> has no effect: unknown kind of network", network.kind);
  }
}

}  // namespace

size_t EncodedPrompt::at(int step) const {
  size_t i = 0;
  while (i + 1 < schedule.size() && schedule[i].last_step < step) ++i;
  return i;
}

TextEncoding::TextEncoding(const ClipTextModel& model, int32_t padding_id)
    : model_(model), tokenizer_(padding_id == 0 ? kSd2ClipTokens : kSd1ClipTokens), padding_id_(padding_id) {}

void TextEncoding::add_embedding(std::string_view name, const Tensor& vectors) {
  const int64_t D = model_.config().hidden_size;
  const int64_t count = vectors.rank() == 2 ? vectors.dim(0) : 1;
  SINOPIA_CHECK(
      (vectors.rank() == 1 || vectors.rank() == 2) && vectors.dim(-1) == D && count >= 1 && count <= 75,
      InvalidArgument, "[embedding] expected 1 to 75 vectors of {} for \"{}\", got {}", D, name,
      describe(vectors));
  names_.add(tokenizer_, name, static_cast<int>(count));
  first_row_.push_back(static_cast<int64_t>(rows_.size()) / D);
  const Tensor values = to_dtype(vectors, DType::F32);
  rows_.insert(rows_.end(), values.data<float>(), values.data<float>() + values.numel());
  encoded_.clear();
}

std::vector<TokenChunk> TextEncoding::chunks_of(std::string_view text, const TextOptions& options) const {
  if (options.truncate) return {make_truncated_chunk(tokenizer_, text, padding_id_)};
  std::vector<PromptPiece> pieces = parse_attention(text);
  if (options.emphasis == EmphasisMode::Ignore)
    for (PromptPiece& piece : pieces) piece.weight = 1;
  ChunkOptions chunking;
  chunking.padding = padding_id_;
  return make_chunks(tokenizer_, pieces, names_, chunking);
}

size_t TextEncoding::count_chunks(std::string_view text, const TextOptions& options) const {
  return chunks_of(text, options).size();
}

Tensor TextEncoding::run(const TokenChunk& chunk, const TextOptions& options) const {
  ClipTextOptions clip;
  const int64_t skip = model_.config().skip_layers + std::max(options.clip_skip - 1, 0);
  SINOPIA_CHECK(skip < model_.config().layers, InvalidArgument,
                "[text] expected a clip skip of 0 to {}, got {}",
                model_.config().layers - model_.config().skip_layers, options.clip_skip);
  clip.skip_layers = skip;
  std::vector<int32_t> ids = chunk.ids;
  for (const EmbeddingPlacement& placed : chunk.embeddings) {
    const int64_t row = first_row_[static_cast<size_t>(placed.embedding)];
    for (int i = 0; i < placed.length; ++i)
      ids[static_cast<size_t>(placed.position + i)] =
          static_cast<int32_t>(model_.config().vocab_size + row + i);
  }
  const int64_t D = model_.config().hidden_size;
  if (!chunk.embeddings.empty())
    clip.extra_embeddings = Tensor::from(Shape{static_cast<int64_t>(rows_.size()) / D, D}, rows_);
  const Tensor z = model_.forward(Tensor::from(Shape{1, kChunkTokens}, ids), clip).hidden;
  SINOPIA_CHECK(all_finite(z), Backend, "[text] the text encoder gave values that are not finite");
  return z;
}

Tensor TextEncoding::encode_chunk(const TokenChunk& chunk, const TextOptions& options) {
  const Tensor z = run(chunk, options);
  if (!weighted(chunk)) return z;
  const Tensor w = Tensor::from(Shape{1, kChunkTokens, 1}, chunk.weights);
  Tensor result;
  if (options.emphasis == EmphasisMode::Comfy) {
    const Tensor empty = encode("", 1, options);
    // Tokens of weight 1 stay as they are, bit for bit.
    result = z + (z - empty) * (w - 1.0);
  } else {
    result = z * w;
    if (options.emphasis == EmphasisMode::Original) result = result * (mean_of(z) / mean_of(result));
  }
  SINOPIA_CHECK(all_finite(result), InvalidArgument, "[text] the weights of the prompt are too large");
  return result;
}

Tensor TextEncoding::encode(const std::string& text, size_t chunks, const TextOptions& options) {
  const Key key{text, options.emphasis, options.clip_skip, options.truncate, chunks};
  if (const auto found = encoded_.find(key); found != encoded_.end()) return found->second;
  std::vector<TokenChunk> windows = chunks_of(text, options);
  while (windows.size() < chunks) windows.push_back(chunks_of("", options).front());
  std::vector<Tensor> parts;
  for (const TokenChunk& window : windows) {
    SINOPIA_CHECK(!options.stop.stop_requested(), Cancelled, "[text] stopped while reading the prompt");
    parts.push_back(encode_chunk(window, options));
  }
  if (encoded_.size() >= kMaxRemembered) encoded_.clear();
  return encoded_[key] = concat(parts, 1);
}

EncodedPrompt TextEncoding::encode_schedule(std::string_view text, int steps, const TextOptions& options) {
  std::vector<ScheduledText> texts;
  if (options.truncate)
    texts.push_back({steps, std::string(text)});
  else
    texts = resolve_schedule(text, steps);
  size_t chunks = 1;
  std::map<std::string_view, Tensor> distinct;
  for (const ScheduledText& entry : texts) {
    if (distinct.try_emplace(entry.text).second) chunks = std::max(chunks, count_chunks(entry.text, options));
    SINOPIA_CHECK(chunks * distinct.size() <= kMaxChunks, InvalidArgument,
                  "[text] expected a prompt of at most {} chunks of 75 tokens over all its steps, got more",
                  kMaxChunks);
  }
  EncodedPrompt prompt;
  for (const ScheduledText& entry : texts) {
    Tensor& context = distinct.at(entry.text);
    if (!context) context = encode(entry.text, chunks, options);
    prompt.schedule.push_back({entry.last_step, context});
  }
  return prompt;
}

std::vector<EncodedPrompt> TextEncoding::encode_positive(std::string_view prompt, int steps,
                                                         const TextOptions& options) {
  Prompt parsed;
  if (options.truncate)
    parsed.subprompts.push_back({1.0, std::string(prompt)});
  else
    parsed = parse_prompt(prompt);
  for (const ExtraNetwork& network : parsed.extra_networks) refuse_or_mention(network);
  std::vector<EncodedPrompt> parts;
  int64_t tokens = 0;
  for (const SubPrompt& part : parsed.subprompts) {
    parts.push_back(encode_schedule(part.text, steps, options));
    parts.back().weight = part.weight;
    tokens = std::max(tokens, parts.back().schedule.front().context.dim(1));
  }
  for (EncodedPrompt& part : parts)
    for (ScheduledContext& entry : part.schedule) entry.context = lengthen(entry.context, tokens);
  return parts;
}

EncodedPrompt TextEncoding::encode_negative(std::string_view prompt, int steps, const TextOptions& options) {
  if (!options.truncate) return encode_schedule(strip_comments(prompt), steps, options);
  TextOptions unskipped = options;
  unskipped.clip_skip = 0;
  return encode_schedule(prompt, steps, unskipped);
}

}  // namespace sinopia
