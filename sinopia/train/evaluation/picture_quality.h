#pragma once

#include "sinopia/io/image.h"

namespace sinopia {

/// Peak signal-to-noise ratio in decibels over all channels, data range 255; infinite for equal pictures.
/// Throws InvalidArgument where sizes or channels differ.
double psnr(const Image& a, const Image& b);

/// Structural similarity (Wang et al., 2004), the mean over channels; Gaussian window of 11x11 and sigma 1.5,
/// data range 255, means over the pixels whose window lies inside. As scikit-image's structural_similarity
/// with gaussian_weights=True, sigma=1.5, use_sample_covariance=False. At least 11x11 pixels; throws as
/// psnr().
double ssim(const Image& a, const Image& b);

}  // namespace sinopia
