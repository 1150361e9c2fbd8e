#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <vector>

#include "sinopia/tensor/dtype.h"

namespace sinopia::pickle {

struct Node;

/// A value of a pickle. Numbers are held here, the rest in a node that belongs to the Document.
struct Value {
  enum class Kind : uint8_t { None, Bool, Integer, Float, Node };
  Kind kind = Kind::None;
  union {
    int64_t integer = 0;  ///< also of Bool
    double number;
    Node* node;
  };
};

/// A text, container or object. What an object of Python would do is not done: it is a name and its parts.
struct Node {
  enum class Kind : uint8_t {
    Text,     ///< text, a view of the pickle
    Bytes,    ///< the same, of any bytes
    Tuple,    ///< items
    List,     ///< items
    Dict,     ///< items: key, value, key, value, ... as they were set, so that of equal keys the last counts
    Set,      ///< inert
    Global,   ///< text: the qualified name, one of those that are allowed
    Storage,  ///< dtype, text: the record's key, count: elements
    Tensor,   ///< items: [storage], offset and stride in elements
    Inert,    ///< an object without a meaning here
  };
  Kind kind = Kind::Inert;
  DType dtype = DType::F32;
  std::string_view text;
  std::vector<Value> items;
  int64_t count = 0;
  int64_t offset = 0;
  std::vector<int64_t> sizes, strides;
};

/// What a pickle holds. Nodes may refer to each other in circles. The pickle's bytes must outlive it.
struct Document {
  std::deque<Node> nodes;
  Value root;
};

/// Reads a pickle as PyTorch's weights_only loader does (torch/_weights_only_unpickler.py): the same opcodes,
/// and of globals only those that checkpoints need: OrderedDict, _rebuild_tensor_v2, _rebuild_parameter and
/// the typed storages; numpy's scalar and dtype, _codecs.encode and Lightning's ModelCheckpoint become inert.
/// Nothing is ever executed. Throws Unsupported naming any other global, opcode or call, Corrupt for a pickle
/// that breaks the format, and for one that takes more than 20 MiB plus half its own size of memory.
Document parse(std::string_view bytes, std::string_view name);

}  // namespace sinopia::pickle
