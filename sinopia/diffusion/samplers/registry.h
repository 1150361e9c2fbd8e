#pragma once

#include <span>
#include <string_view>

#include "sinopia/diffusion/samplers/samplers.h"

namespace sinopia {

struct SamplerInfo {
  std::string_view name;
  std::span<const std::string_view> aliases;  ///< its names in AUTOMATIC1111, ComfyUI, stable-diffusion.cpp
  std::string_view description;
  Tensor (*sample)(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
  bool uses_noise;                    ///< draws noise unless eta is 0
  int order;                          ///< of convergence, as it is used by default
  std::string_view schedule;          ///< the sigma schedule to take when none is asked for
  bool discards_penultimate = false;  ///< wants a schedule of one more step without the level before 0
  bool supports_flow = false;
  bool brownian = false;  ///< other tools give it brownian_noise() rather than independent_noise()
};

/// All of them, in the order in which to list them.
std::span<const SamplerInfo> samplers();

/// By name or alias, whatever the case. Throws InvalidArgument naming the known ones.
const SamplerInfo& find_sampler(std::string_view name);

/// Runs one from x at sigmas.front() [N,H,W,C] to sigmas.back(). Throws InvalidArgument unless sigmas has two
/// or more finite levels >= 0 that strictly descend and noise is there where it is used, Cancelled when asked
/// to stop, and what the denoiser throws.
Tensor run_sampler(const SamplerInfo& sampler, const Denoiser& denoise, const Tensor& x, const Sigmas& sigmas,
                   SamplerContext& context);

}  // namespace sinopia
