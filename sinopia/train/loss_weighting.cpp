#include "sinopia/train/loss_weighting.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

/// (error of the prediction)^2 / (error of x0)^2
double error_ratio(Prediction prediction, double snr, double sigma) {
  switch (prediction) {
    case Prediction::Epsilon:
      return snr;
    case Prediction::V:
      return snr + 1;
    case Prediction::Flow:
      return 1 / (sigma * sigma);
    case Prediction::Sample:
      break;
  }
  return 1;
}

}  // namespace

double signal_to_noise(Prediction prediction, double sigma) {
  const double signal = prediction == Prediction::Flow ? 1 - sigma : 1;
  return signal * signal / (sigma * sigma);
}

double loss_weight(const LossWeightingConfig& config, Prediction prediction, double sigma) {
  SINOPIA_CHECK(sigma > 0, InvalidArgument, "[loss weight] expected a noise level above 0, got {}", sigma);
  const double snr = signal_to_noise(prediction, sigma);
  switch (config.kind) {
    case LossWeighting::None:
      break;
    case LossWeighting::MinSnr:
      SINOPIA_CHECK(config.min_snr_gamma > 0, InvalidArgument,
                    "[loss weight] expected a min-SNR gamma above 0, got {}", config.min_snr_gamma);
      return std::min(snr, config.min_snr_gamma) / error_ratio(prediction, snr, sigma);
    case LossWeighting::P2:
      SINOPIA_CHECK(config.p2_gamma >= 0 && config.p2_k > 0, InvalidArgument,
                    "[loss weight] expected a P2 gamma from 0 and k above 0, got {} and {}", config.p2_gamma,
                    config.p2_k);
      return snr / std::pow(config.p2_k + snr, config.p2_gamma) / error_ratio(prediction, snr, sigma);
    case LossWeighting::CosMap:
      SINOPIA_CHECK(prediction == Prediction::Flow, InvalidArgument,
                    "[loss weight] CosMap weights the levels of a flow, not of another prediction");
      return 2 / (std::numbers::pi * (1 - 2 * sigma + 2 * sigma * sigma));
  }
  return 1;
}

}  // namespace sinopia
