#include "sinopia/pipelines/report.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "sinopia/backend/conv2d_method.h"
#include "sinopia/backend/matmul_precision.h"
#include "sinopia/base/threads.h"
#include "sinopia/pipelines/metadata.h"

namespace sinopia {

size_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    size_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

namespace {

using Json = nlohmann::ordered_json;

// What is off is null, so that every report has the same fields.
Json savings_json(const Savings& savings) {
  Json json;
  const GuidanceInterval& interval = savings.guidance_interval;
  json["guidance_interval"] = interval.all() ? Json(nullptr) : Json{interval.from, interval.to};
  json["adaptive_guidance"] = savings.adaptive_guidance ? Json(*savings.adaptive_guidance) : Json(nullptr);
  json["deepcache"] = nullptr;
  if (savings.deep_cache.interval > 1)
    json["deepcache"] = {{"interval", savings.deep_cache.interval}, {"depth", savings.deep_cache.depth}};
  json["token_merging"] = savings.token_merging > 0 ? Json(savings.token_merging) : Json(nullptr);
  json["tiny_decoder"] = savings.tiny_decoder;
  return json;
}

}  // namespace

std::string report_json(const GenerationRequest& request, const GenerationResult& result,
                        const RunFacts& facts) {
  Json images = Json::array();
  for (size_t i = 0; i < result.images.size(); ++i) {
    Json image;
    image["seed"] = result.seeds[i];
    image["file"] = i < facts.files.size() ? Json(facts.files[i]) : Json(nullptr);
    images.push_back(image);
  }
  Json report;
  report["version"] = version();
  report["model"] = {{"path", facts.model}, {"description", facts.description}};
  report["prompt"] = request.prompt;
  report["negative_prompt"] = request.negative_prompt;
  report["width"] = result.width;
  report["height"] = result.height;
  report["steps"] = request.steps;
  report["steps_run"] = result.steps_run;
  report["sampler"] = result.sampler;
  report["scheduler"] = result.scheduler.empty() ? "model" : result.scheduler;
  report["cfg_scale"] = request.cfg_scale;
  report["rng"] = to_string(request.rng);
  report["device"] = facts.device;
  report["precision"] = facts.precision;
  report["threads"] = thread_count();
  const Conv2dCounts convolutions = conv2d_counts();
  report["convolutions"] = {{"method", kConv2dMethodNames[static_cast<size_t>(conv2d_method())]},
                            {"direct", convolutions.direct},
                            {"winograd2", convolutions.winograd2},
                            {"winograd4", convolutions.winograd4}};
  report["matmuls"] = {{"precision", kMatmulPrecisionNames[static_cast<size_t>(matmul_precision())]},
                       {"rounded", rounded_matmuls()}};
  report["savings"] = savings_json(request.savings);
  report["evaluations"] = {{"texts", result.evaluations.texts}, {"cached", result.evaluations.cached}};
  report["images"] = images;
  report["seconds"] = {{"load", facts.load_seconds},
                       {"text", result.timings.text},
                       {"encode", result.timings.encode},
                       {"first_step", result.timings.first_step},
                       {"steps", result.timings.steps},
                       {"decode", result.timings.decode},
                       {"total", facts.load_seconds + result.timings.total}};
  const MemoryPlan& memory = result.memory;
  report["memory"] = {{"limit", request.max_memory},
                      {"sampling", memory.sampling},
                      {"decoding", memory.decoding},
                      {"stream_sampling", memory.stream_sampling},
                      {"stream_decoding", memory.stream_decoding},
                      {"tile", memory.tile}};
  report["peak_bytes"] = {{"tensors", result.peak_tensor_bytes},
                          {"device", result.peak_device_bytes},
                          {"resident", peak_resident_bytes()}};
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sinopia
