#pragma once

#include "sinopia/tensor/tensor.h"
#include "sinopia/train/data/ranges.h"
#include "sinopia/train/draws.h"

namespace sinopia {

/// How pictures are spoilt to train super-resolution by a factor f: blurs, noise, JPEG and two steps of
/// making them smaller, in random order, then JPEG once more (Zhang et al. 2021, "Designing a Practical
/// Degradation Model for Deep Blind Image Super-Resolution", BSRGAN). The defaults are BSRGAN's.
struct Degradation {
  int blurs = 2;
  double anisotropic_probability = 0.5;
  IntegerRange anisotropic_radius{3, 12};  ///< of kernels, in pixels
  IntegerRange isotropic_radius{3, 12};
  double blur_scale = 1;  ///< variances up to (4 + f) of it, or a deviation up to (2 + f/5) of it

  double halving_probability = 0.25;  ///< for f = 4: halved at first, then made smaller by 2
  /// Of the first step being a filter by a factor in [1,2f]; else it is a Gaussian and every f-th pixel.
  double filter_probability = 0.75;

  IntegerRange noise_level{2, 25};                         ///< deviation in 255ths
  double gray_probability = 0.4, color_probability = 0.4;  ///< else correlated channels
  /// Of a sensor's noise; its strength is drawn as Brooks et al. 2019 found it to be for cameras.
  double camera_probability = 0.25;

  double jpeg_probability = 0.9;  ///< besides the one at the end
  IntegerRange jpeg_quality{30, 95};
};

/// As latent diffusion trains its super-resolution (ldm/modules/image_degradation/bsrgan_light.py): one blur
/// of a quarter of the width, noise of 1 or 2, a quality from 80, no sensor. Kernels have odd sizes alone.
Degradation light_degradation();

/// x f32 [H,W,3] in [-1,1] -> [H/f,W/f,3] in [-1,1], in 8-bit steps. BSRGAN's camera, which is a network, is
/// a sensor's noise here. Throws InvalidArgument for options out of range, f below 1, and sides that are not
/// multiples of f.
Tensor degrade(const Tensor& x, int factor, const Degradation& options, Draws draws);

}  // namespace sinopia
