#include "sinopia/pipelines/memory_planning.h"

#include <algorithm>

#include "sinopia/backend/planned_memory.h"
#include "sinopia/models/vae/tiling.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia {
namespace {

// Measured: the program, its tables and stacks; what kernels take while they run.
constexpr size_t kProgramBytes = size_t{48} << 20, kKernelBytes = size_t{96} << 20;
// What layers hold at once of weights that are read anew: the largest one, and what is read ahead.
constexpr size_t kStreamedBytes = size_t{48} << 20;

// The first, middle and last of `steps`: guidance and cached features may differ between them.
size_t sampling_tensors(const Networks& networks, const GuidedDenoiser& denoiser, const Shape& latent,
                        int steps) {
  return planned_peak([&] {
    GuidedDenoiser trial = denoiser;
    PictureCondition condition;
    const int64_t more = networks.unet.config().in_channels - latent[-1];
    if (more > 0) condition.channels = Tensor::empty({1, latent[1], latent[2], more});
    trial.begin(condition, 0);
    for (const int step : {1, (steps + 1) / 2, steps}) {
      trial.set_step(step);
      trial(Tensor::empty(latent), 1.0);
    }
  });
}

template <class Decoder>
size_t decoding_tensors(const Decoder& decoder, const Shape& latent, int tile) {
  return planned_peak([&] {
    const Tensor z = Tensor::empty(latent);
    if (tile == 0)
      decoder.decode(z);
    else
      decode_tiled(decoder, z, tiles_of(tile));
  });
}

}  // namespace

MemoryPlan plan_memory(const Networks& networks, const GenerationRequest& request,
                       const GuidedDenoiser& denoiser, const Shape& latent, bool tiles) {
  MemoryPlan plan;
  plan.tile = tiles ? kTiles[0] : 0;
  if (request.max_memory == 0 || !networks.unet.device().is_cpu()) return plan;
  const size_t limit = request.max_memory;
  const size_t fixed = kProgramBytes + kKernelBytes + allocator({}).stats().in_use;
  const auto fits = [&](size_t tensors, const std::vector<Tensor>& weights, bool& streams, size_t& bytes) {
    const size_t all = MappedWeights::bytes(weights), few = std::min(all, kStreamedBytes);
    streams = fixed + tensors + all > limit;
    bytes = fixed + tensors + (streams ? few : all);
    return bytes <= limit;
  };
  const int64_t factor = networks.vae.config().factor();
  const auto refuse = [&](const char* stage, size_t bytes) {
    fail(ErrorKind::OutOfMemory,
         "[generation] {}x{} pixels need at least {} MB for {}, more than the {} MB allowed",
         latent[2] * factor, latent[1] * factor, bytes / 1000000 + 1, stage, limit / 1000000);
  };
  if (!fits(sampling_tensors(networks, denoiser, latent, request.steps), networks.mapped.unet,
            plan.stream_sampling, plan.sampling))
    refuse("sampling", plan.sampling);
  const auto decodes = [&](int tile) {
    plan.tile = tile;
    const size_t tensors = request.savings.tiny_decoder
                               ? decoding_tensors(*networks.tiny_decoder, latent, tile)
                               : decoding_tensors(networks.vae, latent, tile);
    return fits(tensors, networks.mapped.vae, plan.stream_decoding, plan.decoding);
  };
  if (!tiles && decodes(0)) return plan;
  if (tiles || request.vae_tiling != VaeTiling::Off) {
    for (const int tile : kTiles) {
      if (decodes(tile)) return plan;
    }
  }
  refuse("decoding", plan.decoding);
  return plan;
}

}  // namespace sinopia
