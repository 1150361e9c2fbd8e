#include "sinopia/autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <map>

#include "sinopia/backend/kernels.h"

namespace sinopia {
namespace {

thread_local bool recording = false;
std::atomic<uint64_t> next_number{0};
std::atomic<int64_t> recorded{0};

Tensor flat(const Tensor& x) { return x.reshape({x.numel()}); }

Tensor sum(const Tensor& a, const Tensor& b) {
  Tensor y = empty_like(a);
  kernels(a.device()).binary(BinaryOp::Add, a, b, y);
  return y;
}

Tensor converted(const Tensor& x, DType dtype) {
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  kernels(x.device()).convert(x, y);
  return y;
}

void copy(const Tensor& from, Tensor to) { kernels(from.device()).convert(from, to); }

GradientNode& leaf_of(const Tensor& x) {
  GradientNode* node = x.gradient_node().get();
  SINOPIA_CHECK(node && node->is_leaf(), InvalidArgument, "[gradient] {} is no leaf", describe(x));
  return *node;
}

}  // namespace

bool recording_gradients() { return recording; }

RecordGradients::RecordGradients(bool on) : before_(std::exchange(recording, on)) {}
RecordGradients::~RecordGradients() { recording = before_; }

GradientNode::GradientNode(std::string name, const Tensor& value)
    : name_(std::move(name)),
      number_(next_number++),
      shape_(value.shape()),
      dtype_(value.dtype()),
      byte_offset_(value.byte_offset()) {}

GradientNode::~GradientNode() {
  if (inputs_.empty() && !backward_) return;
  // What a node holds may be all that holds the next one, whose end would begin within this one's.
  using Held = std::pair<std::vector<Edge>, Backward>;
  thread_local std::vector<Held>* ending = nullptr;
  if (ending) {
    ending->emplace_back(std::move(inputs_), std::move(backward_));
    return;
  }
  std::vector<Held> held;
  ending = &held;
  held.emplace_back(std::move(inputs_), std::move(backward_));
  while (!held.empty()) {
    const Held last = std::move(held.back());
    held.pop_back();
  }
  ending = nullptr;
}

GradientNode::Edge GradientNode::edge_to(const Tensor& view) {
  const auto begin = (static_cast<int64_t>(view.byte_offset()) - static_cast<int64_t>(byte_offset_)) /
                     static_cast<int64_t>(size_of(dtype_));
  return {view.gradient_node(), begin, view.numel()};
}

void GradientNode::accumulate(int64_t begin, const Tensor& given) {
  // Of a parameter in f32 that computes in halves, the gradient comes in halves.
  const Tensor gradient = given.dtype() == dtype_ ? given : converted(given, dtype_);
  const bool whole = gradient.numel() == shape_.numel();
  if (whole && !gradient_) {
    gradient_ = gradient.reshape(shape_);
    return;
  }
  if (whole) {
    gradient_ = sum(gradient_, gradient.reshape(shape_));
    owns_gradient_ = true;
    return;
  }
  if (!gradient_) {
    gradient_ = Tensor::empty(shape_, dtype_, gradient.device());
    kernels(gradient.device()).fill(gradient_, 0);
  } else if (!owns_gradient_) {
    const Tensor shared = gradient_;
    gradient_ = empty_like(shared);
    copy(shared, gradient_);
  }
  owns_gradient_ = true;
  const Tensor part = flat(gradient_).slice(begin, begin + gradient.numel());
  copy(sum(part, flat(gradient)), part);
}

/// The one who may look into nodes.
class Tape {
 public:
  static std::shared_ptr<GradientNode> make_op(std::string_view name, const Tensor& y,
                                               std::span<const Tensor* const> inputs,
                                               GradientNode::Backward backward) {
    auto node = std::make_shared<GradientNode>(std::string(name), y);
    node->leaf_ = false;
    node->backward_ = std::move(backward);
    for (const Tensor* x : inputs) {
      GradientNode* from = x->gradient_node().get();
      node->inputs_.push_back(from ? from->edge_to(*x) : GradientNode::Edge{nullptr, 0, x->numel()});
    }
    return node;
  }

  static Tensor gradient(const GradientNode& node) { return node.gradient_; }
  static void clear(GradientNode& node) {
    node.gradient_ = {};
    node.owns_gradient_ = false;
  }

  static void run(const Tensor& y, const Tensor& dy) {
    const auto& last = y.gradient_node();
    SINOPIA_CHECK(last, InvalidArgument, "[backward] {} was made of nothing whose gradient is wanted",
                  describe(y));
    Tensor first = dy;
    if (first) {
      SINOPIA_CHECK(dy.shape() == y.shape(), InvalidArgument, "[backward] expected dy={}, got {}",
                    to_string(y.shape()), to_string(dy.shape()));
    } else {
      SINOPIA_CHECK(y.numel() == 1, InvalidArgument, "[backward] {} is no scalar: give its gradient",
                    describe(y));
      first = empty_like(y);
      kernels(y.device()).fill(first, 1);
    }
    // The latest op first: everything that was made of its result has been gone through.
    std::map<uint64_t, std::shared_ptr<GradientNode>, std::greater<>> waiting{{last->number(), last}};
    last->accumulate(last->edge_to(y).begin, first);
    while (!waiting.empty()) {
      const auto node = waiting.extract(waiting.begin()).mapped();
      if (node->is_leaf()) continue;
      SINOPIA_CHECK(node->backward_, InvalidArgument,
                    "[backward] '{}' was gone through before: record the forward pass again", node->name());
      const auto step = std::exchange(node->backward_, nullptr);
      const auto inputs = std::exchange(node->inputs_, {});
      const Tensor gradient = std::exchange(node->gradient_, {});
      go_back(*node, step, inputs, gradient);
      for (const auto& input : inputs) {
        if (input.node) waiting.emplace(input.node->number(), input.node);
      }
    }
  }

 private:
  static void go_back(const GradientNode& node, const GradientNode::Backward& step,
                      const std::vector<GradientNode::Edge>& inputs, const Tensor& dy) {
    Wanted wanted;
    for (const auto& input : inputs) wanted.push_back(input.node != nullptr);
    const Gradients gradients = step(dy, wanted);
    SINOPIA_CHECK(gradients.size() == inputs.size(), InvalidArgument,
                  "[backward] '{}' has {} inputs, but gave {} gradients", node.name(), inputs.size(),
                  gradients.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].node || !gradients[i]) continue;
      SINOPIA_CHECK(gradients[i].numel() == inputs[i].count, InvalidArgument,
                    "[backward] '{}' gave {} for an input of {} elements", node.name(),
                    describe(gradients[i]), inputs[i].count);
      inputs[i].node->accumulate(inputs[i].begin, gradients[i]);
    }
  }
};

namespace detail {

Tensor record(std::string_view name, Tensor y, std::span<const Tensor* const> inputs,
              GradientNode::Backward backward) {
  if (std::ranges::none_of(inputs, [](const Tensor* x) { return wants_gradient(*x); })) return y;
  ++recorded;
  y.set_gradient_node(Tape::make_op(name, y, inputs, std::move(backward)));
  return y;
}

}  // namespace detail

Tensor make_leaf(const Tensor& x) {
  const bool half = x && !x.device().is_cpu() && (x.dtype() == DType::F16 || x.dtype() == DType::BF16);
  SINOPIA_CHECK(x && (half || x.dtype() == DType::F32), InvalidArgument,
                "[gradient] expected f32 for a leaf, got {}", describe(x));
  Tensor leaf = x;
  leaf.set_gradient_node(std::make_shared<GradientNode>("leaf", x));
  return leaf;
}

Tensor without_gradient(const Tensor& x) {
  Tensor result = x;
  result.set_gradient_node(nullptr);
  return result;
}

Tensor gradient_of(const Tensor& leaf) { return Tape::gradient(leaf_of(leaf)); }
void clear_gradient(const Tensor& leaf) { Tape::clear(leaf_of(leaf)); }

void backward(const Tensor& y, const Tensor& dy) {
  const RecordGradients off(false);
  Tape::run(y, dy);
}

int64_t recorded_ops() { return recorded; }

Tensor checkpointed(const std::function<Tensor(const std::vector<Tensor>&)>& body,
                    std::vector<Tensor> inputs) {
  if (!recording_gradients()) return body(inputs);
  Tensor y;
  {
    const RecordGradients off(false);
    y = without_gradient(body(inputs));
  }
  // Leaves inside of the body are not seen from here: a leaf of its own keeps the op on the tape.
  std::vector<const Tensor*> places;
  for (const Tensor& x : inputs) places.push_back(&x);
  const Tensor reason = make_leaf(Tensor::empty({0}));
  places.push_back(&reason);
  const auto again = [body, inputs](const Tensor& dy, const Wanted& wanted) {
    std::vector<Tensor> fresh;
    for (size_t i = 0; i < inputs.size(); ++i)
      fresh.push_back(wanted[i] ? make_leaf(inputs[i]) : without_gradient(inputs[i]));
    {
      const RecordGradients on;
      const Tensor result = body(fresh);
      if (wants_gradient(result)) backward(result, dy);
    }
    Gradients gradients;
    for (size_t i = 0; i < fresh.size(); ++i)
      gradients.push_back(wanted[i] ? gradient_of(fresh[i]) : Tensor());
    gradients.emplace_back();
    return gradients;
  };
  return detail::record("checkpoint", y, places, again);
}

}  // namespace sinopia
