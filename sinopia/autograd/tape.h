#pragma once

#include <concepts>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include "sinopia/autograd/gradient_node.h"

namespace sinopia {

/// Whether this thread's ops note how to go back. Off, the default, they are free of it: nothing is kept that
/// a result does not need.
bool recording_gradients();

/// Turns recording on or off for this thread while it lives.
class RecordGradients {
 public:
  explicit RecordGradients(bool on = true);
  ~RecordGradients();
  RecordGradients(const RecordGradients&) = delete;
  RecordGradients& operator=(const RecordGradients&) = delete;

 private:
  bool before_;
};

/// The same elements as a leaf, whose gradient is asked for. Throws InvalidArgument unless x is f32.
Tensor make_leaf(const Tensor& x);
/// The same elements without a past.
Tensor without_gradient(const Tensor& x);
/// Whether a gradient is asked for somewhere in what x was made of.
inline bool wants_gradient(const Tensor& x) { return x.gradient_node() != nullptr; }

/// What backward() has brought to a leaf so far, in its shape; absent if nothing. Throws InvalidArgument for
/// a tensor that is no leaf.
Tensor gradient_of(const Tensor& leaf);
void clear_gradient(const Tensor& leaf);

/// Adds the gradients of the scalar y, or of sum(y * dy), to the leaves that it was made of. Ops are gone
/// through from the last to the first, in one order for any number of threads; what they kept is let go on
/// the way, so that each graph can be gone through once. Throws InvalidArgument for a y without a past, one
/// that is no scalar without dy, a dy of another shape, a graph gone through before, and an op whose gradient
/// has another shape than its input.
void backward(const Tensor& y, const Tensor& dy = {});

/// How many ops were recorded by this process so far. Thread-safe.
int64_t recorded_ops();

namespace detail {
Tensor record(std::string_view name, Tensor y, std::span<const Tensor* const> inputs,
              GradientNode::Backward backward);
}

/// Notes, if a gradient is wanted, that y was made of `inputs` by an op whose gradients `backward` gives: it
/// takes dy in y's shape, and maybe which inputs want a gradient, and returns one of each input's shape.
/// Returns y.
template <class Backward>
Tensor record(std::string_view name, Tensor y, std::span<const Tensor* const> inputs, Backward&& backward) {
  if (!recording_gradients()) return y;
  if constexpr (std::invocable<Backward, const Tensor&, const Wanted&>) {
    return detail::record(name, std::move(y), inputs, std::forward<Backward>(backward));
  } else {
    return detail::record(name, std::move(y), inputs,
                          [backward = std::forward<Backward>(backward)](const Tensor& dy, const Wanted&) {
                            return backward(dy);
                          });
  }
}

/// body(inputs), of which only the inputs are kept: backward() runs it a second time to find what its ops
/// have to keep (Chen et al. 2016). Leaves that it uses besides get their gradients too. It must give the
/// same bits each time.
Tensor checkpointed(const std::function<Tensor(const std::vector<Tensor>&)>& body,
                    std::vector<Tensor> inputs);

}  // namespace sinopia
