#include "sinopia/backend/cuda/cudnn_graph.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include <cudnn.h>

#include "sinopia/backend/cuda/recording.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/error.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia::cuda {
namespace {

bool succeeded(cudnnStatus_t status) { return status == CUDNN_STATUS_SUCCESS; }

void check(cudnnStatus_t status, std::string_view what) {
  if (succeeded(status)) return;
  char message[512] = "";
  cudnnGetLastErrorString(message, sizeof message);
  fail(ErrorKind::Backend, "[cuda] cuDNN could not {}: {} {}", what, cudnnGetErrorString(status), message);
}

/// cuDNN on a device. For one thread at a time, which conv2d_plans.cpp sees to.
struct Library {
  std::once_flag once;
  cudnnHandle_t handle = nullptr;
  cudaStream_t stream = nullptr;  // that the handle was told
};

Library& library() {
  static auto* const all = new std::array<Library, kMaxGpus>;  // never freed: plans may outlive statics
  Library& result = all->at(static_cast<size_t>(current_device()));
  std::call_once(result.once, [&] {
    const RecordingPause pause;
    check(cudnnCreate(&result.handle), "start");
  });
  return result;
}

cudnnHandle_t handle() { return library().handle; }

/// The handle, bound to this thread's stream: a recording has one of its own, whose address may be that of an
/// earlier one.
cudnnHandle_t handle_on_stream() {
  Library& l = library();
  if (l.stream != stream() || is_recording()) {
    check(cudnnSetStream(l.handle, stream()), "use a stream");
    l.stream = stream();
  }
  return l.handle;
}

// The attribute type that belongs to a C++ type.
template <class T>
constexpr cudnnBackendAttributeType_t kTypeOf = CUDNN_TYPE_INT64;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<float> = CUDNN_TYPE_FLOAT;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<double> = CUDNN_TYPE_DOUBLE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<bool> = CUDNN_TYPE_BOOLEAN;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnHandle_t> = CUDNN_TYPE_HANDLE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnDataType_t> = CUDNN_TYPE_DATA_TYPE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnConvolutionMode_t> = CUDNN_TYPE_CONVOLUTION_MODE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnPointwiseMode_t> = CUDNN_TYPE_POINTWISE_MODE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnBackendHeurMode_t> = CUDNN_TYPE_HEUR_MODE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnBackendNumericalNote_t> = CUDNN_TYPE_NUMERICAL_NOTE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnBackendBehaviorNote_t> = CUDNN_TYPE_BEHAVIOR_NOTE;
template <>
constexpr cudnnBackendAttributeType_t kTypeOf<cudnnBackendDescriptor_t> = CUDNN_TYPE_BACKEND_DESCRIPTOR;

/// One of cuDNN's descriptors, which are handles whose attributes are set before they are finalised.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    check(cudnnBackendCreateDescriptor(type, &raw_), "make a descriptor");
  }
  ~Descriptor() {
    if (raw_) cudnnBackendDestroyDescriptor(raw_);
  }
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }

  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, std::span<const T> values) {
    check(
        cudnnBackendSetAttribute(raw_, name, kTypeOf<T>, static_cast<int64_t>(values.size()), values.data()),
        "set an attribute");
    return *this;
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, const T& value) {
    return set(name, std::span<const T>(&value, 1));
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) { return set(name, value.raw_); }
  Descriptor& finalise() {
    check(cudnnBackendFinalize(raw_), "finalise a descriptor");
    return *this;
  }
  /// False where cuDNN refuses, as it does where an engine does not suit.
  bool try_finalise() { return succeeded(cudnnBackendFinalize(raw_)); }

  template <class T>
  T get(cudnnBackendAttributeName_t name) const {
    T value{};
    int64_t count = 0;
    check(cudnnBackendGetAttribute(raw_, name, kTypeOf<T>, 1, &count, &value), "tell an attribute");
    return value;
  }
  /// Up to `most` values; none if cuDNN has none or refuses to tell.
  template <class T>
  std::vector<T> values(cudnnBackendAttributeName_t name, size_t most) const {
    std::vector<T> result(most);
    int64_t count = 0;
    if (!succeeded(cudnnBackendGetAttribute(raw_, name, kTypeOf<T>, static_cast<int64_t>(most), &count,
                                            result.data())))
      return {};
    result.resize(std::min(most, static_cast<size_t>(std::max<int64_t>(count, 0))));
    return result;
  }
  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
};

enum TensorId : int64_t { kX = 1, kW, kY, kBias, kAdd, kFirstVirtual };

cudnnDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return CUDNN_DATA_FLOAT;
    case DType::F16:
      return CUDNN_DATA_HALF;
    case DType::BF16:
      return CUDNN_DATA_BFLOAT16;
    default:
      fail(ErrorKind::InvalidArgument, "[cuda] expected f32, f16 or bf16, got {}", to_string(dtype));
  }
}

using Extents = std::array<int64_t, 4>;

/// Extents in cuDNN's order, (N,C,H,W) or (O,I,KH,KW), of elements that lie as [N,H,W,C].
Descriptor tensor(int64_t id, cudnnDataType_t type, const Extents& extents, bool is_virtual = false) {
  const auto [n, c, h, w] = extents;
  const Extents strides{h * w * c, 1, w * c, c};
  Descriptor result(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  result.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::span<const int64_t>(extents))
      .set(CUDNN_ATTR_TENSOR_STRIDES, std::span<const int64_t>(strides))
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, static_cast<int64_t>(kConvolutionAlignment))
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual)
      .finalise();
  return result;
}

struct ActivationMode {
  cudnnPointwiseMode_t mode;
  double beta = 1;  // of Swish, x sigmoid(beta x)
};

/// None for what cuDNN has no function for, and for ReLU, in which it may turn NaN into 0.
std::optional<ActivationMode> activation_mode(Activation activation) {
  switch (activation) {
    case Activation::Silu:
      return ActivationMode{CUDNN_POINTWISE_SWISH_FWD};
    case Activation::QuickGelu:
      return ActivationMode{CUDNN_POINTWISE_SWISH_FWD, 1.702};
    case Activation::Gelu:
      return ActivationMode{CUDNN_POINTWISE_GELU_FWD};
    case Activation::GeluTanh:
      return ActivationMode{CUDNN_POINTWISE_GELU_APPROX_TANH_FWD};
    case Activation::Tanh:
      return ActivationMode{CUDNN_POINTWISE_TANH_FWD};
    case Activation::Sigmoid:
      return ActivationMode{CUDNN_POINTWISE_SIGMOID_FWD};
    case Activation::None:
    case Activation::Relu:
      break;
  }
  return std::nullopt;
}

/// The operations of a convolution with its ending, and all descriptors that they refer to.
class Graph {
 public:
  explicit Graph(const Convolution& p) : p_(p) {
    const Extents y{p.N, p.O, p.OH, p.OW};
    const bool forward = p.kind == ConvolutionKind::Forward;
    const Descriptor& x_tensor = keep(tensor(kX, data_type(p.dtype), {p.N, p.I, p.H, p.W}));
    const Descriptor& w_tensor = keep(tensor(kW, data_type(p.dtype), {p.O, p.I, p.KH, p.KW}));
    const Descriptor* sums =
        &keep(forward && p.ending.any() ? between(y) : tensor(kY, data_type(p.dtype), y));
    convolve(x_tensor, w_tensor, *sums);
    if (forward && p.ending.any()) finish(sums, y);
    std::vector<cudnnBackendDescriptor_t> raw;
    for (const Descriptor& operation : operations_) raw.push_back(operation.raw());
    graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle())
        .set(CUDNN_ATTR_OPERATIONGRAPH_OPS, std::span<const cudnnBackendDescriptor_t>(raw));
    usable_ = usable_ && graph_.try_finalise();
  }

  /// False if cuDNN has no operation for a part of it.
  bool usable() const { return usable_; }
  const Descriptor& descriptor() const { return graph_; }

 private:
  const Descriptor& keep(Descriptor descriptor) {
    descriptors_.push_back(std::make_unique<Descriptor>(std::move(descriptor)));
    return *descriptors_.back();
  }
  /// What one operation hands to the next, in f32 and never in memory.
  Descriptor between(const Extents& extents) {
    return tensor(next_virtual_++, CUDNN_DATA_FLOAT, extents, true);
  }

  void convolve(const Descriptor& x, const Descriptor& w, const Descriptor& y) {
    const std::array<int64_t, 2> strides{p_.stride, p_.stride}, dilations{1, 1};
    Descriptor convolution(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
        .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2})
        .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, std::span<const int64_t>(dilations))
        .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, std::span<const int64_t>(strides))
        .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, std::span<const int64_t>(p_.before))
        .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, std::span<const int64_t>(p_.after))
        .finalise();
    struct Names {
      cudnnBackendDescriptorType_t type;
      cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
    };
    constexpr Names kForward{CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    constexpr Names kBackwardData{CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    constexpr Names kBackwardFilter{CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    const Names names = p_.kind == ConvolutionKind::Forward        ? kForward
                        : p_.kind == ConvolutionKind::BackwardData ? kBackwardData
                                                                   : kBackwardFilter;
    Descriptor operation(names.type);
    operation.set(names.convolution, keep(std::move(convolution)))
        .set(names.x, x)
        .set(names.w, w)
        .set(names.y, y)
        .set(names.alpha, 1.0f)
        .set(names.beta, 0.0f);
    add(std::move(operation));
  }

  /// The image first, then the bias, then the activation: in this order cuDNN has kernels ready.
  void finish(const Descriptor* sums, const Extents& y) {
    const FusedEnding& ending = p_.ending;
    const std::optional<ActivationMode> activation = activation_mode(ending.activation);
    if (ending.activation != Activation::None && !activation) usable_ = false;
    int left = (ending.add != AddedShape::None) + ending.bias + activation.has_value();
    const auto next = [&]() -> const Descriptor& {
      return keep(--left > 0 ? between(y) : tensor(kY, data_type(p_.dtype), y));
    };
    if (ending.add != AddedShape::None) {
      const bool pixels = ending.add == AddedShape::Pixels;
      const Extents extents{y[0], y[1], pixels ? y[2] : 1, pixels ? y[3] : 1};
      sums =
          pointwise({CUDNN_POINTWISE_ADD}, *sums, &keep(tensor(kAdd, data_type(p_.dtype), extents)), next());
    }
    if (ending.bias)
      sums = pointwise({CUDNN_POINTWISE_ADD}, *sums,
                       &keep(tensor(kBias, data_type(p_.dtype), {1, y[1], 1, 1})), next());
    if (activation) pointwise(*activation, *sums, nullptr, next());
  }

  const Descriptor* pointwise(const ActivationMode& mode, const Descriptor& x, const Descriptor* b,
                              const Descriptor& y) {
    Descriptor function(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    function.set(CUDNN_ATTR_POINTWISE_MODE, mode.mode).set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    if (mode.mode == CUDNN_POINTWISE_SWISH_FWD) function.set(CUDNN_ATTR_POINTWISE_SWISH_BETA, mode.beta);
    function.finalise();
    Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, keep(std::move(function)))
        .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x)
        .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    if (b) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
    add(std::move(operation));
    return &y;
  }

  void add(Descriptor operation) {
    usable_ = usable_ && operation.try_finalise();
    operations_.push_back(std::move(operation));
  }

  Convolution p_;
  bool usable_ = true;
  int64_t next_virtual_ = kFirstVirtual;
  std::vector<std::unique_ptr<Descriptor>> descriptors_;
  std::vector<Descriptor> operations_;
  Descriptor graph_{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
};

/// What cuDNN suggests for a graph, best first. Filled by cuDNN, hence the descriptors made beforehand.
std::vector<Descriptor> engine_configurations(const Graph& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.descriptor())
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, mode);
  if (!heuristics.try_finalise()) return {};
  int64_t count = 0;
  if (!succeeded(cudnnBackendGetAttribute(heuristics.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr)))
    return {};
  std::vector<Descriptor> result;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i)
    raw.push_back(result.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).raw());
  int64_t found = 0;
  if (!succeeded(cudnnBackendGetAttribute(heuristics.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &found, raw.data())))
    return {};
  result.erase(result.begin() + std::min(count, found), result.end());
  return result;
}

bool engine_suits(const Descriptor& configuration, const Convolution& p) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.raw();
  int64_t count = 0;
  if (!succeeded(cudnnBackendGetAttribute(configuration.raw(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw)))
    return false;
  for (const auto note : engine.values<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                                    CUDNN_NUMERICAL_NOTE_TYPE_COUNT)) {
    switch (note) {
      case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
      case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        if (p.dtype == DType::F32 && !p.tf32) return false;
        break;
      case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
      case CUDNN_NUMERICAL_NOTE_FFT:
      case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13:
        return false;
      default:
        break;
    }
  }
  if (p.compile) return true;
  const auto behaviour = engine.values<cudnnBackendBehaviorNote_t>(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                                                   CUDNN_BEHAVIOR_NOTE_TYPE_COUNT);
  return std::ranges::find(behaviour, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) == behaviour.end();
}

class Plan final : public ConvolutionPlan {
 public:
  /// Not usable() if the engine cannot do it after all.
  Plan(const Convolution& problem, std::shared_ptr<const Graph> graph, Descriptor configuration)
      : problem_(problem), graph_(std::move(graph)), configuration_(std::move(configuration)) {
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle())
        .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration_);
    usable_ = plan_.try_finalise();
    if (usable_)
      workspace_ = static_cast<size_t>(plan_.get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
  }

  bool usable() const { return usable_; }
  size_t workspace_bytes() const override { return workspace_; }

  void run(const ConvolutionBuffers& buffers, void* workspace) const override {
    std::array<int64_t, 5> ids{kX, kW, kY};
    std::array<void*, 5> places{const_cast<void*>(buffers.x), const_cast<void*>(buffers.w),
                                const_cast<void*>(buffers.y)};
    size_t count = 3;
    const auto also = [&](TensorId id, const void* place) {
      ids[count] = id;
      places[count++] = const_cast<void*>(place);
    };
    if (problem_.ending.bias) also(kBias, buffers.bias);
    if (problem_.ending.add != AddedShape::None) also(kAdd, buffers.add);
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::span<const int64_t>(ids.data(), count));
    set_pointers(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, places.data(), count);
    set_pointers(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &workspace, 1);
    pack.finalise();
    check(cudnnBackendExecute(handle_on_stream(), plan_.raw(), pack.raw()), "compute a convolution");
  }

 private:
  // Not set(): void* is what a descriptor is too.
  static void set_pointers(const Descriptor& pack, cudnnBackendAttributeName_t name, void* const* values,
                           size_t count) {
    check(
        cudnnBackendSetAttribute(pack.raw(), name, CUDNN_TYPE_VOID_PTR, static_cast<int64_t>(count), values),
        "take the tensors");
  }

  Convolution problem_;
  std::shared_ptr<const Graph> graph_;
  Descriptor configuration_, plan_{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
  bool usable_ = false;
  size_t workspace_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<ConvolutionPlan>> convolution_plans(const Convolution& problem, size_t most,
                                                                size_t workspace) {
  const auto graph = std::make_shared<const Graph>(problem);
  std::vector<std::unique_ptr<ConvolutionPlan>> plans;
  if (!graph->usable()) return plans;
  std::unique_ptr<ConvolutionPlan> least;  // of those that need too much
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (Descriptor& configuration : engine_configurations(*graph, mode)) {
      if (plans.size() >= most) return plans;
      if (!engine_suits(configuration, problem)) continue;
      auto plan = std::make_unique<Plan>(problem, graph, std::move(configuration));
      if (!plan->usable()) continue;
      if (plan->workspace_bytes() <= workspace) {
        plans.push_back(std::move(plan));
      } else if (!least || plan->workspace_bytes() < least->workspace_bytes()) {
        least = std::move(plan);
      }
    }
    if (!plans.empty()) break;  // the fallback's are slow
  }
  if (plans.empty() && least) plans.push_back(std::move(least));
  return plans;
}

}  // namespace sinopia::cuda
