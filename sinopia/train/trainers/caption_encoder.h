#pragma once

#include <span>
#include <string>
#include <vector>

#include "sinopia/models/clip/clip_text.h"
#include "sinopia/text/clip_tokenizer.h"

namespace sinopia {

/// A text encoder as captions reach it: one window of 77 tokens, what is longer is cut.
class CaptionEncoder {
 public:
  /// padding_id as in TextEncoderPart. `model` must outlive this.
  CaptionEncoder(const ClipTextModel& model, int32_t padding_id);

  /// i32 [N,77].
  Tensor tokens(std::span<const std::string> captions) const;
  /// The model's own layers; `pooled` if it is asked for.
  ClipTextOutput encode(const Tensor& tokens, bool pooled) const;

 private:
  const ClipTextModel& model_;
  ClipTokenizer tokenizer_;
  int32_t padding_id_;
};

}  // namespace sinopia
