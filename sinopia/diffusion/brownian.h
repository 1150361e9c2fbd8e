#pragma once

#include <vector>

#include "sinopia/diffusion/noise_source.h"

namespace sinopia {

/// The noise of one Brownian path per image: the increment between two levels over the root of their
/// distance, so that the SDE samplers give about the same picture for any number of steps. Equal to
/// k-diffusion's BrownianTreeNoiseSampler over torchsde's BrownianTree (halving intervals down to 1e-6, each
/// node's noise drawn with a seed from NumPy's SeedSequence) with one seed an image; CudaPhilox draws the
/// nodes as AUTOMATIC1111 does. `shape` is [N,H,W,C] with N seeds; sigma_min is the last level above 0.
/// Levels outside of the range count as its ends. Throws InvalidArgument unless 0 <= sigma_min < sigma_max.
NoiseSource brownian_noise(RngKind kind, std::vector<uint64_t> seeds, const Shape& shape, double sigma_min,
                           double sigma_max);

}  // namespace sinopia
