#pragma once

#include "sinopia/diffusion/sampler_context.h"

// Each takes x at sigmas.front() and returns it at sigmas.back(). They are called through the registry, which
// checks their arguments: sigmas strictly descending and >= 0, noise where it is needed.

namespace sinopia {

/// Euler steps, Karras et al. 2022, algorithm 2. For a flow as well.
Tensor sample_euler(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// Euler steps to a lower level, then noise: k-diffusion's ancestral sampling, eta 1.
Tensor sample_euler_ancestral(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                              SamplerContext& context);
/// Heun's second-order steps, Karras et al. 2022, algorithm 2; Euler to sigma 0. For a flow as well.
Tensor sample_heun(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// DPM-Solver-2, Lu et al. 2022a, algorithm 1: midpoint steps in log sigma.
Tensor sample_dpm_2(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// The same with ancestral noise, eta 1.
Tensor sample_dpm_2_ancestral(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                              SamplerContext& context);
/// Linear multistep (Adams-Bashforth on uneven steps), order 1 to 4, default 4.
Tensor sample_lms(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// DPM-Solver++(2S) with ancestral noise, Lu et al. 2022b, algorithm 1, eta 1.
Tensor sample_dpmpp_2s_ancestral(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                                 SamplerContext& context);
/// DPM-Solver++(2M), Lu et al. 2022b, algorithm 2. For a flow as well.
Tensor sample_dpmpp_2m(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// SDE-DPM-Solver++(2M), Lu et al. 2022b, appendix, with the midpoint or Heun's second-order term; eta 1.
Tensor sample_dpmpp_2m_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
Tensor sample_dpmpp_2m_sde_heun(const Denoiser& denoise, Tensor x, const Sigmas& sigmas,
                                SamplerContext& context);
/// Its third-order form, k-diffusion's sample_dpmpp_3m_sde; eta 1.
Tensor sample_dpmpp_3m_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// DPM-Solver++ (stochastic, single step, second order), k-diffusion's sample_dpmpp_sde; eta 1.
Tensor sample_dpmpp_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// DDIM, Song et al. 2021, equation 12, eta 0.
Tensor sample_ddim(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// DDPM, Ho et al. 2020, algorithm 2 with the smaller variance.
Tensor sample_ddpm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// PLMS, the pseudo linear multistep method of Liu et al. 2022, started as CompVis and diffusers do
/// (skip_prk_steps).
Tensor sample_pndm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// UniPC, Zhao et al. 2023, predicting x0, B(h) = e^-h - 1; order 1 to 3, default 2.
Tensor sample_unipc(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// The same with B(h) = -h.
Tensor sample_unipc_bh1(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// DEIS, Zhang and Chen 2023, in log rho; order 1 to 3, default 2.
Tensor sample_deis(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// Improved PNDM, Zhang and Chen 2023, appendix: Adams-Bashforth for even steps; order 1 to 4, default 4.
Tensor sample_ipndm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// Multistep consistency sampling, Luo et al. 2023: x0, noised again to the next level.
Tensor sample_lcm(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// Trajectory consistency sampling, Zheng et al. 2024, algorithm 4; eta is gamma, 0.3. Needs
/// context.schedule.
Tensor sample_tcd(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// Restart sampling, Xu et al. 2023, with AUTOMATIC1111's choice of the interval: from 20 steps on, levels
/// between about 0.1 and 2 are passed again, Heun steps throughout.
Tensor sample_restart(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// RES multistep, Zhang et al. 2023 ("refined exponential solver"), second order.
Tensor sample_res_multistep(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// ER-SDE-Solver, Cui et al. 2023, up to third order with its noise scale function 5; s_noise 0 leaves the
/// noise out.
Tensor sample_er_sde(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);
/// SA-Solver, Xue et al. 2023, predictor and corrector of second order, tau = eta (1) between the timesteps
/// 200 and 800 of 1000, else 0. Needs context.schedule.
Tensor sample_sa_solver(const Denoiser& denoise, Tensor x, const Sigmas& sigmas, SamplerContext& context);

}  // namespace sinopia
