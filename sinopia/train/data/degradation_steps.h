#pragma once

#include <array>
#include <cstdint>

#include "sinopia/tensor/tensor.h"
#include "sinopia/train/draws.h"

namespace sinopia {

// What spoils a picture, each step by itself. Pictures are f32 [H,W,3] of sRGB in [0,1]; results are clamped
// to that where a step could leave it. All throw InvalidArgument for another shape or type, and for arguments
// out of range.

/// A Gaussian of the two variances (pixels squared, from 0) along axes turned by `angle`, counted from x
/// towards y: f32 [2r+1,2r+1] for the radius r, of sum 1. Its centre is moved by `shift` pixels down and to
/// the right.
Tensor gaussian_kernel(int radius, double variance_a, double variance_b, double angle, double shift = 0);

/// x correlated with a kernel [2r+1,2r+1]; beyond its borders x is mirrored without repeating the outermost
/// pixel, as scipy.ndimage does in its mode "mirror".
Tensor blur(const Tensor& x, const Tensor& kernel);

/// How a picture is brought to another size: as OpenCV's cv2.resize with INTER_LINEAR, INTER_CUBIC and
/// INTER_AREA. The first two do not widen when shrinking, so that they alias; Area is the mean over the place
/// of a new pixel. Sharp is Keys' cubic with a = -1/2 that widens when shrinking.
enum class RescaleFilter { Bilinear, Bicubic, Area, Sharp };
Tensor rescale(const Tensor& x, int64_t height, int64_t width, RescaleFilter filter);

/// Every `factor`-th pixel of every `factor`-th row, from the first.
Tensor decimate(const Tensor& x, int factor);

/// Gaussian noise of a pixel is this matrix [3][3], by rows, times three standard normal numbers: its
/// covariance is R R'.
using NoiseRoot = std::array<double, 9>;
NoiseRoot gray_noise(double deviation);   ///< the same in all channels
NoiseRoot color_noise(double deviation);  ///< each channel by itself
/// Along a random orthonormal basis, with variances drawn evenly from [0, deviation^2].
NoiseRoot correlated_noise(double deviation, Draws& draws);

Tensor add_gaussian_noise(const Tensor& x, const NoiseRoot& root, Draws& draws);

/// Noise of a sensor: in linear light, of variance shot * value + read, each channel by itself (Brooks et al.
/// 2019, equation 2).
Tensor add_camera_noise(const Tensor& x, double shot, double read, Draws& draws);

/// The transfer function of IEC 61966-2-1.
double srgb_to_linear(double value);
double linear_to_srgb(double value);

/// Rounds to 8 bits, writes a JPEG of this quality (1 to 100) and reads it again; see encode_image.
Tensor jpeg_round_trip(const Tensor& x, int quality);

}  // namespace sinopia
