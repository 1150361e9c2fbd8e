#include "sinopia/train/gradients.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"

namespace sinopia {

double gradient_norm(const std::vector<Tensor>& gradients) {
  double squares = 0;
  for (const Tensor& gradient : gradients) {
    if (gradient) squares += kernels(gradient.device()).sum_of_squares(gradient);
  }
  return std::sqrt(squares);
}

double clipping_factor(double norm, double largest) {
  constexpr double kEps = 1e-6;  // torch's
  return largest > 0 ? std::min(1.0, largest / (norm + kEps)) : 1.0;
}

void GradientSum::add() {
  for (size_t i = 0; i < leaves_.size(); ++i) {
    const Tensor gradient = gradient_of(leaves_[i]);
    if (!gradient) continue;
    clear_gradient(leaves_[i]);
    if (!sums_[i]) {
      sums_[i] = gradient;
      continue;
    }
    // A gradient may be shared with another leaf's: the sum is a tensor of its own.
    Tensor sum = empty_like(gradient);
    kernels(gradient.device()).binary(BinaryOp::Add, sums_[i], gradient, sum);
    sums_[i] = sum;
  }
}

std::vector<Tensor> GradientSum::take() { return std::exchange(sums_, std::vector<Tensor>(leaves_.size())); }

}  // namespace sinopia
