#pragma once

#include <cuda_runtime.h>

namespace sinopia::cuda {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(sinopia_emulation::dynamic_shared());
}

}  // namespace sinopia::cuda
