#pragma once

#include "sinopia/nn/scope.h"

namespace sinopia {

/// A learned table of latents (van den Oord et al. 2017); "embedding.weight" [entries,width]. Reference:
/// taming-transformers, taming/modules/vqvae/quantize.py, VectorQuantizer2.
class Codebook {
 public:
  Codebook(const Scope& scope, int64_t entries, int64_t width);

  /// z [..,width] -> codes i32 [..]: the entry nearest to each by squared distance, the first of equally near
  /// ones.
  Tensor nearest(const Tensor& z) const;
  /// codes i32 [..] -> [..,width]; gradients reach the table. Throws InvalidArgument for a code that it does
  /// not have.
  Tensor entries(const Tensor& codes) const;
  /// The entry nearest to each z [..,width], which passes what reaches it on to z unchanged.
  Tensor quantise(const Tensor& z) const;

  int64_t size() const { return table_.dim(0); }

 private:
  Tensor table_;
};

}  // namespace sinopia
