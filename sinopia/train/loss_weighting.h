#pragma once

#include "sinopia/diffusion/schedule.h"

namespace sinopia {

/// What the squared error of a sample counts, by its noise.
enum class LossWeighting {
  None,    ///< 1, whatever is predicted
  MinSnr,  ///< min(SNR, gamma) of the error of x0 (Hang et al. 2023)
  P2,      ///< 1 / (k + SNR)^gamma of the error of eps (Choi et al. 2022)
  CosMap,  ///< 2 / (pi (1 - 2s + 2s^2)) at the level s of a flow (the SD3 paper, Esser et al. 2024)
};

struct LossWeightingConfig {
  LossWeighting kind = LossWeighting::None;
  double min_snr_gamma = 5;
  double p2_gamma = 1, p2_k = 1;
};

/// The factor of a loss on what `prediction` names, at a noise level sigma > 0 as NoiseSchedule counts it.
/// MinSnr and P2 are turned into that prediction's errors: err_eps^2 = SNR err_x0^2, err_v^2 = (SNR+1)
/// err_x0^2, and err_x0^2 / sigma^2 for a flow. Throws InvalidArgument for fields out of range and CosMap
/// without a flow.
double loss_weight(const LossWeightingConfig& config, Prediction prediction, double sigma);

/// Signal to noise, as a ratio of powers.
double signal_to_noise(Prediction prediction, double sigma);

}  // namespace sinopia
