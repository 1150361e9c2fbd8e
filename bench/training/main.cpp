// Takes optimizer steps of a network that bench/training/torch_peer.py wrote, on its data, and prints the
// losses and times as JSON. bench/training/run compares both.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "sinopia/autograd/tape.h"
#include "sinopia/base/threads.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/train/autoencoder_objective.h"
#include "sinopia/train/diffusion_objective.h"
#include "sinopia/train/optimizers/gradients.h"

namespace sinopia::bench {
namespace {

TensorMap part(const TensorFile& file, const std::string& prefix) {
  TensorMap result;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) result[name.substr(prefix.size())] = tensor;
  }
  return result;
}

/// step() until all are done; the loss of each and the seconds that it took.
template <class Loss>
nlohmann::json run(const TensorMap& parameters, int steps, const Loss& loss_and_backward) {
  Optimizer optimizer = make_optimizer("adamw", parameters);
  StepGuard guard(1.0);
  std::vector<double> losses, seconds;
  for (int step = 0; step < steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    losses.push_back(loss_and_backward());
    guard.step(optimizer, take_gradients(parameters), 1e-4);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {{"losses", losses}, {"seconds", seconds}, {"peak_bytes", usage.ru_maxrss * 1024}};
}

nlohmann::json train_unet(const TensorFile& file, int steps) {
  CheckpointParameters given(part(file, "w."), "unet");
  TrainableParameters parameters(given);
  const UNet unet(Scope(parameters), unet_config_from_json(file.metadata.at("config")));
  const DiffusionObjective objective({});
  std::vector<double> levels;
  for (const int32_t t : file.tensors.at("timesteps").to_vector<int32_t>())
    levels.push_back((t + 0.5) / 1000);
  const NoisedBatch batch = objective.noised(file.tensors.at("latents"), file.tensors.at("noise"), levels);
  return run(parameters.leaves(), steps, [&] {
    const RecordGradients on;
    const Tensor loss = objective.loss(unet.forward(batch.x, batch.timestep, file.tensors.at("text")), batch);
    backward(loss);
    return static_cast<double>(loss.values<float>()[0]);
  });
}

nlohmann::json train_autoencoder(const TensorFile& file, int steps) {
  CheckpointParameters given(part(file, "w."), "autoencoder");
  TrainableParameters parameters(given);
  const Autoencoder autoencoder(Scope(parameters), autoencoder_config_from_json(file.metadata.at("config")));
  AutoencoderObjective objective({.perceptual = 0, .adversarial = 0}, nullptr, nullptr);
  return run(parameters.leaves(), steps, [&] {
    return objective.autoencoder_pass(autoencoder, file.tensors.at("pictures"), file.tensors.at("noise"), 0)
        .total;
  });
}

}  // namespace
}  // namespace sinopia::bench

int main(int argc, char** argv) {
  CLI::App app("Times training on what bench/training/torch_peer.py wrote");
  std::filesystem::path file;
  int steps = 5, threads = 0;
  app.add_option("file", file, "of torch_peer.py --write")->required()->check(CLI::ExistingFile);
  app.add_option("--steps", steps)->check(CLI::PositiveNumber);
  app.add_option("--threads", threads, "0: all cores");
  CLI11_PARSE(app, argc, argv);
  try {
    if (threads > 0) sinopia::set_thread_count(threads);
    const sinopia::TensorFile data = sinopia::read_safetensors(file);
    const bool unet = data.tensors.contains("latents");
    const nlohmann::json result =
        unet ? sinopia::bench::train_unet(data, steps) : sinopia::bench::train_autoencoder(data, steps);
    std::puts(result.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
