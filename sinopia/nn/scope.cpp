#include "sinopia/nn/scope.h"

#include <algorithm>
#include <cmath>

namespace sinopia {

Initialiser Initialiser::fan_in(int64_t inputs) {
  return uniform(1.0f / std::sqrt(static_cast<float>(std::max<int64_t>(inputs, 1))));
}

}  // namespace sinopia
