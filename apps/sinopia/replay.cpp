#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "commands.h"
#include "generation.h"
#include "options.h"
#include "sinopia/base/error.h"
#include "sinopia/pipelines/metadata.h"

namespace sinopia::cli {
namespace {

// A model of that name beside the picture or in the current folder.
std::filesystem::path find_model(const std::string& name, const std::filesystem::path& picture) {
  if (!name.empty() && name == std::filesystem::path(name).filename() && name != "." && name != "..") {
    for (const std::filesystem::path& folder : {picture.parent_path(), std::filesystem::path(".")})
      for (const char* ending : {".safetensors", ".gguf", ".ckpt", ""})
        if (const auto path = folder / (name + ending); std::filesystem::exists(path)) return path;
  }
  throw UsageError(fmt::format("this picture was made with the model '{}': say where it is with -m", name));
}

void replay(GenerationJob& job, const std::filesystem::path& picture, const std::stop_token& stop) {
  const Image image = read_image(picture);
  const auto text = image.text.find("parameters");
  SINOPIA_CHECK(text != image.text.end(), NotFound, "{} holds no generation settings", picture.string());
  ReadRequest read = read_request(parse_parameters(text->second));
  if (read.needs_init_image && job.init_image.empty())
    throw UsageError("this picture was made from another one: give it with --init-img");
  if (read.needs_mask && job.mask.empty())
    throw UsageError("this picture was made with a mask: give it with --mask");
  if (read.needs_semantic_map && job.semantic_map.empty())
    throw UsageError("this picture was made from a semantic map: give it with --semantic-map");
  if (read.request.savings.tiny_decoder && job.load.taesd.empty())
    throw UsageError("this picture was decoded with a tiny decoder: give it with --taesd");
  if (!read.ignored.empty())
    fmt::print(stderr, "sinopia: not known here and left out: {}\n", fmt::join(read.ignored, ", "));
  read.request.vae_tiling = job.request.vae_tiling;
  read.request.preview_interval = job.request.preview_interval;
  job.request = std::move(read.request);
  if (job.model.empty()) job.model = find_model(read.model, picture);
  run_job(job, stop);
}

}  // namespace

void add_replay(CLI::App& app, Action& action, std::stop_token stop) {
  auto* command = app.add_subcommand("replay", "paint a picture again from the settings that it holds");
  auto job = std::make_shared<GenerationJob>();
  auto picture = std::make_shared<std::filesystem::path>();
  job->output = "replay.png";
  command->add_option("picture", *picture, "PNG, JPEG or WebP written by sinopia or AUTOMATIC1111")
      ->required()
      ->type_name("FILE");
  add_job_options(*command, *job);
  command->callback(
      [job, picture, &action, stop] { action = [job, picture, stop] { replay(*job, *picture, stop); }; });
}

}  // namespace sinopia::cli
