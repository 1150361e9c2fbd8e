#pragma once

#include <span>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// One prompt's answer and its weight (1 unless given with AND).
struct WeightedOutput {
  Tensor output;
  double weight = 1;
};

/// Classifier-free guidance, Ho and Salimans 2022, with AUTOMATIC1111's AND: uncond + sum_i w_i scale (cond_i
/// - uncond), on the network's outputs. Throws InvalidArgument without conditions.
Tensor guide(const Tensor& uncond, std::span<const WeightedOutput> conds, double scale);
inline Tensor guide(const Tensor& uncond, const Tensor& cond, double scale) {
  const WeightedOutput one{cond};
  return guide(uncond, std::span(&one, 1), scale);
}

/// sum(a b) / sqrt(sum(a a) sum(b b)) over all elements; 1 if one of them is nothing but zeros.
double cosine_similarity(const Tensor& a, const Tensor& b);

/// Guidance rescale, Lin et al. 2023, equations 15 and 16: each image of `guided` is brought to the standard
/// deviation that it has in `cond` and mixed with itself, phi of the first. phi in [0,1]; 0 returns `guided`.
Tensor rescale_guidance(const Tensor& guided, const Tensor& cond, double phi);

}  // namespace sinopia
