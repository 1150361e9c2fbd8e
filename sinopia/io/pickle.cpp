#include "sinopia/io/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <unordered_map>

#include "sinopia/base/error.h"
#include "sinopia/io/unicode.h"

namespace sinopia::pickle {
namespace {

constexpr size_t kBaseBudget = size_t{20} << 20;
constexpr size_t kMaxStack = size_t{1} << 20;
constexpr size_t kMaxMarks = 100'000;

struct StorageType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<StorageType, 10> kStorageTypes = {{{"torch.FloatStorage", DType::F32},
                                                        {"torch.HalfStorage", DType::F16},
                                                        {"torch.BFloat16Storage", DType::BF16},
                                                        {"torch.DoubleStorage", DType::F64},
                                                        {"torch.IntStorage", DType::I32},
                                                        {"torch.LongStorage", DType::I64},
                                                        {"torch.ShortStorage", DType::I16},
                                                        {"torch.CharStorage", DType::I8},
                                                        {"torch.ByteStorage", DType::U8},
                                                        {"torch.BoolStorage", DType::Bool}}};

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::array<std::string_view, 7> kInertGlobals = {
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint"};

// The literal that equals `name`, which outlives any buffer; empty if the global is not allowed.
std::string_view allowed_global(std::string_view name) {
  for (const std::string_view known : {kOrderedDict, kRebuildTensor, kRebuildParameter}) {
    if (name == known) return known;
  }
  for (const std::string_view known : kInertGlobals) {
    if (name == known) return known;
  }
  for (const StorageType& type : kStorageTypes) {
    if (name == type.name) return type.name;
  }
  return {};
}

std::string printable(std::string_view text) {
  std::string result(text.substr(0, 120));
  std::ranges::replace_if(
      result, [](char c) { return c < 32 || c > 126; }, '?');
  return result;
}

class Machine {
 public:
  Machine(std::string_view bytes, std::string_view name)
      : bytes_(bytes), name_(name), budget_(kBaseBudget + bytes.size() / 2) {}

  Document run() {
    while (step()) {
    }
    return std::move(document_);
  }

 private:
  using Kind = Node::Kind;

  template <class... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::Corrupt, "[pickle] {}: {} at byte {}", name_,
         fmt::format(format, std::forward<Args>(args)...), at_);
  }
  template <class... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::Unsupported, "[pickle] {}: {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

  // --- The bytes
  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) corrupt("expected {} more bytes", count);
    const std::string_view part = bytes_.substr(at_, count);
    at_ += count;
    return part;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) corrupt("a line without its end");
    const std::string_view text = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return text;
  }

  // --- Memory and the stack
  void charge(size_t bytes) {
    if (bytes > budget_) corrupt("a structure that takes too much memory");
    budget_ -= bytes;
  }
  Node& make(Kind kind) {
    charge(sizeof(Node));
    Node& node = document_.nodes.emplace_back();
    node.kind = kind;
    return node;
  }
  static Value value_of(Node& node) {
    Value value;
    value.kind = Value::Kind::Node;
    value.node = &node;
    return value;
  }
  void push(Value value) {
    if (stack_.size() >= kMaxStack) corrupt("a stack of {} values", stack_.size());
    stack_.push_back(value);
  }
  void push(Node& node) { push(value_of(node)); }
  void push_integer(int64_t integer, Value::Kind kind = Value::Kind::Integer) {
    Value value;
    value.kind = kind;
    value.integer = integer;
    push(value);
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Value& top() {
    if (stack_.size() <= floor()) corrupt("nothing on the stack");
    return stack_.back();
  }
  Value pop() {
    const Value value = top();
    stack_.pop_back();
    return value;
  }
  std::vector<Value> pop_mark() {
    if (marks_.empty()) corrupt("no mark on the stack");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    charge(static_cast<size_t>(stack_.end() - begin) * sizeof(Value));
    std::vector<Value> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(size_t count) {
    Node& tuple = make(Kind::Tuple);
    charge(count * sizeof(Value));
    tuple.items.resize(count);
    for (size_t i = count; i-- > 0;) tuple.items[i] = pop();
    push(tuple);
  }

  static Node* as(const Value& value, Kind kind) {
    return value.kind == Value::Kind::Node && value.node->kind == kind ? value.node : nullptr;
  }
  Node& expect(const Value& value, Kind kind, const char* what) const {
    Node* node = as(value, kind);
    if (!node) corrupt("expected {}", what);
    return *node;
  }
  int64_t expect_count(const Value& value, const char* what) const {
    if (value.kind != Value::Kind::Integer || value.integer < 0)
      corrupt("expected {} as a number from 0", what);
    return value.integer;
  }

  // --- Opcodes
  bool step() {
    switch (const char opcode = take(1)[0]; opcode) {
      case '\x80':
        take(1);
        return true;  // PROTO
      case '.':
        document_.root = pop();
        return false;  // STOP
      case '(':
        mark();
        return true;  // MARK
      case 'N':
        push(Value{});
        return true;  // NONE
      case '\x88':
        push_integer(1, Value::Kind::Bool);
        return true;  // NEWTRUE
      case '\x89':
        push_integer(0, Value::Kind::Bool);
        return true;  // NEWFALSE
      case 'J':
        push_integer(number<int32_t>());
        return true;  // BININT
      case 'K':
        push_integer(number<uint8_t>());
        return true;  // BININT1
      case 'M':
        push_integer(number<uint16_t>());
        return true;  // BININT2
      case '\x8a':
        push_long(take(number<uint8_t>()));
        return true;  // LONG1
      case 'G':
        push_float();
        return true;  // BINFLOAT
      case 'X':
        push_text(Kind::Text, take(number<uint32_t>()));
        return true;  // BINUNICODE
      case 'U':
        push_text(Kind::Bytes, take(number<uint8_t>()));
        return true;  // SHORT_BINSTRING
      case ')':
        push_tuple(0);
        return true;  // EMPTY_TUPLE
      case '\x85':
        push_tuple(1);
        return true;  // TUPLE1
      case '\x86':
        push_tuple(2);
        return true;  // TUPLE2
      case '\x87':
        push_tuple(3);
        return true;  // TUPLE3
      case 't':
        tuple_from_mark();
        return true;  // TUPLE
      case ']':
        push(make(Kind::List));
        return true;  // EMPTY_LIST
      case '}':
        push(make(Kind::Dict));
        return true;  // EMPTY_DICT
      case '\x8f':
        push(make(Kind::Set));
        return true;  // EMPTY_SET
      case 'a':
        append({pop()});
        return true;  // APPEND
      case 'e':
        append(pop_mark());
        return true;  // APPENDS
      case 's':
        set_item();
        return true;  // SETITEM
      case 'u':
        set_items(pop_mark());
        return true;  // SETITEMS
      case 'q':
        put(number<uint8_t>());
        return true;  // BINPUT
      case 'r':
        put(number<uint32_t>());
        return true;  // LONG_BINPUT
      case 'h':
        get(number<uint8_t>());
        return true;  // BINGET
      case 'j':
        get(number<uint32_t>());
        return true;  // LONG_BINGET
      case 'c':
        global();
        return true;  // GLOBAL
      case 'Q':
        persistent_id();
        return true;  // BINPERSID
      case 'R':
        reduce();
        return true;  // REDUCE
      case '\x81':
        new_object();
        return true;  // NEWOBJ
      case 'b':
        build();
        return true;  // BUILD
      default:
        unsupported("opcode 0x{:02x} at byte {} is not one that checkpoints need",
                    static_cast<uint8_t>(opcode), at_ - 1);
    }
  }

  void mark() {
    if (marks_.size() >= kMaxMarks) corrupt("more than {} nested marks", marks_.size());
    marks_.push_back(stack_.size());
  }

  void push_long(std::string_view digits) {
    if (digits.size() > 8) return push(make(Kind::Inert));
    uint64_t value = !digits.empty() && static_cast<int8_t>(digits.back()) < 0 ? ~uint64_t{0} : 0;
    for (size_t i = digits.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(digits[i]);
    push_integer(static_cast<int64_t>(value));
  }

  void push_float() {
    Value value;
    value.kind = Value::Kind::Float;
    value.number = std::bit_cast<double>(__builtin_bswap64(number<uint64_t>()));
    push(value);
  }

  void push_text(Kind kind, std::string_view text) {
    Node& node = make(kind);
    node.text = text;
    push(node);
  }

  void tuple_from_mark() {
    std::vector<Value> items = pop_mark();
    Node& tuple = make(Kind::Tuple);
    tuple.items = std::move(items);
    push(tuple);
  }

  void append(const std::vector<Value>& items) {
    Node& list = expect(top(), Kind::List, "a list to append to");
    charge(items.size() * sizeof(Value));
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void set_item() {
    const Value value = pop(), key = pop();
    set_items({key, value});
  }

  void set_items(const std::vector<Value>& items) {
    if (items.size() % 2) corrupt("a key without its value");
    Node& dict = expect(top(), Kind::Dict, "a dictionary to set items of");
    charge(items.size() * 2 * sizeof(Value));
    dict.items.insert(dict.items.end(), items.begin(), items.end());
  }

  void put(uint32_t place) {
    constexpr size_t kSlotBytes = 48;
    if (memo_.insert_or_assign(place, top()).second) charge(kSlotBytes);
  }

  void get(uint32_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) corrupt("memo {} was never set", place);
    push(found->second);
  }

  void global() {
    const std::string_view module = line(), attribute = line();
    if (module.size() + attribute.size() > 1000) corrupt("a global with a name of {} bytes", module.size());
    const std::string full = fmt::format("{}.{}", module, attribute);
    const std::string_view known = allowed_global(full);
    if (known.empty()) unsupported("the file refers to '{}', which is not allowed", printable(full));
    Node& node = make(Kind::Global);
    node.text = known;
    push(node);
  }

  static bool is_text(const Value& value, std::string_view text) {
    return value.kind == Value::Kind::Node &&
           (value.node->kind == Kind::Text || value.node->kind == Kind::Bytes) && value.node->text == text;
  }

  // ('storage', type, key, device, count)
  void persistent_id() {
    const Value id = pop();
    const Node& tuple = expect(id, Kind::Tuple, "a tuple as persistent id");
    if (tuple.items.size() != 5 || !is_text(tuple.items[0], "storage"))
      corrupt("a persistent id that is no storage");
    const Node& type = expect(tuple.items[1], Kind::Global, "a storage type");
    const auto* found = std::ranges::find(kStorageTypes, type.text, &StorageType::name);
    if (found == kStorageTypes.end()) corrupt("'{}' is no storage type", type.text);
    Node& storage = make(Kind::Storage);
    storage.dtype = found->dtype;
    storage.text = expect(tuple.items[2], Kind::Text, "a record name").text;
    storage.count = expect_count(tuple.items[4], "the size of a storage");
    push(storage);
  }

  void reduce() {
    const Value arguments = pop();
    const Node& tuple = expect(arguments, Kind::Tuple, "arguments in a tuple");
    const Value callee = pop();
    const Node* function = as(callee, Kind::Global);
    if (!function) unsupported("a call of something that is no function, at byte {}", at_);
    if (function->text == kOrderedDict) {
      push_ordered_dict(tuple);
    } else if (function->text == kRebuildTensor) {
      push_tensor(tuple);
    } else if (function->text == kRebuildParameter) {
      if (tuple.items.size() < 2) corrupt("a parameter without its tensor");
      expect(tuple.items[0], Kind::Tensor, "a tensor in a parameter");
      push(tuple.items[0]);
    } else if (std::ranges::find(kInertGlobals, function->text) != kInertGlobals.end()) {
      push(make(Kind::Inert));
    } else {
      unsupported("a call of '{}'", function->text);
    }
  }

  // OrderedDict() or, as Python 2 wrote it, OrderedDict([[key, value], ..]).
  void push_ordered_dict(const Node& arguments) {
    Node& dict = make(Kind::Dict);
    if (arguments.items.size() > 1) corrupt("an OrderedDict of {} arguments", arguments.items.size());
    if (arguments.items.size() == 1) {
      for (const Value& pair : expect(arguments.items[0], Kind::List, "pairs in an OrderedDict").items) {
        const bool fits = pair.kind == Value::Kind::Node &&
                          (pair.node->kind == Kind::List || pair.node->kind == Kind::Tuple) &&
                          pair.node->items.size() == 2;
        if (!fits) corrupt("expected pairs in an OrderedDict");
        charge(4 * sizeof(Value));
        dict.items.insert(dict.items.end(), pair.node->items.begin(), pair.node->items.end());
      }
    }
    push(dict);
  }

  // (storage, offset, size, stride, requires_grad, backward_hooks[, metadata])
  void push_tensor(const Node& arguments) {
    if (arguments.items.size() < 6 || arguments.items.size() > 7)
      corrupt("expected 6 arguments for a tensor, got {}", arguments.items.size());
    const Node& sizes = expect(arguments.items[2], Kind::Tuple, "a tuple of sizes");
    const Node& strides = expect(arguments.items[3], Kind::Tuple, "a tuple of strides");
    if (sizes.items.size() != strides.items.size())
      corrupt("a tensor of {} sizes and {} strides", sizes.items.size(), strides.items.size());
    Node& tensor = make(Kind::Tensor);
    charge(sizes.items.size() * 2 * sizeof(int64_t) + sizeof(Value));
    expect(arguments.items[0], Kind::Storage, "a storage");
    tensor.items = {arguments.items[0]};
    tensor.offset = expect_count(arguments.items[1], "an offset");
    for (const Value& size : sizes.items) tensor.sizes.push_back(expect_count(size, "a size"));
    for (const Value& stride : strides.items) tensor.strides.push_back(expect_count(stride, "a stride"));
    push(tensor);
  }

  void new_object() {
    const Value arguments = pop(), type = pop();
    expect(arguments, Kind::Tuple, "arguments in a tuple");
    const Node* global_node = as(type, Kind::Global);
    if (!global_node) unsupported("a new object of something that is no type, at byte {}", at_);
    if (global_node->text == kOrderedDict) return push(make(Kind::Dict));
    if (std::ranges::find(kInertGlobals, global_node->text) == kInertGlobals.end())
      unsupported("a new object of '{}'", global_node->text);
    push(make(Kind::Inert));
  }

  // State of an OrderedDict (PyTorch's _metadata) or of an inert object means nothing here.
  void build() {
    pop();
    const Value object = top();
    if (!as(object, Kind::Dict) && !as(object, Kind::Inert))
      unsupported("state for something that takes none, at byte {}", at_);
  }

  std::string_view bytes_;
  std::string_view name_;
  size_t budget_;
  size_t at_ = 0;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, Value> memo_;
  Document document_;
};

}  // namespace

Document parse(std::string_view bytes, std::string_view name) { return Machine(bytes, name).run(); }

}  // namespace sinopia::pickle
