#include "sinopia/backend/devices.h"

#include <charconv>

#include "sinopia/backend/cuda_device.h"
#include "sinopia/base/error.h"

namespace sinopia {

Device open_device(std::string_view name) {
  if (name == "cpu") return {};
  if (name == "auto") return cuda_obstacle().empty() ? open_device("cuda") : Device{};
  int index = 0;
  if (name != "cuda") {
    constexpr std::string_view kPrefix = "cuda:";
    const std::string_view digits = name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : "";
    const char* const end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, index);
    SINOPIA_CHECK(!digits.empty() && read.ec == std::errc() && read.ptr == end && index >= 0, InvalidArgument,
                  "[device] expected cpu, cuda, cuda:N or auto, got '{}'", name);
  }
  const std::string obstacle = cuda_obstacle();
  SINOPIA_CHECK(obstacle.empty(), Unsupported, "[device] {} cannot be used: {}", name, obstacle);
  SINOPIA_CHECK(index < cuda_device_count(), Unsupported, "[device] expected cuda:0 to cuda:{}, got '{}'",
                cuda_device_count() - 1, name);
  open_cuda_device(index);
  return {DeviceType::Cuda, index};
}

std::string gpu_obstacle() { return cuda_obstacle(); }
bool has_gpu_backend() { return built_with_cuda(); }

std::string device_name(Device device) {
  return device.is_cpu() ? to_string(device) : cuda_device_name(device.index);
}

size_t free_device_memory(Device device) { return device.is_cpu() ? 0 : free_cuda_memory(device.index); }

void synchronise(Device device) {
  if (!device.is_cpu()) synchronise_cuda(device.index);
}

}  // namespace sinopia
