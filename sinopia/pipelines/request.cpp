#include "sinopia/pipelines/request.h"

#include <array>
#include <cmath>

#include "sinopia/base/error.h"
#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia {
namespace {

constexpr std::array<const char*, 4> kEmphasisNames = {"original", "no-norm", "comfy", "ignore"};

void check_range(const char* field, double value, double low, double high) {
  SINOPIA_CHECK(std::isfinite(value) && value >= low && value <= high, InvalidArgument,
                "[request] expected {} from {} to {}, got {}", field, low, high, value);
}

void check_side(const char* field, int value) {
  SINOPIA_CHECK(value == 0 || (value >= 8 && value <= 8192 && value % 8 == 0), InvalidArgument,
                "[request] expected a {} that is a multiple of 8 from 8 to 8192, got {}", field, value);
}

}  // namespace

const char* to_string(EmphasisMode mode) { return kEmphasisNames.at(static_cast<size_t>(mode)); }

EmphasisMode parse_emphasis_mode(std::string_view name) {
  for (size_t i = 0; i < kEmphasisNames.size(); ++i)
    if (name == kEmphasisNames[i]) return static_cast<EmphasisMode>(i);
  fail(ErrorKind::InvalidArgument,
       "[request] expected emphasis original, no-norm, comfy or ignore, got \"{}\"", name);
}

const char* to_string(Stage stage) {
  constexpr std::array<const char*, 5> kNames = {"text", "encode", "sample", "decode", "done"};
  return kNames.at(static_cast<size_t>(stage));
}

void validate(const GenerationRequest& r) {
  check_side("width", r.width);
  check_side("height", r.height);
  check_range("steps", r.steps, 1, 1000);
  check_range("cfg_scale", r.cfg_scale, 0, 100);
  check_range("guidance_rescale", r.guidance_rescale, 0, 1);
  check_range("batch_count", r.batch_count, 1, 10000);
  check_range("clip_skip", r.clip_skip, 0, 100);
  check_range("strength", r.strength, 0, 1);
  if (r.eta) check_range("eta", *r.eta, 0, 10);
  check_range("s_churn", r.s_churn, 0, 100);
  check_range("s_noise", r.s_noise, 0, 10);
  check_range("variation_strength", r.variation_strength, 0, 1);
  check_range("preview_interval", r.preview_interval, 0, 1000);
  validate(r.savings);
  SINOPIA_CHECK(!r.mask || r.init_image, InvalidArgument, "[request] a mask needs an input picture");
  if (!r.sampler.empty()) find_sampler(r.sampler);
  if (!r.scheduler.empty()) find_sigma_schedule(r.scheduler);
}

}  // namespace sinopia
