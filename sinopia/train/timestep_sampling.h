#pragma once

#include "sinopia/train/draws.h"

namespace sinopia {

/// From which density the noise level of a training sample is drawn.
enum class TimestepDensity {
  Uniform,
  LogitNormal,  ///< sigmoid of a normal number, equation 19 of the SD3 paper (Esser et al. 2024)
  Mode,         ///< heavy tails, equation 20
  CosMap,       ///< as dense as a cosine schedule is, equation 21
};

struct TimestepSampling {
  TimestepDensity density = TimestepDensity::Uniform;
  double logit_mean = 0, logit_deviation = 1;
  double mode_scale = 1.29;  ///< of Mode, in [-1, 2/(pi-2)]
  double shift = 1;          ///< t' = a t / (1 + (a-1) t): more noise for larger pictures, equation 23
};

/// A level in (0,1), 1 the noisiest. Throws InvalidArgument for fields out of range.
double draw_level(const TimestepSampling& sampling, Draws& draws);

/// The densities as functions of a uniform number in (0,1), or of a normal one.
double logit_normal_level(double normal, double mean, double deviation);
double mode_level(double uniform, double scale);
double cosmap_level(double uniform);

/// The shift that keeps the signal-to-noise of `pixels` what it is for `base_pixels` at a shift of 1:
/// sqrt(pixels / base_pixels), section 5.3.2 there.
double resolution_shift(double pixels, double base_pixels);

}  // namespace sinopia
