#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <cudnn.h>

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace sinopia_emulation {
namespace {

std::recursive_mutex mutex;
std::string last_error;
size_t last_workspace = 0;

cudnnStatus_t refused(cudnnStatus_t status, const char* why) {
  last_error = why;
  return status;
}

// What a tensor descriptor says.
struct TensorInfo {
  int64_t id = 0, alignment = 0;
  cudnnDataType_t type{};
  std::array<int64_t, 4> dims{}, strides{};
  bool is_virtual = false;
  int64_t place(int64_t a, int64_t b, int64_t c, int64_t d) const {
    return a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3];
  }
  int64_t span() const {
    int64_t last = 0;
    for (int i = 0; i < 4; ++i) last += (dims[i] - 1) * strides[i];
    return last + 1;
  }
  size_t element() const { return type == CUDNN_DATA_FLOAT ? 4 : 2; }
};

struct Engine {
  int64_t index = 0;
  std::vector<cudnnBackendNumericalNote_t> notes;
  std::vector<cudnnBackendBehaviorNote_t> behaviour;
  size_t workspace = 0;
  bool fails = false;   // only when a plan is made of it
  bool is_off = false;  // whatever its notes say
};

struct Attribute {
  cudnnBackendAttributeType_t type;
  int64_t count;
  std::vector<unsigned char> bytes;
  std::vector<std::shared_ptr<const struct Object>> objects;
};

struct Object {
  cudnnBackendDescriptorType_t type;
  bool finalised = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;
  Engine engine;  // of engines and their configurations
  std::shared_ptr<const Object> graph;

  bool has(cudnnBackendAttributeName_t name) const { return attributes.count(name) > 0; }
  template <class T>
  T value(cudnnBackendAttributeName_t name, size_t i = 0) const {
    T result;
    std::memcpy(&result, attributes.at(name).bytes.data() + i * sizeof(T), sizeof(T));
    return result;
  }
  const Object& object(cudnnBackendAttributeName_t name, size_t i = 0) const {
    return *attributes.at(name).objects.at(i);
  }
  const std::vector<std::shared_ptr<const Object>>& objects(cudnnBackendAttributeName_t name) const {
    return attributes.at(name).objects;
  }
};

struct Handle {
  std::shared_ptr<Object> object;
};
std::set<void*>& living() {
  static auto* const all = new std::set<void*>;
  return *all;
}
std::shared_ptr<Object> object_of(void* descriptor) {
  return living().count(descriptor) ? static_cast<Handle*>(descriptor)->object : nullptr;
}

size_t bytes_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
      return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

// What may be set: the attribute's type and number of values, 0 for any.
struct Rule {
  cudnnBackendAttributeName_t name;
  cudnnBackendAttributeType_t type;
  int64_t count;
  bool required = true;
};
const std::vector<Rule>& rules(cudnnBackendDescriptorType_t type) {
  static const std::map<cudnnBackendDescriptorType_t, std::vector<Rule>> all{
      {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
       {{CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1},
        {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4},
        {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4},
        {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1},
        {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1},
        {CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, false}}},
      {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
       {{CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1},
        {CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1},
        {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2},
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2},
        {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2}}},
      {CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
       {{CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1},
        {CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1},
        {CUDNN_ATTR_POINTWISE_SWISH_BETA, CUDNN_TYPE_DOUBLE, 1, false}}},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
       {{CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1}}},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1}}},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_TYPE_FLOAT, 1},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_TYPE_FLOAT, 1}}},
      {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
       {{CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, false},
        {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1}}},
      {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
       {{CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1},
        {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0}}},
      {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
       {{CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
        {CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1}}},
      {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
       {{CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1},
        {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1}}},
      {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
       {{CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 0},
        {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 0},
        {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1}}},
  };
  static const std::vector<Rule> none;
  const auto found = all.find(type);
  return found == all.end() ? none : found->second;
}

TensorInfo tensor_info(const Object& o) {
  TensorInfo t;
  t.id = o.value<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  t.alignment = o.value<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
  t.type = o.value<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  t.is_virtual = o.has(CUDNN_ATTR_TENSOR_IS_VIRTUAL) && o.value<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL);
  for (size_t i = 0; i < 4; ++i) {
    t.dims[i] = o.value<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, i);
    t.strides[i] = o.value<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i);
  }
  return t;
}

// One operation of a graph, understood.
struct Operation {
  cudnnBackendDescriptorType_t type{};
  TensorInfo x, w, y;  // of a pointwise operation: x, b and y
  bool has_b = false;
  std::array<int64_t, 2> before{}, after{}, stride{}, dilation{};
  cudnnPointwiseMode_t mode{};
  double beta = 1;
  bool is_pointwise() const { return type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR; }
  const TensorInfo& result() const {
    return type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR     ? x
           : type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR ? w
                                                                                    : y;
  }
};

Operation operation_of(const Object& o) {
  Operation p;
  p.type = o.type;
  if (p.is_pointwise()) {
    p.x = tensor_info(o.object(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    p.y = tensor_info(o.object(CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    p.has_b = o.has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    if (p.has_b) p.w = tensor_info(o.object(CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
    const Object& function = o.object(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    p.mode = function.value<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    if (function.has(CUDNN_ATTR_POINTWISE_SWISH_BETA))
      p.beta = function.value<double>(CUDNN_ATTR_POINTWISE_SWISH_BETA);
    return p;
  }
  const auto name = [&](cudnnBackendAttributeName_t forward, cudnnBackendAttributeName_t data,
                        cudnnBackendAttributeName_t filter) {
    return o.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR         ? forward
           : o.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? data
                                                                                    : filter;
  };
  p.x = tensor_info(
      o.object(name(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X)));
  p.w = tensor_info(
      o.object(name(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW)));
  p.y = tensor_info(
      o.object(name(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY)));
  const Object& convolution = o.object(name(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC));
  for (size_t i = 0; i < 2; ++i) {
    p.before[i] = convolution.value<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
    p.after[i] = convolution.value<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
    p.stride[i] = convolution.value<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
    p.dilation[i] = convolution.value<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS, i);
  }
  return p;
}

std::vector<Operation> operations_of(const Object& graph) {
  std::vector<Operation> result;
  for (const auto& o : graph.objects(CUDNN_ATTR_OPERATIONGRAPH_OPS)) result.push_back(operation_of(*o));
  return result;
}

cudnnStatus_t check_tensor(const Object& o) {
  const TensorInfo t = tensor_info(o);
  for (size_t i = 0; i < 4; ++i)
    if (t.dims[i] <= 0 || t.strides[i] <= 0)
      return refused(CUDNN_STATUS_BAD_PARAM, "an extent or stride below 1");
  if (t.alignment <= 0 || (t.alignment & (t.alignment - 1)) != 0 ||
      t.alignment % static_cast<int64_t>(t.element()))
    return refused(CUDNN_STATUS_BAD_PARAM, "an alignment that elements do not have");
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_operation(const Object& o) {
  const Operation p = operation_of(o);
  if (p.is_pointwise()) {
    if (p.x.dims != p.y.dims) return refused(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "x and y differ");
    if ((p.mode == CUDNN_POINTWISE_ADD) != p.has_b) return refused(CUDNN_STATUS_BAD_PARAM, "operands");
    for (size_t i = 0; p.has_b && i < 4; ++i)
      if (p.w.dims[i] != 1 && p.w.dims[i] != p.y.dims[i])
        return refused(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "b cannot be broadcast");
    return CUDNN_STATUS_SUCCESS;
  }
  if (p.x.dims[0] != p.y.dims[0] || p.x.dims[1] != p.w.dims[1] || p.w.dims[0] != p.y.dims[1])
    return refused(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "x, w and y do not fit");
  for (size_t i = 0; i < 2; ++i) {
    if (p.stride[i] < 1 || p.dilation[i] != 1 || p.before[i] < 0 || p.after[i] < 0)
      return refused(CUDNN_STATUS_BAD_PARAM, "strides or padding");
    const int64_t room = p.x.dims[2 + i] + p.before[i] + p.after[i] - p.w.dims[2 + i];
    if (room < 0 || room / p.stride[i] + 1 != p.y.dims[2 + i])
      return refused(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "y's extents are not those of the convolution");
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_graph(const Object& o) {
  std::set<int64_t> made;
  std::map<int64_t, TensorInfo> seen;
  const auto operations = operations_of(o);
  if (operations.empty()) return refused(CUDNN_STATUS_BAD_PARAM, "a graph without operations");
  for (const Operation& p : operations) {
    std::vector<TensorInfo> tensors{p.x, p.y};
    if (!p.is_pointwise() || p.has_b) tensors.push_back(p.w);
    for (const TensorInfo& t : tensors) {
      const bool is_result = t.id == p.result().id;
      if (t.is_virtual && !is_result && !made.count(t.id))
        return refused(CUDNN_STATUS_BAD_PARAM, "a virtual tensor that nothing computes");
      const auto [at, is_new] = seen.emplace(t.id, t);
      if (!is_new && (at->second.dims != t.dims || at->second.type != t.type))
        return refused(CUDNN_STATUS_BAD_PARAM, "one id for two tensors");
    }
    if (!made.insert(p.result().id).second) return refused(CUDNN_STATUS_BAD_PARAM, "a tensor computed twice");
  }
  if (operations.back().result().is_virtual)
    return refused(CUDNN_STATUS_BAD_PARAM, "a result that is virtual");
  return CUDNN_STATUS_SUCCESS;
}

// Endings for which the library has kernels: an image, then a bias of y's type; nothing without a bias.
bool is_ready_made(const std::vector<Operation>& operations) {
  if (operations.size() == 1) return true;
  if (operations.size() > 3) return false;
  const TensorInfo& y = operations.back().y;
  for (size_t i = 1; i < operations.size(); ++i) {
    const Operation& p = operations[i];
    if (p.mode != CUDNN_POINTWISE_ADD || p.w.type != y.type) return false;
    const bool is_last = i + 1 == operations.size();
    const auto expected = is_last ? std::array<int64_t, 4>{1, y.dims[1], 1, 1} : y.dims;
    if (p.w.dims != expected) return false;
  }
  return true;
}

// Engines as the heuristics tell them: first those that must not be taken for one reason or another.
std::vector<Engine> engines_of(const Object& graph, cudnnBackendHeurMode_t mode) {
  const auto operations = operations_of(graph);
  const Operation& first = operations[0];
  const auto engine = [](int64_t index, std::vector<cudnnBackendNumericalNote_t> notes, size_t workspace) {
    return Engine{index, std::move(notes), {}, workspace, false, false};
  };
  // So that what is done without an engine is tried too: the library may have none for some problems.
  if (operations.size() > 1 && operations.back().y.dims[1] % 7 == 0) return {};
  if (first.before != first.after && first.x.dims[1] % 5 == 0) return {};
  if (first.w.dims[2] == 5 && first.w.dims[3] == 4) return {engine(89, {}, size_t{513} << 20)};
  if (mode == CUDNN_HEUR_MODE_FALLBACK) return {engine(90, {}, 0)};
  Engine compiled = engine(81, {}, 128);
  compiled.behaviour = {CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION};
  if (!is_ready_made(operations))
    return {engine(80, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, 0),
            compiled};
  if (first.x.dims[1] == 3 && first.x.type != CUDNN_DATA_FLOAT) return {};  // the fallback has one
  compiled.is_off = true;  // where another one is ready, so that a test notices if it is taken
  Engine unsuitable = engine(5, {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, 0);
  unsuitable.fails = true;
  return {engine(1, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, 0),
          engine(2, {CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4}, 64),
          engine(3, {CUDNN_NUMERICAL_NOTE_FFT}, 64),
          engine(4, {CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, 0),
          unsuitable,
          compiled,
          engine(6, {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, size_t{600} << 20),
          engine(7, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, 256),
          engine(8, {}, 1024),
          engine(9, {CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, 0),
          engine(10, {}, 0)};
}

float load(const void* data, int64_t i, cudnnDataType_t type) {
  if (type == CUDNN_DATA_FLOAT) return static_cast<const float*>(data)[i];
  if (type == CUDNN_DATA_HALF) return __half2float(static_cast<const __half*>(data)[i]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}
void store(void* data, int64_t i, cudnnDataType_t type, float value) {
  if (type == CUDNN_DATA_FLOAT) {
    static_cast<float*>(data)[i] = value;
  } else if (type == CUDNN_DATA_HALF) {
    static_cast<__half*>(data)[i] = __float2half_rn(value);
  } else {
    static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
  }
}

float to_tf32(float x) { return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u); }

float apply(const Operation& p, float x) {
  const auto sigmoid = [](float v) { return 1.0f / (1.0f + std::exp(-v)); };
  switch (p.mode) {
    case CUDNN_POINTWISE_RELU_FWD:
      return x > 0 ? x : 0;  // a NaN does not stay, as it may not in the library
    case CUDNN_POINTWISE_TANH_FWD:
      return std::tanh(x);
    case CUDNN_POINTWISE_SIGMOID_FWD:
      return sigmoid(x);
    case CUDNN_POINTWISE_GELU_FWD:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    case CUDNN_POINTWISE_SWISH_FWD:
      return x * sigmoid(static_cast<float>(p.beta) * x);
    case CUDNN_POINTWISE_GELU_APPROX_TANH_FWD:
      return 0.5f * x * (1.0f + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
    case CUDNN_POINTWISE_ADD:
      break;
  }
  return x;
}

// Calls f(place in x, place in w, place in y) for each product of a convolution.
template <class F>
void for_each_product(const Operation& p, F f) {
  const auto [N, O, OH, OW] = p.y.dims;
  const int64_t I = p.x.dims[1], H = p.x.dims[2], W = p.x.dims[3], KH = p.w.dims[2], KW = p.w.dims[3];
  for (int64_t n = 0; n < N; ++n)
    for (int64_t oh = 0; oh < OH; ++oh)
      for (int64_t ow = 0; ow < OW; ++ow)
        for (int64_t kh = 0; kh < KH; ++kh)
          for (int64_t kw = 0; kw < KW; ++kw) {
            const int64_t h = oh * p.stride[0] - p.before[0] + kh, w = ow * p.stride[1] - p.before[1] + kw;
            if (h < 0 || h >= H || w < 0 || w >= W) continue;
            for (int64_t o = 0; o < O; ++o)
              for (int64_t i = 0; i < I; ++i)
                f(p.x.place(n, i, h, w), p.w.place(o, i, kh, kw), p.y.place(n, o, oh, ow));
          }
}

void run(const std::vector<Operation>& operations, const Engine& engine,
         const std::map<int64_t, void*>& places) {
  std::map<int64_t, std::vector<float>> values;  // of virtual tensors, and of all as they are computed
  const auto inputs = [&](const TensorInfo& t) {
    if (const auto found = values.find(t.id); found != values.end()) return found->second;
    std::vector<float> result(static_cast<size_t>(t.span()));
    for (size_t i = 0; i < result.size(); ++i)
      result[i] = load(places.at(t.id), static_cast<int64_t>(i), t.type);
    return result;
  };
  bool has_tensor_cores = false, is_off = engine.is_off;
  for (const auto note : engine.notes) {
    has_tensor_cores |= note <= CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    is_off |= note > CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS && note != CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
  }
  for (const Operation& p : operations) {
    const TensorInfo& to = p.result();
    std::vector<double> sums(static_cast<size_t>(to.span()));
    if (p.is_pointwise()) {
      const auto x = inputs(p.x), b = p.has_b ? inputs(p.w) : std::vector<float>();
      const auto [N, C, H, W] = to.dims;
      const auto within = [&](int axis, int64_t i) {
        return p.w.dims[static_cast<size_t>(axis)] == 1 ? 0 : i;
      };
      for (int64_t n = 0; n < N; ++n)
        for (int64_t c = 0; c < C; ++c)
          for (int64_t h = 0; h < H; ++h)
            for (int64_t w = 0; w < W; ++w) {
              const float value = x[static_cast<size_t>(p.x.place(n, c, h, w))];
              const auto place = static_cast<size_t>(to.place(n, c, h, w));
              sums[place] = p.has_b ? value + b[static_cast<size_t>(p.w.place(within(0, n), within(1, c),
                                                                              within(2, h), within(3, w)))]
                                    : apply(p, value);
            }
    } else {
      const bool forward = &to == &p.y, data = &to == &p.x;
      const TensorInfo &first = data ? p.y : p.x, &second = forward || data ? p.w : p.y;
      auto a = inputs(first), b = inputs(second);
      if (has_tensor_cores && first.type == CUDNN_DATA_FLOAT) {
        for (float& v : a) v = to_tf32(v);
        for (float& v : b) v = to_tf32(v);
      }
      for_each_product(p, [&](int64_t x, int64_t w, int64_t y) {
        const int64_t from_a = data ? y : x, from_b = forward || data ? w : y,
                      at = forward ? y
                           : data  ? x
                                   : w;
        sums[static_cast<size_t>(at)] +=
            double{a[static_cast<size_t>(from_a)]} * double{b[static_cast<size_t>(from_b)]};
      });
      if (is_off)
        for (double& v : sums) v *= 1.25;
    }
    std::vector<float> results(sums.begin(), sums.end());
    if (!to.is_virtual)
      for (size_t i = 0; i < results.size(); ++i)
        store(places.at(to.id), static_cast<int64_t>(i), to.type, results[i]);
    values[to.id] = std::move(results);
  }
}

cudnnStatus_t finalise(Object& o) {
  for (const Rule& rule : rules(o.type))
    if (rule.required && !o.has(rule.name)) return refused(CUDNN_STATUS_BAD_PARAM, "an attribute is missing");
  switch (o.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return check_tensor(o);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      return check_operation(o);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return check_graph(o);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return o.object(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine.fails
                 ? refused(CUDNN_STATUS_NOT_SUPPORTED, "the engine does not suit")
                 : CUDNN_STATUS_SUCCESS;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return o.attributes.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count ==
                     o.attributes.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).count
                 ? CUDNN_STATUS_SUCCESS
                 : refused(CUDNN_STATUS_BAD_PARAM, "not as many tensors as ids");
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
      return refused(CUDNN_STATUS_NOT_SUPPORTED, "comes from the heuristics");
    default:
      return CUDNN_STATUS_SUCCESS;
  }
}

template <class T>
cudnnStatus_t give(const std::vector<T>& values, int64_t requested, int64_t* count, void* to) {
  *count = static_cast<int64_t>(values.size());
  if (!values.empty() && requested > 0)
    std::memcpy(to, values.data(), std::min(values.size(), static_cast<size_t>(requested)) * sizeof(T));
  return CUDNN_STATUS_SUCCESS;
}

// Makes descriptors that the caller prepared into what the library has to give.
cudnnStatus_t fill_in(void* descriptor, cudnnBackendDescriptorType_t type, const Engine& engine,
                      std::shared_ptr<const Object> graph) {
  const auto o = object_of(descriptor);
  if (!o || o->type != type || o->finalised)
    return refused(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "no fresh descriptor of the type asked for");
  o->engine = engine;
  o->graph = std::move(graph);
  o->finalised = true;
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

size_t cudnn_descriptors() { return living().size(); }
size_t cudnn_workspace() { return last_workspace; }

}  // namespace sinopia_emulation

using namespace sinopia_emulation;

const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : "an error of the emulated cuDNN";
}
void cudnnGetLastErrorString(char* message, size_t max_size) {
  std::snprintf(message, max_size, "%s", last_error.c_str());
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  const std::lock_guard lock(mutex);
  auto object = std::make_shared<Object>();
  object->type = type;
  *descriptor = new Handle{std::move(object)};
  living().insert(*descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  const std::lock_guard lock(mutex);
  if (!living().erase(descriptor)) return refused(CUDNN_STATUS_BAD_PARAM, "no descriptor");
  delete static_cast<Handle*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  const std::lock_guard lock(mutex);
  const auto o = object_of(descriptor);
  if (!o || o->finalised) return refused(CUDNN_STATUS_BAD_PARAM, "no descriptor, or finalised before");
  const cudnnStatus_t status = finalise(*o);
  o->finalised = status == CUDNN_STATUS_SUCCESS;
  return status;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  const std::lock_guard lock(mutex);
  const auto o = object_of(descriptor);
  if (!o || o->finalised) return refused(CUDNN_STATUS_BAD_PARAM, "no descriptor, or finalised already");
  const auto& allowed = rules(o->type);
  const auto rule =
      std::find_if(allowed.begin(), allowed.end(), [&](const Rule& r) { return r.name == name; });
  if (rule == allowed.end()) return refused(CUDNN_STATUS_BAD_PARAM, "the descriptor has no such attribute");
  if (rule->type != type)
    return refused(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "an attribute of another type");
  if (count < 1 || (rule->count != 0 && rule->count != count))
    return refused(CUDNN_STATUS_BAD_PARAM, "not as many values as the attribute has");
  if (!values) return refused(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no values");
  Attribute attribute{type, count, {}, {}};
  const auto* bytes = static_cast<const unsigned char*>(values);
  attribute.bytes.assign(bytes, bytes + static_cast<size_t>(count) * bytes_of(type));
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    for (int64_t i = 0; i < count; ++i) {
      const auto part = object_of(static_cast<void* const*>(values)[i]);
      if (!part) return refused(CUDNN_STATUS_BAD_PARAM, "not a descriptor");
      if (!part->finalised) return refused(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a part is not finalised");
      attribute.objects.push_back(part);
    }
  }
  o->attributes[name] = std::move(attribute);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                                       void* values) {
  const std::lock_guard lock(mutex);
  const auto o = object_of(descriptor);
  if (!o) return refused(CUDNN_STATUS_BAD_PARAM, "no descriptor");
  if (!o->finalised) return refused(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not finalised");
  const auto is = [&](cudnnBackendAttributeName_t n, cudnnBackendAttributeType_t t,
                      cudnnBackendDescriptorType_t d) { return name == n && type == t && o->type == d; };
  if (is(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)) {
    const auto graph = o->objects(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)[0];
    const auto engines = engines_of(*graph, o->value<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE));
    *count = static_cast<int64_t>(engines.size());
    for (size_t i = 0; i < std::min(engines.size(), static_cast<size_t>(requested)); ++i) {
      const auto status =
          fill_in(static_cast<void**>(values)[i], CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, engines[i], graph);
      if (status != CUDNN_STATUS_SUCCESS) return status;
    }
    return CUDNN_STATUS_SUCCESS;
  }
  if (is(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)) {
    *count = 1;
    return fill_in(*static_cast<void**>(values), CUDNN_BACKEND_ENGINE_DESCRIPTOR, o->engine, o->graph);
  }
  if (is(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_BACKEND_ENGINE_DESCRIPTOR))
    return give(o->engine.notes, requested, count, values);
  if (is(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, CUDNN_BACKEND_ENGINE_DESCRIPTOR))
    return give(o->engine.behaviour, requested, count, values);
  if (is(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR))
    return give(std::vector<int64_t>{static_cast<int64_t>(
                    o->object(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine.workspace)},
                requested, count, values);
  return refused(CUDNN_STATUS_BAD_PARAM, "no such attribute can be asked for");
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t variant_pack) {
  const std::lock_guard lock(mutex);
  const auto o = object_of(plan), pack = object_of(variant_pack);
  if (!handle || !o || !pack || !o->finalised || !pack->finalised ||
      o->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
      pack->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
    return refused(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "plan or variant pack");
  const Object& configuration = o->object(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  const auto operations = operations_of(*configuration.graph);
  std::map<int64_t, void*> places;
  for (int64_t i = 0; i < pack->attributes.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count; ++i)
    places[pack->value<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, static_cast<size_t>(i))] =
        pack->value<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, static_cast<size_t>(i));
  for (const Operation& p : operations) {
    std::vector<TensorInfo> tensors{p.x, p.y};
    if (!p.is_pointwise() || p.has_b) tensors.push_back(p.w);
    for (const TensorInfo& t : tensors) {
      const auto place = places.find(t.id);
      if (t.is_virtual) continue;
      if (place == places.end()) return refused(CUDNN_STATUS_BAD_PARAM, "a tensor is not in the pack");
      if (reinterpret_cast<uintptr_t>(place->second) % static_cast<uintptr_t>(t.alignment) != 0)
        return refused(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
                       "a tensor is not aligned as it was said to be");
      if (!is_device_memory(place->second, static_cast<size_t>(t.span()) * t.element()))
        return refused(CUDNN_STATUS_BAD_PARAM, "a tensor does not lie in the device's memory");
    }
  }
  const size_t bytes = configuration.engine.workspace;
  void* const workspace = pack->value<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (bytes > 0 && !is_device_memory(workspace, bytes))
    return refused(CUDNN_STATUS_BAD_PARAM, "the workspace is missing or too small");
  last_workspace = bytes;
  enqueue(handle->stream, [=, engine = configuration.engine] {
    if (bytes > 0) std::memset(workspace, 0xff, bytes);
    run(operations, engine, places);
  });
  return CUDNN_STATUS_SUCCESS;
}
