#pragma once

#include <filesystem>
#include <map>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "sinopia/models/clip/clip_text.h"
#include "sinopia/text/chunks.h"
#include "sinopia/text/prompt.h"

namespace sinopia {

/// A text as the UNet takes it, in force up to and including a step (1-based).
struct ScheduledContext {
  int last_step = 0;
  Tensor context;  ///< [1,77k,D]
};

/// One side of an AND over the steps of a picture.
struct EncodedPrompt {
  double weight = 1;
  std::vector<ScheduledContext> schedule;

  /// The place in `schedule` of a step, 1 to the steps that it was made for.
  size_t at(int step) const;
};

struct TextOptions {
  EmphasisMode emphasis = EmphasisMode::Original;
  int clip_skip = 0;      ///< 1 the model's own layer, 2 the one before it, ..; 0 as 1
  bool truncate = false;  ///< plain text, cut after 75 tokens, as diffusers does
  std::stop_token stop;   ///< looked at before each chunk
};

/// Turns prompts into what the UNet's cross-attention reads. Remembers the texts it has encoded. Not thread
/// safe.
class TextEncoding {
 public:
  /// The most chunks of 75 tokens that the texts of one prompt may take together.
  static constexpr size_t kMaxChunks = 1024;

  /// padding_id: what the model's texts were padded with in training, EOS or 0. `model` must outlive this.
  TextEncoding(const ClipTextModel& model, int32_t padding_id);

  /// A textual-inversion embedding [n,D] or [D], 1 to 75 vectors, mentioned in prompts by its name. Throws
  /// InvalidArgument for another shape.
  void add_embedding(std::string_view name, const Tensor& vectors);

  /// A positive prompt, its AND parts over `steps` steps; all contexts of equal length: texts of one schedule
  /// are filled up with empty chunks, shorter parts of an AND with their last vector, as AUTOMATIC1111 does.
  /// Extra networks (`<lora:..>`) have no effect but a warning to the log. Throws InvalidArgument for a LoRA
  /// without a plain name or a weight that is no number and for a clip skip that leaves no layer, Backend if
  /// the encoder's output is not finite.
  std::vector<EncodedPrompt> encode_positive(std::string_view prompt, int steps, const TextOptions& options);

  /// A negative prompt: schedules and attention, but no AND and no extra networks. With `truncate` the clip
  /// skip is for the positive prompt alone, as diffusers has it.
  EncodedPrompt encode_negative(std::string_view prompt, int steps, const TextOptions& options);

  /// How many chunks of 75 tokens a text without schedules takes.
  size_t count_chunks(std::string_view text, const TextOptions& options) const;

 private:
  using Key = std::tuple<std::string, EmphasisMode, int, bool, size_t>;

  std::vector<TokenChunk> chunks_of(std::string_view text, const TextOptions& options) const;
  EncodedPrompt encode_schedule(std::string_view text, int steps, const TextOptions& options);
  /// [1,77k,D] with k >= chunks.
  Tensor encode(const std::string& text, size_t chunks, const TextOptions& options);
  Tensor encode_chunk(const TokenChunk& chunk, const TextOptions& options);
  Tensor run(const TokenChunk& chunk, const TextOptions& options) const;

  const ClipTextModel& model_;
  ClipTokenizer tokenizer_;
  int32_t padding_id_;
  EmbeddingNames names_;
  std::vector<int64_t> first_row_;  // of each embedding in rows_
  std::vector<float> rows_;         // [E,D]
  std::map<Key, Tensor> encoded_;
};

/// Adds every embedding of a folder under its file's name: AUTOMATIC1111's .pt ("string_to_param"),
/// safetensors with "emb_params", and diffusers' with a tensor under any name. What cannot be read or is made
/// for another model is left out with a warning to the log. Returns the names that were added. Throws
/// NotFound for a missing folder.
std::vector<std::string> add_embeddings(TextEncoding& encoding, const std::filesystem::path& folder);

}  // namespace sinopia
