#include "device_choice.h"

#include <cstdio>
#include <optional>

#include <fmt/format.h>

#include "options.h"
#include "sinopia/backend/devices.h"
#include "sinopia/base/error.h"

namespace sinopia::cli {
namespace {

std::optional<DType> dtype_of(const std::string& name) {
  if (name == "f32") return DType::F32;
  if (name == "f16") return DType::F16;
  if (name == "bf16") return DType::BF16;
  return std::nullopt;
}

}  // namespace

void add_device_options(CLI::App& app, DeviceChoice& choice) {
  app.add_option("--device", choice.device,
                 "where to compute: cpu, cuda, cuda:N, or auto (a GPU if there is one)")
      ->type_name("NAME")
      ->capture_default_str();
  add_choice(
      app, "--precision", {"auto", "f32", "f16", "bf16"},
      [&choice](const std::string& name) { choice.precision = name; },
      "what a GPU computes in, with sums in f32: f32, f16, bf16, auto (f16)");
  add_choice(
      app, "--vae-precision", {"auto", "f32", "f16", "bf16"},
      [&choice](const std::string& name) { choice.vae_precision = name; },
      "the same for the autoencoder: auto is --precision, and f32 where f16 does not reach");
}

void place(const DeviceChoice& choice, LoadOptions& options) {
  const Device device = open_device(choice.device);
  const std::optional<DType> dtype = dtype_of(choice.precision), of_vae = dtype_of(choice.vae_precision);
  if (device.is_cpu()) {
    for (const auto& [flag, type] : {std::pair("--precision", dtype), std::pair("--vae-precision", of_vae)})
      SINOPIA_CHECK(type.value_or(DType::F32) == DType::F32, InvalidArgument,
                    "[device] expected {} f32 on the CPU, got {}; see --matmul-precision", flag,
                    to_string(*type));
  }
  options.placement = {device, device.is_cpu() ? DType::F32 : dtype.value_or(DType::F16)};
  options.vae_dtype = of_vae;
}

void mention_missing_gpu(const std::string& device) {
  if (device == "auto" && has_gpu_backend() && !gpu_obstacle().empty())
    fmt::print(stderr, "no GPU ({}): running on the CPU\n", gpu_obstacle());
}

}  // namespace sinopia::cli
