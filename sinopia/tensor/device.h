#pragma once

#include <string>

namespace sinopia {

enum class DeviceType { Cpu, Cuda };

/// Where a tensor lives and an op runs.
struct Device {
  DeviceType type = DeviceType::Cpu;
  int index = 0;

  bool is_cpu() const { return type == DeviceType::Cpu; }
  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu", "cuda:0", ...
std::string to_string(Device device);

}  // namespace sinopia
