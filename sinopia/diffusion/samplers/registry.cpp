#include "sinopia/diffusion/samplers/registry.h"

#include <cmath>

#include "sinopia/diffusion/names.h"

namespace sinopia {
namespace {

using Names = std::string_view[];
constexpr Names kEuler = {"Euler", "k_euler"};
constexpr Names kEulerA = {"Euler a", "euler_ancestral", "k_euler_a"};
constexpr Names kDpm2 = {"DPM2", "dpm_2"};
constexpr Names kDpm2A = {"DPM2 a", "dpm_2_ancestral"};
constexpr Names kDpmpp2sA = {"DPM++ 2S a", "dpmpp_2s_ancestral", "dpm++2s"};
constexpr Names kDpmpp2m = {"DPM++ 2M", "dpmpp_2m"};
constexpr Names kDpmpp2mSde = {"DPM++ 2M SDE", "dpmpp_2m_sde"};
constexpr Names kDpmpp2mSdeHeun = {"DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun"};
constexpr Names kDpmpp3mSde = {"DPM++ 3M SDE", "dpmpp_3m_sde"};
constexpr Names kDpmppSde = {"DPM++ SDE", "dpmpp_sde"};
constexpr Names kDdim = {"DDIM", "ddim_trailing"};
constexpr Names kPndm = {"PLMS"};
constexpr Names kUnipc = {"UniPC", "uni_pc_bh2"};
constexpr Names kUnipcBh1 = {"uni_pc"};
constexpr Names kRes = {"Res Multistep"};
constexpr Names kErSde = {"ER SDE"};
constexpr Names kSaSolver = {"SA Solver"};

// name, aliases, description, function, noise, order, schedule, discards the penultimate level, flow,
// Brownian noise
constexpr SamplerInfo kSamplers[] = {
    {"euler", kEuler, "Euler's steps along the probability flow", sample_euler, false, 1, "discrete", false,
     true},
    {"euler_a", kEulerA, "Euler's steps with fresh noise", sample_euler_ancestral, true, 1, "discrete"},
    {"heun", {}, "second order, two evaluations a step", sample_heun, false, 2, "discrete", false, true},
    {"dpm2", kDpm2, "DPM-Solver-2, two evaluations a step", sample_dpm_2, false, 2, "karras", true},
    {"dpm2_a", kDpm2A, "DPM-Solver-2 with fresh noise", sample_dpm_2_ancestral, true, 1, "karras", true},
    {"lms", {}, "linear multistep, fourth order", sample_lms, false, 2, "discrete"},
    {"dpm++2s_a", kDpmpp2sA, "DPM-Solver++(2S) with fresh noise, two evaluations a step",
     sample_dpmpp_2s_ancestral, true, 1, "karras"},
    {"dpm++2m", kDpmpp2m, "DPM-Solver++(2M), second order", sample_dpmpp_2m, false, 2, "karras", false, true},
    {"dpm++2m_sde", kDpmpp2mSde, "DPM-Solver++(2M) as an SDE", sample_dpmpp_2m_sde, true, 1, "exponential",
     false, false, true},
    {"dpm++2m_sde_heun", kDpmpp2mSdeHeun, "the same with Heun's second-order term", sample_dpmpp_2m_sde_heun,
     true, 1, "exponential", false, false, true},
    {"dpm++3m_sde", kDpmpp3mSde, "DPM-Solver++(3M) as an SDE", sample_dpmpp_3m_sde, true, 1, "exponential",
     false, false, true},
    {"dpm++sde", kDpmppSde, "DPM-Solver++ as an SDE, two evaluations a step", sample_dpmpp_sde, true, 1,
     "karras", false, false, true},
    {"ddim", kDdim, "DDIM; eta adds noise", sample_ddim, false, 1, "ddim_uniform"},
    {"ddpm", {}, "ancestral sampling of the diffusion process", sample_ddpm, true, 1, "ddim_uniform"},
    {"pndm", kPndm, "pseudo linear multistep", sample_pndm, false, 2, "ddim_uniform"},
    {"unipc", kUnipc, "UniPC with B(h) = e^h - 1", sample_unipc, false, 2, "discrete"},
    {"unipc_bh1", kUnipcBh1, "UniPC with B(h) = h", sample_unipc_bh1, false, 2, "discrete"},
    {"deis", {}, "exponential integrator in log rho", sample_deis, false, 2, "discrete"},
    {"ipndm", {}, "improved PNDM, fourth order for even steps", sample_ipndm, false, 2, "discrete"},
    {"lcm", {}, "for latent consistency models, 1 to 8 steps", sample_lcm, true, 1, "sgm_uniform"},
    {"tcd", {}, "for trajectory consistency models; eta is gamma", sample_tcd, true, 1, "sgm_uniform"},
    {"restart", {}, "Heun's steps with an interval passed again", sample_restart, true, 2, "karras"},
    {"res_multistep", kRes, "refined exponential solver, second order", sample_res_multistep, false, 2,
     "discrete"},
    {"er_sde", kErSde, "extended reverse-time SDE, third order", sample_er_sde, true, 1, "discrete"},
    {"sa_solver", kSaSolver, "stochastic Adams predictor and corrector", sample_sa_solver, true, 1,
     "discrete"},
};

}  // namespace

std::span<const SamplerInfo> samplers() { return kSamplers; }

const SamplerInfo& find_sampler(std::string_view name) { return find_by_name(samplers(), name, "sampler"); }

Tensor run_sampler(const SamplerInfo& sampler, const Denoiser& denoise, const Tensor& x, const Sigmas& sigmas,
                   SamplerContext& context) {
  SINOPIA_CHECK(sigmas.size() >= 2, InvalidArgument, "[{}] expected at least two levels, got {}",
                sampler.name, sigmas.size());
  for (size_t i = 0; i < sigmas.size(); ++i) {
    const bool ok = std::isfinite(sigmas[i]) && sigmas[i] >= 0 && (i == 0 || sigmas[i] < sigmas[i - 1]);
    SINOPIA_CHECK(ok, InvalidArgument, "[{}] expected levels that descend to 0 or above, got {} after {}",
                  sampler.name, sigmas[i], i == 0 ? sigmas[i] : sigmas[i - 1]);
  }
  const double eta = context.eta.value_or(sampler.uses_noise ? 1 : 0);
  SINOPIA_CHECK(std::isfinite(eta) && eta >= 0, InvalidArgument, "[{}] expected eta >= 0, got {}",
                sampler.name, eta);
  SINOPIA_CHECK(context.noise || (!sampler.uses_noise && eta == 0 && context.s_churn <= 0), InvalidArgument,
                "[{}] expected a source of noise", sampler.name);
  return sampler.sample(denoise, x, sigmas, context);
}

}  // namespace sinopia
