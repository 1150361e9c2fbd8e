#include "sinopia/pipelines/generation.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "sinopia/base/clock.h"
#include "sinopia/diffusion/prediction.h"
#include "sinopia/diffusion/sigma_schedules.h"
#include "sinopia/io/image_tensor.h"
#include "sinopia/models/vae/tiling.h"
#include "sinopia/nn/weight_streaming.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"
#include "sinopia/pipelines/guided_denoiser.h"
#include "sinopia/pipelines/initial_noise.h"
#include "sinopia/pipelines/input_picture.h"
#include "sinopia/pipelines/memory_planning.h"
#include "sinopia/pipelines/metadata.h"
#include "sinopia/pipelines/preview.h"
#include "sinopia/pipelines/sampling_choice.h"
#include "sinopia/pipelines/semantic_map.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia {
namespace {

// Above this many pixels the autoencoder works on tiles, unless it is told otherwise.
constexpr int64_t kMaxWholePixels = 1024 * 1024;

// A GPU's memory during one generation: below a limit, if there is one, and how much of it was used.
class DeviceMemory {
 public:
  DeviceMemory(Device device, size_t limit) : memory_(device.is_cpu() ? nullptr : &allocator(device)) {
    if (!memory_) return;
    memory_->reset_peak();
    memory_->set_limit(limit);
  }
  ~DeviceMemory() {
    if (memory_) memory_->set_limit(0);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  size_t peak() const { return memory_ ? memory_->stats().peak : 0; }

 private:
  Allocator* memory_;
};

// One call of generate(): what its pictures share, then picture by picture.
class Generation {
 public:
  Generation(const Networks& networks, const GenerationRequest& request)
      : nets_(networks), request_(request) {
    validate(request);
    settle_masks();
    settle_classes();
    settle_size();
    settle_semantic_map();
    settle_plan();
    settle_savings();
  }

  GenerationResult run() {
    const DeviceMemory on_gpu(nets_.unet.device(), request_.max_memory);
    allocator({}).reset_peak();
    show(Stage::Text);
    GuidedDenoiser denoiser(nets_.unet, nets_.schedule, plan_, encode_text(), request_.stop);
    MappedWeights::drop_pages(nets_.mapped.text);
    result_.memory = plan_memory(nets_, request_, denoiser, shape_, tiled_);
    encode_pictures();
    for (image_ = 0; image_ < request_.batch_count; ++image_) paint(denoiser);
    result_.evaluations = denoiser.evaluations();
    result_.timings.total = clock_.seconds();
    result_.peak_tensor_bytes = allocator({}).stats().peak;
    result_.peak_device_bytes = on_gpu.peak();
    return std::move(result_);
  }

 private:
  // The networks' channels decide which form of inpainting they can do.
  void settle_masks() {
    const UNetConfig& unet = nets_.unet.config();
    const int64_t C = nets_.vae.config().latent_channels, in = unet.in_channels - unet.semantic_classes;
    takes_mask_ = in == 2 * C + 1;
    SINOPIA_CHECK(takes_mask_ || in == C, Unsupported,
                  "[generation] expected a UNet of {} or {} input channels, got {}", C, 2 * C + 1, in);
    if (!request_.mask || request_.mask_form == MaskForm::Auto) return;
    SINOPIA_CHECK(
        (request_.mask_form == MaskForm::Channels) == takes_mask_, InvalidArgument,
        "[generation] this model's UNet has {} input channels, which does not suit the form of the mask", in);
  }

  // The last row of a table that has more than its names stands for none.
  void settle_classes() {
    const UNetConfig& unet = nets_.unet.config();
    const std::string& label = request_.class_label;
    if (unet.class_embedding != UNetClassEmbedding::Table) {
      SINOPIA_CHECK(label.empty(), InvalidArgument, "[generation] this model takes no class, got \"{}\"",
                    label);
      return;
    }
    const auto rows = static_cast<int32_t>(unet.num_class_embeds), none = rows - 1;
    const auto named = static_cast<int32_t>(nets_.class_names.size());
    SINOPIA_CHECK(!label.empty() || named < rows, InvalidArgument,
                  "[generation] this model needs one of its {} classes, such as \"{}\"", rows,
                  nets_.class_names.front());
    const int32_t row = label.empty() ? none : class_row(label, rows);
    classes_ = {row, named < rows ? none : row};
  }

  int32_t class_row(const std::string& label, int32_t rows) const {
    const auto found = std::ranges::find(nets_.class_names, label);
    if (found != nets_.class_names.end()) return static_cast<int32_t>(found - nets_.class_names.begin());
    int32_t number = -1;
    const char* const end = label.data() + label.size();
    const auto read = std::from_chars(label.data(), end, number);
    SINOPIA_CHECK(read.ec == std::errc() && read.ptr == end && number >= 0 && number < rows, InvalidArgument,
                  "[generation] expected the name of a class{} or its number, 0 to {}, got \"{}\"",
                  nets_.class_names.empty() ? "" : fmt::format(" such as \"{}\"", nets_.class_names.front()),
                  rows - 1, label);
    return number;
  }

  void settle_semantic_map() {
    const int64_t classes = nets_.unet.config().semantic_classes;
    SINOPIA_CHECK(request_.semantic_map.has_value() == (classes > 0), InvalidArgument,
                  "[generation] this model {}",
                  classes > 0 ? "needs a semantic map" : "takes no semantic map");
    if (classes == 0) return;
    semantic_ = semantic_channels(*request_.semantic_map, {}, shape_[1], shape_[2], classes)
                    .reshape({1, shape_[1], shape_[2], classes});
  }

  void settle_size() {
    const int own = static_cast<int>(nets_.unet.config().sample_size * nets_.vae.config().factor());
    const auto side = [&](int asked, int input) {
      return asked > 0 ? asked : input > 0 ? std::max(input / 8 * 8, 8) : own;
    };
    result_.width = side(request_.width, request_.init_image ? request_.init_image->width : 0);
    result_.height = side(request_.height, request_.init_image ? request_.init_image->height : 0);
    const int64_t factor = nets_.vae.config().factor();
    SINOPIA_CHECK(result_.width % factor == 0 && result_.height % factor == 0, InvalidArgument,
                  "[generation] expected sides that are multiples of {}, got {}x{}", factor, result_.width,
                  result_.height);
    SINOPIA_CHECK(result_.width <= 8192 && result_.height <= 8192, InvalidArgument,
                  "[generation] expected sides of at most 8192, got {}x{}", result_.width, result_.height);
    shape_ = Shape{1, result_.height / factor, result_.width / factor, nets_.vae.config().latent_channels};
    const int64_t pixels = int64_t{result_.width} * result_.height;
    tiled_ = request_.vae_tiling == VaeTiling::On ||
             (request_.vae_tiling == VaeTiling::Auto && pixels > kMaxWholePixels);
  }

  void settle_plan() {
    plan_ =
        choose_plan(request_.sampler, request_.scheduler, nets_.scheduler, nets_.schedule, request_.steps);
    if (request_.init_image) {
      const int first = first_step(request_.steps, request_.strength);
      SINOPIA_CHECK(first < static_cast<int>(plan_.timesteps.size()), InvalidArgument,
                    "[generation] a strength of {} leaves none of {} steps", request_.strength,
                    request_.steps);
      plan_ = skip_steps(plan_, first);
    }
    steps_ = static_cast<int>(plan_.sigmas.size()) - 1;
    result_.sampler = plan_.sampler->name;
    if (!request_.scheduler.empty()) result_.scheduler = find_sigma_schedule(request_.scheduler).name;
    result_.steps_run = steps_;
  }

  void settle_savings() const {
    const int64_t deepest = nets_.unet.config().skips() - 1;
    SINOPIA_CHECK(request_.savings.deep_cache.depth <= deepest, InvalidArgument,
                  "[generation] expected a DeepCache depth from 0 to {} for this model, got {}", deepest,
                  request_.savings.deep_cache.depth);
    SINOPIA_CHECK(!request_.savings.tiny_decoder || nets_.tiny_decoder, InvalidArgument,
                  "[generation] the model was loaded without a tiny decoder to decode with");
  }

  Guidance encode_text() {
    const Stopwatch clock;
    const TextOptions options{request_.emphasis, request_.clip_skip, request_.truncate, request_.stop};
    Guidance guidance;
    guidance.scale = request_.cfg_scale;
    guidance.rescale = request_.guidance_rescale;
    guidance.savings = request_.savings;
    guidance.classes = classes_;
    guidance.positive = nets_.text.encode_positive(request_.prompt, steps_, options);
    const bool alone = guidance.positive.size() == 1 && guidance.positive.front().weight == 1;
    if (request_.cfg_scale > 1 || !alone)
      guidance.negative = nets_.text.encode_negative(request_.negative_prompt, steps_, options);
    result_.timings.text = clock.seconds();
    return guidance;
  }

  void encode_pictures() {
    if (!request_.init_image && !takes_mask_) return;
    show(Stage::Encode);
    const Stopwatch clock;
    const WeightStreaming streaming(result_.memory.stream_decoding);
    input_ = encode_input(nets_.vae, nets_.precise_vae, request_, result_.width, result_.height, takes_mask_,
                          result_.memory.tile);
    result_.timings.encode = clock.seconds();
  }

  Tensor posterior(const DiagonalGaussian& latent, NoiseGenerator& generator) const {
    return nets_.vae.to_diffusion(latent.certain() ? latent.mean : latent.sample(randn(generator, shape_)));
  }

  Tensor first_noise(NoiseGenerator& generator, uint64_t variation_seed) const {
    const Tensor noise = randn(generator, shape_);
    if (request_.variation_strength <= 0) return noise;
    const auto other = make_generator(request_.rng, variation_seed);
    return slerp_noise(noise, randn(*other, shape_), request_.variation_strength);
  }

  // Draws in the order of diffusers' pipelines: the picture's posterior, the noise, the masked picture's
  // posterior.
  Tensor begin(GuidedDenoiser& denoiser, NoiseGenerator& generator, uint64_t seed,
               uint64_t variation_seed) const {
    const bool blend = request_.mask && !takes_mask_;
    const bool from_noise = !request_.init_image || (request_.mask && request_.strength == 1);
    PictureCondition condition;
    std::vector<Tensor> channels;
    Tensor picture;
    if (input_.latent && (!from_noise || blend)) picture = posterior(*input_.latent, generator);
    const Tensor noise = first_noise(generator, variation_seed);
    if (takes_mask_) {
      channels = {input_.mask, posterior(*input_.masked_latent, generator)};
    } else if (blend) {
      // diffusers draws for the masked picture here too, and does not use it.
      if (!input_.latent->certain()) randn(generator, shape_);
      condition = {input_.mask, {}, picture, noise, from_noise};
    }
    if (semantic_) channels.push_back(semantic_);
    if (!channels.empty()) condition.channels = concat(channels, -1);
    denoiser.begin(condition, seed);
    if (from_noise) return noise * plan_.noise_scale;
    return add_noise(nets_.schedule.config().prediction, picture, noise, plan_.sigmas.front());
  }

  template <class Decoder>
  Tensor decode_with(const Decoder& decoder, const Tensor& z,
                     const std::function<void(int64_t, int64_t)>& on_tile = nullptr) const {
    return with_fitting_tiles(decoder.device(), request_, result_.memory.tile, [&](int side) {
      if (side == 0) return decoder.decode(z);
      TilingOptions options = tiles_of(side);
      options.on_tile = on_tile;
      return decode_tiled(decoder, z, options);
    });
  }

  Tensor decode(const Tensor& latent) {
    SINOPIA_CHECK(!request_.stop.stop_requested(), Cancelled, "[generation] stopped before decoding");
    MappedWeights::drop_pages(nets_.mapped.unet);  // decoding needs the most memory
    const WeightStreaming streaming(result_.memory.stream_decoding);
    const auto on_tile = [this](int64_t, int64_t) {
      SINOPIA_CHECK(!request_.stop.stop_requested(), Cancelled, "[generation] stopped while decoding");
    };
    const Tensor z = nets_.vae.from_diffusion(latent);
    const bool tiny = request_.savings.tiny_decoder;
    Tensor picture =
        tiny ? decode_with(*nets_.tiny_decoder, latent, on_tile) : decode_with(nets_.vae, z, on_tile);
    if (!tiny && nets_.precise_vae && !all_finite(picture))
      picture = decode_with(*nets_.precise_vae, z, on_tile);
    SINOPIA_CHECK(all_finite(picture), Backend,
                  "[generation] the autoencoder gave values that are not finite");
    return picture;
  }

  Image preview(const Tensor& x0) const {
    if (!nets_.tiny_decoder) return preview_image(x0);
    return tensor_to_images(decode_with(*nets_.tiny_decoder, x0)).front();
  }

  void step_done(GuidedDenoiser& denoiser, const StepInfo& info) {
    SINOPIA_CHECK(all_finite(info.x), Backend, "[generation] the latent is not finite after step {} of {}",
                  info.step, info.steps);
    result_.timings.steps.push_back(step_clock_.seconds());
    if (result_.timings.first_step == 0) result_.timings.first_step = clock_.seconds();
    step_ = static_cast<int>(info.step);
    denoiser.set_step(step_ + 1);
    show(Stage::Sample);
    if (request_.on_preview && request_.preview_interval > 0 && step_ % request_.preview_interval == 0 &&
        shape_[-1] == 4)
      request_.on_preview({image_, step_, preview(info.x0)});
    step_clock_.reset();
  }

  void paint(GuidedDenoiser& denoiser) {
    const bool varied = request_.variation_strength > 0;
    const uint64_t seed = request_.seed + (varied ? 0 : static_cast<uint64_t>(image_));
    const uint64_t variation_seed = request_.variation_seed + static_cast<uint64_t>(image_);
    const std::shared_ptr<NoiseGenerator> generator = make_generator(request_.rng, seed);
    const Tensor x = begin(denoiser, *generator, seed, variation_seed);

    step_ = 0;
    show(Stage::Sample);
    SamplerContext context;
    context.noise = independent_noise({generator}, shape_);
    context.eta = request_.eta ? request_.eta : plan_.eta;
    context.s_noise = request_.s_noise;
    context.s_churn = request_.s_churn;
    context.order = plan_.order;
    context.schedule = &nets_.schedule;
    context.on_step = [&](const StepInfo& info) { step_done(denoiser, info); };
    context.stop = request_.stop;
    step_clock_.reset();
    const Denoiser denoise = [&](const Tensor& latent, double sigma) {
      const WeightStreaming streaming(result_.memory.stream_sampling);
      return denoiser(latent, sigma);
    };
    const Tensor latent = denoiser.finish(run_sampler(*plan_.sampler, denoise, x, plan_.sigmas, context));

    show(Stage::Decode);
    const Stopwatch clock;
    Image picture = tensor_to_images(decode(latent)).front();
    result_.timings.decode += clock.seconds();
    const PictureFacts facts{nets_.name,     result_.sampler, result_.scheduler, seed,
                             variation_seed, result_.width,   result_.height};
    picture.text["parameters"] = format_parameters(describe_picture(request_, facts));
    if (request_.on_image) request_.on_image(image_, seed, picture);
    result_.images.push_back(std::move(picture));
    result_.seeds.push_back(seed);
    if (request_.keep_latents) result_.latents.push_back(latent);
    show(Stage::Done);
  }

  void show(Stage stage) const {
    if (!request_.on_progress) return;
    Progress progress;
    progress.stage = stage;
    progress.image = image_;
    progress.images = request_.batch_count;
    progress.step = step_;
    progress.steps = steps_;
    const auto& times = result_.timings.steps;
    if (step_ > 0) {
      const auto first =
          times.end() - std::min<std::ptrdiff_t>(step_, static_cast<std::ptrdiff_t>(times.size()));
      progress.seconds_per_step =
          std::accumulate(first, times.end(), 0.0) / static_cast<double>(times.end() - first);
      const int left = steps_ - step_ + steps_ * (request_.batch_count - 1 - image_);
      progress.seconds_left = progress.seconds_per_step * left;
    }
    progress.memory = allocator({}).stats().peak;
    request_.on_progress(progress);
  }

  const Networks& nets_;
  const GenerationRequest& request_;
  const Stopwatch clock_;
  Stopwatch step_clock_;
  GenerationResult result_;
  SamplingPlan plan_;
  Shape shape_;
  InputPicture input_;
  std::optional<Guidance::Classes> classes_;
  Tensor semantic_;  // [1,h,w,classes]
  bool takes_mask_ = false;
  bool tiled_ = false;
  int image_ = 0, step_ = 0, steps_ = 0;
};

}  // namespace

GenerationResult run_generation(const Networks& networks, const GenerationRequest& request) {
  return Generation(networks, request).run();
}

}  // namespace sinopia
