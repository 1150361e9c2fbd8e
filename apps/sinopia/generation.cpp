#include "generation.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "options.h"
#include "output_name.h"
#include "progress.h"
#include "sinopia/backend/conv2d_method.h"
#include "sinopia/backend/devices.h"
#include "sinopia/backend/matmul_precision.h"
#include "sinopia/base/log.h"
#include "sinopia/base/threads.h"
#include "sinopia/io/file.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/ops/shape.h"
#include "sinopia/pipelines/report.h"

namespace sinopia::cli {
namespace {

std::string preview_name(const std::string& output) {
  const std::filesystem::path path(output);
  return (path.parent_path() / (path.stem().string() + "_preview" + path.extension().string())).string();
}

// A wrong output is better found before the work than after it.
void check_output(const GenerationJob& job) {
  const std::filesystem::path file = output_name(job.output, 0, job.request.batch_count, job.request.seed);
  try {
    format_of_name(file);
  } catch (const Error&) {
    throw UsageError(
        fmt::format("--output: expected a name ending in .png, .jpg, .jpeg or .webp, got '{}'", job.output));
  }
  const AtomicFile writable(file);  // never committed
}

/// One of an enumeration's values, by their names in its order, for the whole process.
template <class Value, size_t kCount>
void add_process_choice(CLI::App& app, const std::string& flag,
                        const std::array<std::string_view, kCount>& names, void (*set)(Value),
                        const std::string& help) {
  add_choice(
      app, flag, {names.begin(), names.end()},
      [&names, set](const std::string& name) {
        set(static_cast<Value>(std::find(names.begin(), names.end(), name) - names.begin()));
      },
      help);
}

}  // namespace

void add_job_options(CLI::App& app, GenerationJob& job) {
  GenerationRequest& request = job.request;
  const auto model = [&](const char* flags, std::filesystem::path& path, const char* help) {
    app.add_option(flags, path, help)->type_name("PATH");
  };
  model("-m,--model", job.model, "checkpoint: a .safetensors, .gguf or .ckpt file, or a diffusers folder");
  model("--vae", job.load.vae, "use the autoencoder of this file or folder");
  model("--taesd", job.load.taesd, "a tiny decoder (TAESD file or folder) for previews and --taesd-decode");
  model("--embd-dir", job.embeddings, "folder of textual-inversion embeddings");
  model("-i,--init-img", job.init_image, "picture to start from (PNG, JPEG, WebP)");
  model("--mask", job.mask, "picture whose white part is painted anew; needs --init-img");
  model("--semantic-map", job.semantic_map,
        "gray picture of class numbers, for models that were trained with such maps");
  add_choice(
      app, "--prediction", {"epsilon", "v_prediction", "sample"},
      [&job](const std::string& name) { job.load.prediction = name; },
      "what the network predicts, where the model does not say: epsilon, v_prediction, sample");
  app.add_option("-o,--output", job.output,
                 "file to write, .png .jpg or .webp; %d is the number of the picture, {seed} its seed")
      ->type_name("FILE")
      ->capture_default_str();
  add_choice(
      app, "--vae-tiling", {"on", "off", "auto"},
      [&request](const std::string& name) {
        request.vae_tiling = name == "on" ? VaeTiling::On : name == "off" ? VaeTiling::Off : VaeTiling::Auto;
      },
      "decode in tiles, with less memory: on, off, auto (above 1024x1024)");
  app.add_option_function<std::string>(
         "--max-memory",
         [&request](const std::string& text) { request.max_memory = parse_size("--max-memory", text); },
         "stay below this, as in 1.6G: read weights anew in each step, decode in tiles")
      ->type_name("SIZE");
  add_integer(app, "--preview", request.preview_interval, 0, 1000, "write FILE_preview every N steps");
  add_device_options(app, job.device);
  add_integer(app, "-t,--threads", job.threads, 1, 1024, "threads (all cores)");
  add_process_choice(
      app, "--conv-method", kConv2dMethodNames, set_conv2d_method,
      "how 3x3 convolutions are computed: direct (every product), winograd2, winograd4 (fewer), "
      "auto (fastest)");
  add_process_choice(app, "--matmul-precision", kMatmulPrecisionNames, set_matmul_precision,
                     "how linear layers multiply: f32, or rounded where the processor has it: bf16 (1x1 "
                     "convolutions too), int8; tf32 is for --precision f32 on a GPU");
  app.add_option("--latent", job.latent,
                 "write what was decoded as the tensor 'latent' [N,H,W,C], .safetensors")
      ->type_name("FILE");
  app.add_option("--json", job.json, "write a report with timings and memory; - for the standard output")
      ->type_name("FILE");
  app.add_flag("-v,--verbose", job.verbose, "say more");
}

void run_job(GenerationJob& job, std::stop_token stop) {
  if (job.verbose)
    set_log_sink([](LogLevel, std::string_view message) { fmt::print(stderr, "{}\n", message); });
  if (job.threads > 0) set_thread_count(job.threads);
  GenerationRequest& request = job.request;
  validate(request);
  check_output(job);
  if (!job.init_image.empty()) request.init_image = read_image(job.init_image);
  if (!job.mask.empty()) request.mask = read_image(job.mask);
  if (!job.semantic_map.empty()) request.semantic_map = read_image(job.semantic_map);

  place(job.device, job.load);
  StableDiffusionPipeline model(job.model, job.load);
  std::vector<std::string> embeddings;
  if (!job.embeddings.empty()) embeddings = model.add_embeddings(job.embeddings);
  FILE* const out = job.json == "-" ? stderr : stdout;
  if (job.verbose) {
    fmt::print(stderr, "{}, loaded in {}, on {} in {}\n", model.description(),
               format_duration(model.load_seconds()), device_name(job.load.placement.device),
               to_string(job.load.placement.dtype));
    for (const std::string& name : embeddings) fmt::print(stderr, "embedding {}\n", name);
  }

  ProgressLine progress;
  RunFacts facts{job.model.string(),
                 model.description(),
                 device_name(job.load.placement.device),
                 to_string(job.load.placement.dtype),
                 model.load_seconds(),
                 {}};
  request.stop = stop;
  request.on_progress = [&, told = false](const Progress& p) mutable {
    if (!std::exchange(told, true)) mention_missing_gpu(job.device.device);
    progress.show(p);
  };
  request.on_preview = [&](const Preview& p) {
    write_image(preview_name(output_name(job.output, p.image, request.batch_count, request.seed)), p.picture);
  };
  request.on_image = [&](int image, uint64_t seed, const Image& picture) {
    const std::string file = output_name(job.output, image, request.batch_count, seed);
    write_image(file, picture);
    facts.files.push_back(file);
    progress.finish();
    fmt::print(out, "{} (seed {})\n", file, seed);
    std::fflush(out);
  };
  request.keep_latents = !job.latent.empty();
  const GenerationResult result = model.generate(request);
  progress.finish();
  if (request.keep_latents) write_safetensors(job.latent, {{{"latent", concat(result.latents, 0)}}, {}});
  fmt::print(out, "{}x{}, {} steps of {}, {} in all, at most {}\n", result.width, result.height,
             result.steps_run, result.sampler, format_duration(facts.load_seconds + result.timings.total),
             format_bytes(peak_resident_bytes()));
  if (job.json.empty()) return;
  const std::string report = report_json(request, result, facts);
  if (job.json == "-")
    fmt::print("{}", report);
  else
    write_file(job.json, report);
}

}  // namespace sinopia::cli
