#pragma once

#include <cstdint>
#include <vector>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// The Euclidean norm of all gradients together, summed in double; absent ones count nothing.
double gradient_norm(const std::vector<Tensor>& gradients);

/// What gradients of this norm are multiplied by so that it is at most `largest`; 1 if `largest` is 0. As
/// torch.nn.utils.clip_grad_norm_.
double clipping_factor(double norm, double largest);

/// Sums of the gradients of several passes over leaves.
class GradientSum {
 public:
  /// The leaves' gradients are taken as they are at each add, and cleared.
  explicit GradientSum(std::vector<Tensor> leaves) : leaves_(std::move(leaves)), sums_(leaves_.size()) {}
  void add();
  /// In the order of the leaves; absent where no pass brought any. Starts anew.
  std::vector<Tensor> take();

 private:
  std::vector<Tensor> leaves_, sums_;
};

}  // namespace sinopia
