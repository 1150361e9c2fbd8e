#include "sinopia/train/trainers/caption_encoder.h"

#include "sinopia/text/chunks.h"

namespace sinopia {

CaptionEncoder::CaptionEncoder(const ClipTextModel& model, int32_t padding_id)
    : model_(model), tokenizer_(padding_id == 0 ? kSd2ClipTokens : kSd1ClipTokens), padding_id_(padding_id) {}

Tensor CaptionEncoder::tokens(std::span<const std::string> captions) const {
  std::vector<int32_t> ids;
  for (const std::string& caption : captions) {
    const TokenChunk chunk = make_truncated_chunk(tokenizer_, caption, padding_id_);
    ids.insert(ids.end(), chunk.ids.begin(), chunk.ids.end());
  }
  return Tensor::from(Shape{static_cast<int64_t>(captions.size()), kChunkTokens}, ids);
}

ClipTextOutput CaptionEncoder::encode(const Tensor& tokens, bool pooled) const {
  ClipTextOptions options;
  options.pooled = pooled;
  return model_.forward(tokens, options);
}

}  // namespace sinopia
