#include "sinopia/pipelines/stable_diffusion.h"

#include <optional>

#include "sinopia/base/clock.h"
#include "sinopia/io/checkpoint_file.h"
#include "sinopia/io/file.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/pipelines/generation.h"
#include "sinopia/pipelines/sampling_choice.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

CheckpointParts read_parts(const fs::path& path) {
  return fs::is_directory(path) ? load_diffusers_folder(path) : split_checkpoint(read_tensor_file(path));
}

// The autoencoder of a whole model, a folder's "vae", or a file with nothing else.
AutoencoderPart read_vae(const fs::path& path) {
  CheckpointParts parts = read_parts(path);
  SINOPIA_CHECK(!parts.vae.tensors.empty(), NotFound, "[model] '{}' has no autoencoder", path.string());
  return std::move(parts.vae);
}

CheckpointParts read_model(const fs::path& path, const LoadOptions& options) {
  CheckpointParts parts = read_parts(path);
  if (!options.vae.empty()) parts.vae = read_vae(options.vae);
  const bool known = parts.family == Family::StableDiffusion1 || parts.family == Family::StableDiffusion2;
  SINOPIA_CHECK(known || parts.unet.tensors.empty(), Unsupported,
                "[model] expected Stable Diffusion 1 or 2, '{}' is {}", path.string(), parts.description);
  SINOPIA_CHECK(!parts.unet.tensors.empty(), NotFound, "[model] '{}' has no UNet", path.string());
  SINOPIA_CHECK(!parts.vae.tensors.empty(), NotFound, "[model] '{}' has no autoencoder: give one with it",
                path.string());
  SINOPIA_CHECK(parts.text_encoders.size() == 1 && !parts.text_encoders[0].tensors.empty(), NotFound,
                "[model] '{}' has no text encoder", path.string());
  return parts;
}

SchedulerConfig read_scheduler(const fs::path& model, const CheckpointParts& parts,
                               const std::string& prediction) {
  const fs::path file = model / "scheduler" / "scheduler_config.json";
  SchedulerConfig config = fs::is_directory(model) && fs::exists(file)
                               ? parse_scheduler_config(read_text_file(file, size_t{1} << 20))
                               : scheduler_config(parts.schedule);
  if (!prediction.empty()) config.schedule.prediction = parse_prediction(prediction);
  return config;
}

template <class Network, class Part>
Network build(Part& part, const char* what) {
  CheckpointParameters parameters(std::move(part.tensors), what);
  Network network(Scope(parameters), part.config);
  parameters.finish();
  return network;
}

std::string name_of(fs::path path) {
  if (!path.has_filename()) path = path.parent_path();  // "folder/"
  return fs::is_directory(path) ? path.filename().string() : path.stem().string();
}

}  // namespace

struct StableDiffusion::Model {
  Model(const fs::path& path, const LoadOptions& options, CheckpointParts parts)
      : name(name_of(path)),
        description(parts.description),
        scheduler(read_scheduler(path, parts, options.prediction)),
        schedule(scheduler.schedule),
        clip(build<ClipTextModel>(parts.text_encoders[0], "text_encoder")),
        unet(build<UNet>(parts.unet, "unet")),
        vae(build<AutoencoderKL>(parts.vae, "vae")),
        text(clip, parts.text_encoders[0].padding_id) {
    SINOPIA_CHECK(unet.config().cross_attention_dim == clip.config().hidden_size, InvalidArgument,
                  "[model] the UNet reads texts {} wide, the text encoder writes {}",
                  unet.config().cross_attention_dim, clip.config().hidden_size);
    if (!options.embeddings.empty()) embeddings = add_embeddings(text, options.embeddings);
  }

  std::string name, description;
  SchedulerConfig scheduler;
  NoiseSchedule schedule;
  ClipTextModel clip;
  UNet unet;
  AutoencoderKL vae;
  TextEncoding text;
  std::vector<std::string> embeddings;
  double load_seconds = 0;
};

StableDiffusion::StableDiffusion(const fs::path& model, const LoadOptions& options) {
  const Stopwatch clock;
  model_ = std::make_unique<Model>(model, options, read_model(model, options));
  model_->load_seconds = clock.seconds();
}
StableDiffusion::~StableDiffusion() = default;
StableDiffusion::StableDiffusion(StableDiffusion&&) noexcept = default;

GenerationResult StableDiffusion::generate(const GenerationRequest& request) {
  return run_generation(
      {model_->unet, model_->vae, model_->text, model_->schedule, model_->scheduler, model_->name}, request);
}

const std::string& StableDiffusion::name() const { return model_->name; }
const std::string& StableDiffusion::description() const { return model_->description; }
const std::vector<std::string>& StableDiffusion::embeddings() const { return model_->embeddings; }
double StableDiffusion::load_seconds() const { return model_->load_seconds; }

}  // namespace sinopia
