#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "sinopia/tensor/device.h"

namespace sinopia {

/// The device of this name, made ready for tensors: "cpu", "cuda" (the first GPU), "cuda:1", or "auto", which
/// is the first GPU if there is one and the CPU otherwise. Throws InvalidArgument for any other name,
/// Unsupported, saying what is missing, for a GPU that cannot be used.
Device open_device(std::string_view name);

/// Why no GPU can be used: "this build has no CUDA", "no NVIDIA driver", ..; empty if one can.
std::string gpu_obstacle();
/// Whether this build has code for GPUs at all.
bool has_gpu_backend();

/// For a person: "NVIDIA H100 80GB HBM3", or "cpu".
std::string device_name(Device device);

/// Bytes of the device's own memory that no one has taken; 0 for the CPU.
size_t free_device_memory(Device device);

/// Returns when everything that was asked of the device is done. Throws what went wrong there meanwhile.
void synchronise(Device device);

}  // namespace sinopia
