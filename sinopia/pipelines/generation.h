#pragma once

#include <span>
#include <string>
#include <vector>

#include "sinopia/diffusion/scheduler_config.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/models/taesd/tiny_decoder.h"
#include "sinopia/pipelines/request.h"
#include "sinopia/pipelines/text_encoding.h"

namespace sinopia {

/// The networks of a model and how they were trained.
struct Networks {
  const UNet& unet;
  const Autoencoder& vae;
  const Autoencoder* precise_vae;   ///< takes over where the other's numbers do not reach; may be null
  const TinyDecoder* tiny_decoder;  ///< may be null
  TextEncoding& text;
  const MappedWeights& mapped;
  const NoiseSchedule& schedule;
  const SchedulerConfig& scheduler;
  const std::string& name;                        ///< for the pictures' text
  std::span<const std::string> class_names = {};  ///< of the UNet's class table, as far as they are known
};

/// What StableDiffusion::generate does.
GenerationResult run_generation(const Networks& networks, const GenerationRequest& request);

}  // namespace sinopia
