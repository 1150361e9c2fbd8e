#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "sinopia/models/stable_diffusion.h"

namespace sinopia::cli {

/// Where a command's networks compute, and in which type.
struct DeviceChoice {
  std::string device = "auto";  ///< as open_device takes it
  std::string precision = "auto",
              vae_precision = "auto";  ///< of networks on a GPU, and of the autoencoder there
};

/// --device, --precision and --vae-precision.
void add_device_options(CLI::App& app, DeviceChoice& choice);

/// Opens the device. Throws Error if it cannot be had or does not compute in that type.
void place(const DeviceChoice& choice, LoadOptions& options);

/// Tells a person who has a build for GPUs and asked for none in particular why it is the CPU.
void mention_missing_gpu(const std::string& device);

}  // namespace sinopia::cli
