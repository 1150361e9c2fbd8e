#pragma once

#include <cstdint>
#include <vector>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// How evenly a codebook is used over all codes that were added: those of a batch, or of a whole pass over
/// validation pictures. Reference: latent-diffusion, ldm/modules/losses/vqperceptual.py, measure_perplexity.
class CodebookUse {
 public:
  explicit CodebookUse(int64_t entries) : counts_(static_cast<size_t>(entries)) {}

  /// codes i32 [..]. Throws InvalidArgument for one outside [0,entries).
  void add(const Tensor& codes);
  /// e to the entropy of the codes: 1 if all are the same, `entries` if all are equally frequent, 0 without
  /// any.
  double perplexity() const;
  /// The share of entries that occurred, from 0 to 1.
  double share_used() const;

 private:
  std::vector<int64_t> counts_;
  int64_t total_ = 0;
};

}  // namespace sinopia
