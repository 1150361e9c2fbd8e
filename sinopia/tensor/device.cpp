#include "sinopia/tensor/device.h"

#include <fmt/format.h>

namespace sinopia {

std::string to_string(Device device) {
  return device.is_cpu() ? std::string("cpu") : fmt::format("cuda:{}", device.index);
}

}  // namespace sinopia
