#include "sinopia/pipelines/metadata.h"

#include <charconv>
#include <functional>
#include <map>

#include "sinopia/base/error.h"
#include "sinopia/diffusion/names.h"
#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia {
namespace {

struct Label {
  std::string_view name;   // ours
  std::string_view label;  // AUTOMATIC1111's
};

constexpr Label kSamplerLabels[] = {
    {"euler", "Euler"},
    {"euler_a", "Euler a"},
    {"heun", "Heun"},
    {"dpm2", "DPM2"},
    {"dpm2_a", "DPM2 a"},
    {"lms", "LMS"},
    {"dpm++2s_a", "DPM++ 2S a"},
    {"dpm++2m", "DPM++ 2M"},
    {"dpm++2m_sde", "DPM++ 2M SDE"},
    {"dpm++2m_sde_heun", "DPM++ 2M SDE Heun"},
    {"dpm++3m_sde", "DPM++ 3M SDE"},
    {"dpm++sde", "DPM++ SDE"},
    {"ddim", "DDIM"},
    {"pndm", "PLMS"},
    {"unipc", "UniPC"},
    {"lcm", "LCM"},
    {"restart", "Restart"},
};

constexpr Label kScheduleLabels[] = {
    {"discrete", "Uniform"},        {"karras", "Karras"},
    {"exponential", "Exponential"}, {"polyexponential", "Polyexponential"},
    {"sgm_uniform", "SGM Uniform"}, {"simple", "Simple"},
    {"ddim_uniform", "DDIM"},       {"beta", "Beta"},
    {"kl_optimal", "KL Optimal"},   {"align_your_steps", "Align Your Steps"},
};

constexpr Label kEmphasisLabels[] = {
    {"original", "Original"}, {"no-norm", "No norm"}, {"comfy", "Comfy"}, {"ignore", "Ignore"}};

std::string_view label_of(std::span<const Label> labels, std::string_view name) {
  for (const Label& row : labels)
    if (row.name == name) return row.label;
  return name;
}

// Our name, or the text itself where it is none of theirs.
std::string_view name_of(std::span<const Label> labels, std::string_view label) {
  for (const Label& row : labels)
    if (same_name(row.label, label)) return row.name;
  return label;
}

template <class T>
T read_number(const std::string& field, const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  SINOPIA_CHECK(error == std::errc() && end == text.data() + text.size(), InvalidArgument,
                "[parameters] expected a number for \"{}\", got \"{}\"", field, text);
  return value;
}

void read_size(const std::string& field, const std::string& text, GenerationRequest& request) {
  const size_t x = text.find('x');
  SINOPIA_CHECK(x != std::string::npos, InvalidArgument,
                "[parameters] expected WIDTHxHEIGHT for \"{}\", got \"{}\"", field, text);
  request.width = read_number<int>(field, text.substr(0, x));
  request.height = read_number<int>(field, text.substr(x + 1));
}

// "DPM++ 2M Karras", as it was written before schedules had a field of their own.
void read_sampler(const std::string& text, GenerationRequest& request) {
  std::string name = text;
  for (const std::string_view schedule : {"Karras", "Exponential"}) {
    if (name.size() > schedule.size() + 1 && name.ends_with(schedule)) {
      name.resize(name.size() - schedule.size() - 1);
      request.scheduler = name_of(kScheduleLabels, schedule);
    }
  }
  request.sampler = find_sampler(name_of(kSamplerLabels, name)).name;
}

}  // namespace

std::string_view version() { return SINOPIA_VERSION; }

ParametersText describe_picture(const GenerationRequest& request, const PictureFacts& facts) {
  ParametersText text{request.prompt, request.negative_prompt, {}};
  const auto add = [&](const char* name, const auto& value) {
    text.fields.emplace_back(name, fmt::format("{}", value));
  };
  add("Steps", request.steps);
  add("Sampler", label_of(kSamplerLabels, facts.sampler));
  add("Schedule type", facts.scheduler.empty() ? "Automatic" : label_of(kScheduleLabels, facts.scheduler));
  add("CFG scale", request.cfg_scale);
  add("Seed", facts.seed);
  add("Size", fmt::format("{}x{}", facts.width, facts.height));
  if (!facts.model.empty()) add("Model", facts.model);
  if (request.variation_strength > 0) {
    add("Variation seed", facts.variation_seed);
    add("Variation seed strength", request.variation_strength);
  }
  if (request.init_image) add("Denoising strength", request.strength);
  if (request.mask) add("Mask", "yes");
  if (!request.class_label.empty()) add("Class", request.class_label);
  if (request.semantic_map) add("Semantic map", "yes");
  if (request.clip_skip > 1) add("Clip skip", request.clip_skip);
  add("RNG", request.rng == RngKind::TorchCpu ? "CPU" : "NV");
  if (request.guidance_rescale > 0) add("CFG rescale", request.guidance_rescale);
  if (request.eta) add("Eta", *request.eta);
  if (request.s_churn > 0) add("Sigma churn", request.s_churn);
  if (request.s_noise != 1) add("Sigma noise", request.s_noise);
  if (request.emphasis != EmphasisMode::Original)
    add("Emphasis", label_of(kEmphasisLabels, to_string(request.emphasis)));
  if (request.truncate) add("Prompt", "plain");
  const Savings& savings = request.savings;
  if (!savings.guidance_interval.all()) add("Guidance interval", to_string(savings.guidance_interval));
  if (savings.adaptive_guidance) add("Adaptive guidance", *savings.adaptive_guidance);
  if (savings.deep_cache.interval > 1) add("DeepCache", to_string(savings.deep_cache));
  if (savings.token_merging > 0) add("Token merging ratio", savings.token_merging);
  if (savings.tiny_decoder) add("VAE Decoder", "TAESD");
  add("Version", fmt::format("sinopia {}", version()));
  return text;
}

ReadRequest read_request(const ParametersText& parameters) {
  ReadRequest read;
  GenerationRequest& r = read.request;
  r.prompt = parameters.prompt;
  r.negative_prompt = parameters.negative_prompt;
  r.rng = RngKind::CudaPhilox;
  std::string sampler, schedule = "Automatic";
  bool steps = false, seed = false;
  using Reader = std::function<void(const std::string& name, const std::string& value)>;
  const std::map<std::string_view, Reader> readers = {
      {"Steps", [&](auto& n, auto& v) { r.steps = read_number<int>(n, v), steps = true; }},
      {"Sampler", [&](auto&, auto& v) { sampler = v; }},
      {"Schedule type", [&](auto&, auto& v) { schedule = v; }},
      {"CFG scale", [&](auto& n, auto& v) { r.cfg_scale = read_number<double>(n, v); }},
      {"Seed", [&](auto& n, auto& v) { r.seed = read_number<uint64_t>(n, v), seed = true; }},
      {"Size", [&](auto& n, auto& v) { read_size(n, v, r); }},
      {"Model", [&](auto&, auto& v) { read.model = v; }},
      {"Variation seed", [&](auto& n, auto& v) { r.variation_seed = read_number<uint64_t>(n, v); }},
      {"Variation seed strength",
       [&](auto& n, auto& v) { r.variation_strength = read_number<double>(n, v); }},
      {"Denoising strength",
       [&](auto& n, auto& v) { r.strength = read_number<double>(n, v), read.needs_init_image = true; }},
      {"Mask", [&](auto&, auto&) { read.needs_mask = true; }},
      {"Class", [&](auto&, auto& v) { r.class_label = v; }},
      {"Semantic map", [&](auto&, auto&) { read.needs_semantic_map = true; }},
      {"Clip skip", [&](auto& n, auto& v) { r.clip_skip = read_number<int>(n, v); }},
      {"RNG", [&](auto&, auto& v) { r.rng = v == "CPU" ? RngKind::TorchCpu : RngKind::CudaPhilox; }},
      {"CFG rescale", [&](auto& n, auto& v) { r.guidance_rescale = read_number<double>(n, v); }},
      {"Eta", [&](auto& n, auto& v) { r.eta = read_number<double>(n, v); }},
      {"Eta DDIM", [&](auto& n, auto& v) { r.eta = read_number<double>(n, v); }},
      {"Sigma churn", [&](auto& n, auto& v) { r.s_churn = read_number<double>(n, v); }},
      {"Sigma noise", [&](auto& n, auto& v) { r.s_noise = read_number<double>(n, v); }},
      {"Emphasis", [&](auto&, auto& v) { r.emphasis = parse_emphasis_mode(name_of(kEmphasisLabels, v)); }},
      {"Prompt", [&](auto&, auto& v) { r.truncate = v == "plain"; }},
      {"Guidance interval",
       [&](auto&, auto& v) { r.savings.guidance_interval = parse_guidance_interval(v); }},
      {"Adaptive guidance",
       [&](auto& n, auto& v) { r.savings.adaptive_guidance = read_number<double>(n, v); }},
      {"DeepCache", [&](auto&, auto& v) { r.savings.deep_cache = parse_deep_cache(v); }},
      {"Token merging ratio", [&](auto& n, auto& v) { r.savings.token_merging = read_number<double>(n, v); }},
      {"VAE Decoder", [&](auto&, auto& v) { r.savings.tiny_decoder = v == "TAESD"; }},
      {"Version", [](auto&, auto&) {}},
      {"Model hash", [](auto&, auto&) {}},
  };
  for (const auto& [name, value] : parameters.fields) {
    const auto reader = readers.find(name);
    if (reader == readers.end())
      read.ignored.push_back(name);
    else
      reader->second(name, value);
  }
  SINOPIA_CHECK(steps && seed && !sampler.empty(), InvalidArgument,
                "[parameters] expected settings with \"Steps\", \"Sampler\" and \"Seed\"");
  read_sampler(sampler, r);
  if (!same_name(schedule, "Automatic"))
    r.scheduler = find_sigma_schedule(name_of(kScheduleLabels, schedule)).name;
  else if (const auto by = parameters.find("Version");
           r.scheduler.empty() && (!by || !by->starts_with("sinopia")))
    r.scheduler = find_sampler(r.sampler).schedule;
  return read;
}

}  // namespace sinopia
