#include "sinopia/diffusion/prediction.h"

#include <cmath>

#include "sinopia/ops/elementwise.h"

namespace sinopia {

double input_scale(Prediction prediction, double sigma) {
  return prediction == Prediction::Flow ? 1.0 : 1.0 / std::sqrt(sigma * sigma + 1);
}

Tensor to_x0(Prediction prediction, const Tensor& output, const Tensor& x, double sigma) {
  switch (prediction) {
    case Prediction::V:
      return x / (sigma * sigma + 1) - output * (sigma / std::sqrt(sigma * sigma + 1));
    case Prediction::Sample:
      return output;
    case Prediction::Epsilon:
    case Prediction::Flow:
      break;
  }
  return x - output * sigma;
}

Tensor add_noise(Prediction prediction, const Tensor& x0, const Tensor& noise, double sigma) {
  if (prediction == Prediction::Flow) return x0 * (1 - sigma) + noise * sigma;
  return x0 + noise * sigma;
}

}  // namespace sinopia
