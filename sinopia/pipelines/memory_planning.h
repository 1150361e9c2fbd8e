#pragma once

#include <array>

#include "sinopia/base/error.h"
#include "sinopia/base/log.h"
#include "sinopia/pipelines/generation.h"
#include "sinopia/pipelines/guided_denoiser.h"

namespace sinopia {

/// Latent cells. Smaller ones see too little around them for the picture to stay the same.
inline constexpr std::array kTiles{64, 48, 32, 24};

/// Finds the fastest way to generate [1,h,w,C] latents and their pictures within request.max_memory; without
/// a limit, what the request's tiling says. `tiles` is whether decoding is to be in tiles in any case. Throws
/// OutOfMemory naming what is needed at least.
/// On a GPU, where memory that is short is made by giving weights up, only whether to tile is decided.
MemoryPlan plan_memory(const Networks& networks, const GenerationRequest& request,
                       const GuidedDenoiser& denoiser, const Shape& latent, bool tiles);

/// work(tile): an autoencoder's, in tiles of so many latent cells, whole if it is 0. Where a GPU's memory
/// does not suffice, again in smaller tiles, unless the request wants none. Throws what `work` throws at
/// last.
template <class Work>
auto with_fitting_tiles(Device device, const GenerationRequest& request, int tile, const Work& work) {
  for (const int smaller : kTiles) {
    if (device.is_cpu() || request.vae_tiling == VaeTiling::Off) break;
    if (tile != 0 && smaller >= tile) continue;
    try {
      return work(tile);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::OutOfMemory) throw;
      log_info("[generation] {}; going on in tiles of {}x{} latent cells", error.what(), smaller, smaller);
    }
    tile = smaller;
  }
  return work(tile);
}

}  // namespace sinopia
