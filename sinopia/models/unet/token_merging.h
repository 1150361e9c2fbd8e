#pragma once

#include <optional>

#include "sinopia/tensor/random.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Which tokens count as one: a map from T tokens to fewer.
class MergedTokens {
 public:
  /// groups i32 [N,T] within [0,count), none of them empty.
  MergedTokens(Tensor groups, int64_t count) : groups_(std::move(groups)), count_(count) {}
  /// x [N,T,C] -> [N,count,C]: the mean of each group.
  Tensor merge(const Tensor& x) const;
  /// y [N,count,C] -> [N,T,C]: every token gets its group's.
  Tensor unmerge(const Tensor& y) const;
  int64_t count() const { return count_; }

 private:
  Tensor groups_;
  int64_t count_;
};

/// Token merging for self-attention, Bolya and Hoffman 2023, "Token Merging for Fast Stable Diffusion". In
/// each 2x2 square of tokens a random one is a destination; of the others, the `ratio` * T that are most like
/// a destination (cosine) are merged into the one that they are most like. Reference: tomesd 0.1.3, merge.py,
/// whose random numbers `random` draws in the same order.
struct TokenMerging {
  double ratio = 0;  ///< 0 to 1; more than the three quarters that are no destinations cannot be merged
  TorchCpuGenerator random{0};

  /// tokens [N,height*width,C]; the same destinations for all N. Nothing if there is nothing to merge.
  std::optional<MergedTokens> match(const Tensor& tokens, int64_t height, int64_t width);
};

}  // namespace sinopia
