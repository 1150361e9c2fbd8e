#pragma once

#include <filesystem>
#include <stop_token>
#include <string>

#include <CLI/CLI.hpp>

#include "device_choice.h"
#include "sinopia/pipelines/request.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"

namespace sinopia::cli {

/// What `generate` and `replay` have in common.
struct GenerationJob {
  std::filesystem::path model;
  LoadOptions load;
  DeviceChoice device;
  std::filesystem::path embeddings;
  GenerationRequest request;
  std::string output = "output.png";
  std::filesystem::path latent;  ///< a file for the latents before decoding, or nothing
  std::string json;              ///< a file, "-" for the standard output, or nothing
  std::filesystem::path init_image, mask, semantic_map;
  int threads = 0;
  bool verbose = false;
};

/// The flags of the model, the input pictures, the output and the machine.
void add_job_options(CLI::App& app, GenerationJob& job);

/// Loads, generates, writes each picture when it is done, and reports.
void run_job(GenerationJob& job, std::stop_token stop);

}  // namespace sinopia::cli
