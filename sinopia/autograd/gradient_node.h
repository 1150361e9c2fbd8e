#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// The gradients of an op's inputs, in their order; absent where none is wanted or none flows.
using Gradients = std::vector<Tensor>;

/// Which inputs of an op want a gradient.
using Wanted = std::vector<bool>;

/// What the tape knows about a tensor: the op that made it, or that it is a leaf whose gradient is asked for.
/// Tensors point to it; every view of a tensor (reshape, slice) points to the same one, and is told apart by
/// where its elements lie, for a view is always an unbroken run of them.
class GradientNode {
 public:
  /// Where an input's elements lie in its node's: `count` from `begin` on.
  struct Edge {
    std::shared_ptr<GradientNode> node;  ///< null: no gradient wanted
    int64_t begin, count;
  };
  using Backward = std::function<Gradients(const Tensor& dy, const Wanted& wanted)>;

  GradientNode(std::string name, const Tensor& value);
  /// Lets go of a chain of any length without recursion.
  ~GradientNode();
  GradientNode(const GradientNode&) = delete;
  GradientNode& operator=(const GradientNode&) = delete;

  /// Adds `gradient`, of the elements that start at `begin`, to what has come so far, in the value's type.
  void accumulate(int64_t begin, const Tensor& gradient);
  Edge edge_to(const Tensor& view);

  const std::string& name() const { return name_; }
  /// Ascending in the order in which nodes were made.
  uint64_t number() const { return number_; }
  const Shape& shape() const { return shape_; }
  bool is_leaf() const { return leaf_; }

 private:
  friend class Tape;

  std::string name_;
  uint64_t number_;
  Shape shape_;
  DType dtype_;
  size_t byte_offset_;
  bool leaf_ = true;
  std::vector<Edge> inputs_;
  Backward backward_;  // of an op; taken away when it has run
  Tensor gradient_;
  bool owns_gradient_ = false;  // no one else has seen its elements
};

}  // namespace sinopia
