#include "bench/bench.h"

namespace sinopia::bench {

std::vector<Contender> onednn_conv2d(const Tensor&, const Tensor&, const Tensor&, const Conv2dOptions&,
                                     const Shape&) {
  return {};
}
std::vector<Contender> onednn_linear(const Tensor&, const Tensor&, const Tensor&) { return {}; }
std::vector<Contender> onednn_matmul(const Tensor&, const Tensor&, bool) { return {}; }

}  // namespace sinopia::bench
