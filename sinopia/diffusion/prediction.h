#pragma once

#include "sinopia/diffusion/schedule.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

// Samplers hold x = x0 + sigma eps ("variance exploding"), of which a network sees x / sqrt(1 + sigma^2), the
// x_t of its training; for a flow both are x = (1-sigma) x0 + sigma eps.

/// What a latent of the samplers is multiplied with to become the network's input: 1/sqrt(1+sigma^2), or 1
/// for a flow. At the end of sampling it turns the latent into the one to decode (1 at sigma 0).
double input_scale(Prediction prediction, double sigma);

/// The network's output at (input_scale * x, sigma) turned into its estimate of x0, in the shape of x.
/// k-diffusion, external.py: eps: x - sigma output; v: x / (sigma^2+1) - sigma / sqrt(sigma^2+1) output;
/// flow: x - sigma output.
Tensor to_x0(Prediction prediction, const Tensor& output, const Tensor& x, double sigma);

/// x0 with noise of the level sigma added, in the samplers' space: x0 + sigma noise, for a flow (1-sigma) x0
/// + sigma noise. The start of image-to-image.
Tensor add_noise(Prediction prediction, const Tensor& x0, const Tensor& noise, double sigma);

}  // namespace sinopia
