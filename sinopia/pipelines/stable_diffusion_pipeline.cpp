#include "sinopia/pipelines/stable_diffusion_pipeline.h"

#include "sinopia/base/clock.h"
#include "sinopia/io/file.h"
#include "sinopia/pipelines/generation.h"
#include "sinopia/pipelines/sampling_choice.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

SchedulerConfig read_scheduler(const fs::path& path, const ScheduleInfo& info) {
  const fs::path file = path / "scheduler" / "scheduler_config.json";
  if (!fs::is_directory(path) || !fs::exists(file)) return scheduler_config(info);
  SchedulerConfig config = parse_scheduler_config(read_text_file(file, size_t{1} << 20));
  config.schedule.prediction = parse_prediction(info.prediction);  // may have been asked for instead
  return config;
}

std::string name_of(fs::path path) {
  if (!path.has_filename()) path = path.parent_path();  // "folder/"
  return fs::is_directory(path) ? path.filename().string() : path.stem().string();
}

StableDiffusion load(const fs::path& path, const LoadOptions& options) {
  StableDiffusion model = StableDiffusion::load(path, options);
  const Family family = model.family();
  SINOPIA_CHECK(family == Family::StableDiffusion1 || family == Family::StableDiffusion2, Unsupported,
                "[pipeline] expected Stable Diffusion 1 or 2, '{}' is {}", path.string(),
                model.description());
  SINOPIA_CHECK(model.text_encoders().size() == 1, NotFound, "[pipeline] '{}' has no text encoder",
                path.string());
  return model;
}

}  // namespace

struct StableDiffusionPipeline::Model {
  Model(const fs::path& path, const LoadOptions& options)
      : name(name_of(path)),
        networks(load(path, options)),
        scheduler(read_scheduler(path, networks.schedule())),
        schedule(scheduler.schedule),
        text(networks.text_encoders()[0].model, networks.text_encoders()[0].padding_id) {}

  Stopwatch clock;
  std::string name;
  StableDiffusion networks;
  SchedulerConfig scheduler;
  NoiseSchedule schedule;
  TextEncoding text;
  double load_seconds = 0;
};

StableDiffusionPipeline::StableDiffusionPipeline(const fs::path& model, const LoadOptions& options)
    : model_(std::make_unique<Model>(model, options)) {
  model_->load_seconds = model_->clock.seconds();
}
StableDiffusionPipeline::~StableDiffusionPipeline() {
  if (!model_) return;
  const Device device = model_->networks.placement().device;
  model_.reset();
  allocator({}).release_cached();  // the memory goes back with the model
  if (!device.is_cpu()) allocator(device).release_cached();
}
StableDiffusionPipeline::StableDiffusionPipeline(StableDiffusionPipeline&&) noexcept = default;

GenerationResult StableDiffusionPipeline::generate(const GenerationRequest& request) {
  const StableDiffusion& networks = model_->networks;
  return run_generation(
      {networks.unet(), networks.vae(), networks.precise_vae(), networks.tiny_decoder(), model_->text,
       networks.mapped_weights(), model_->schedule, model_->scheduler, model_->name, networks.class_names()},
      request);
}

std::vector<std::string> StableDiffusionPipeline::add_embeddings(const fs::path& folder) {
  return sinopia::add_embeddings(model_->text, folder);
}

const std::string& StableDiffusionPipeline::name() const { return model_->name; }
const std::string& StableDiffusionPipeline::description() const { return model_->networks.description(); }
double StableDiffusionPipeline::load_seconds() const { return model_->load_seconds; }

}  // namespace sinopia
