#pragma once

#include <cstddef>
#include <string>

namespace sinopia {

// What devices.h is made from; one definition in cuda/, one in stub/.

/// Not the stub.
bool built_with_cuda();
/// Why no GPU can be used; empty if one can.
std::string cuda_obstacle();
/// How many GPUs there are; 0 with an obstacle.
int cuda_device_count();
/// Makes a GPU ready and registers its allocator; does nothing the second time. Throws Unsupported for a GPU
/// that this build has no code for.
void open_cuda_device(int index);
std::string cuda_device_name(int index);
size_t free_cuda_memory(int index);
void synchronise_cuda(int index);
/// See MatmulPrecision::TF32; the stub has nothing to do.
void set_cuda_tf32(bool on);

}  // namespace sinopia
