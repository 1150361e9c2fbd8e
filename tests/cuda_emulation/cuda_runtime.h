#pragma once

// The part of the CUDA runtime that sinopia/backend/cuda uses, on the CPU: its .cu files compile as plain C++
// with this folder first on the include path. The threads of a block are fibers that take turns at barriers
// and warp collectives; blocks run one after another. Memory of the device is the host's, filled with NaN
// when handed out. What it refuses, a GPU refuses too; that it runs here says nothing about races between
// blocks or about speed.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __constant__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

// vector types
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
#define SINOPIA_VECTORS(name, T)                                    \
  struct alignas(2 * sizeof(T)) name##2 {                           \
    T x, y;                                                         \
  };                                                                \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { \
    T x, y, z, w;                                                   \
  };                                                                \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }        \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SINOPIA_VECTORS(float, float)
SINOPIA_VECTORS(int, int)
SINOPIA_VECTORS(uint, unsigned)
SINOPIA_VECTORS(ushort, unsigned short)
SINOPIA_VECTORS(uchar, unsigned char)
SINOPIA_VECTORS(double, double)
#undef SINOPIA_VECTORS

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace sinopia_emulation {

struct Slot {
  alignas(16) unsigned char bytes[16];
};
/// Waits for the lanes of `mask`, each bringing up to 16 bytes; what all of them brought, by lane.
const Slot* exchange(unsigned mask, const void* value, size_t bytes);
/// Waits for all 32 lanes; the last calls work(the pointers of all) before the others go on.
void together(void* mine, const std::function<void(void* const* lanes)>& work);
void block_barrier();
void warp_barrier(unsigned mask);
/// How the barrier of the block counted `predicate`.
int block_count(int predicate);
/// The dynamic shared memory of the block.
void* dynamic_shared();
/// How many blocks have begun.
uint64_t blocks_run();

/// For tests: bytes that cudaMalloc may hand out in all from now on; 0 means no limit.
void set_memory(size_t bytes);
/// Bytes handed out now, and the most since the last call with `reset`.
size_t memory_in_use();
/// Kernels launched so far, replayed ones included; and graphs replayed.
uint64_t kernels_launched();
uint64_t graphs_launched();
/// From now on what is asked of a stream is not done at once but, as on a device, at some time before it is
/// waited for, as chance has it, in the stream's order and after the events that it waits for.
void set_late(bool late, unsigned seed);
/// Whether a range lies within one allocation of the device.
bool is_device_memory(const void* data, size_t bytes);
/// Does what a library does on a stream: at once, or into the graph that is being recorded.
int enqueue(void* stream, std::function<void()> work);

}  // namespace sinopia_emulation

// inside kernels
inline void __syncthreads() { sinopia_emulation::block_barrier(); }
inline int __syncthreads_or(int predicate) { return sinopia_emulation::block_count(predicate) > 0; }
inline int __syncthreads_and(int predicate) { return sinopia_emulation::block_count(!predicate) == 0; }
inline int __syncthreads_count(int predicate) { return sinopia_emulation::block_count(predicate); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { sinopia_emulation::warp_barrier(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace sinopia_emulation {
inline int lane() {
  return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}
template <class T>
T from_lane(const Slot* slots, int lane) {
  T value;
  std::memcpy(&value, slots[lane].bytes, sizeof(T));
  return value;
}
template <class T>
T shuffle(unsigned mask, T value, int source, bool in_range) {
  static_assert(sizeof(T) <= 16);
  const Slot* slots = exchange(mask, &value, sizeof(T));
  return in_range ? from_lane<T>(slots, source) : value;
}
}  // namespace sinopia_emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int first = sinopia_emulation::lane() & ~(width - 1);
  return sinopia_emulation::shuffle(mask, value, first + (source & (width - 1)), true);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int mine = sinopia_emulation::lane(), source = mine ^ bits;
  return sinopia_emulation::shuffle(mask, value, source, (source & ~(width - 1)) <= (mine & ~(width - 1)));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int mine = sinopia_emulation::lane(), source = mine + static_cast<int>(delta);
  return sinopia_emulation::shuffle(mask, value, source & 31,
                                    (mine & (width - 1)) + static_cast<int>(delta) < width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int mine = sinopia_emulation::lane(), source = mine - static_cast<int>(delta);
  return sinopia_emulation::shuffle(mask, value, source & 31,
                                    (mine & (width - 1)) >= static_cast<int>(delta));
}
unsigned __ballot_sync(unsigned mask, int predicate);
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
unsigned __activemask();

template <class T>
T atomicAdd(T* place, std::type_identity_t<T> value) {
  const T before = *place;
  *place = before + value;
  return before;
}
template <class T>
T atomicMax(T* place, std::type_identity_t<T> value) {
  const T before = *place;
  if (value > before) *place = value;
  return before;
}
template <class T>
T atomicMin(T* place, std::type_identity_t<T> value) {
  const T before = *place;
  if (value < before) *place = value;
  return before;
}
template <class T>
T atomicOr(T* place, std::type_identity_t<T> value) {
  const T before = *place;
  *place = before | value;
  return before;
}
template <class T>
T atomicExch(T* place, std::type_identity_t<T> value) {
  return std::exchange(*place, value);
}
template <class T>
T atomicCAS(T* place, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T before = *place;
  if (before == expected) *place = value;
  return before;
}

template <class T>
T __ldg(const T* x) {
  return *x;
}
template <class T>
T __ldcs(const T* x) {
  return *x;
}
template <class T>
void __stcs(T* x, T value) {
  *x = value;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float exp10f_(float x) { return std::pow(10.0f, x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>((uint64_t{x} * y) >> 32); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float __saturatef(float x) { return x < 0 ? 0 : x > 1 ? 1 : x == x ? x : 0; }
inline size_t __cvta_generic_to_shared(const void* x) { return reinterpret_cast<size_t>(x); }

// the host's side
enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
struct CUstream_st;
using cudaStream_t = CUstream_st*;
struct CUevent_st;
using cudaEvent_t = CUevent_st*;
struct CUgraph_st;
using cudaGraph_t = CUgraph_st*;
struct CUgraphExec_st;
using cudaGraphExec_t = CUgraphExec_st*;
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated
};
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0;
struct cudaLaunchAttribute {};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
  size_t sharedMemPerBlockOptin;
};

const char* cudaGetErrorString(cudaError_t status);
const char* cudaGetErrorName(cudaError_t status);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);

namespace sinopia_emulation {
cudaError_t set_attribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body);
}  // namespace sinopia_emulation

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return sinopia_emulation::set_attribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel*, int threads, size_t) {
  *blocks = 2048 / threads;
  return cudaSuccess;
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  return sinopia_emulation::launch(*config, reinterpret_cast<const void*>(kernel),
                                   [kernel, values = std::tuple<std::remove_cvref_t<Parameters>...>(
                                                arguments...)] { std::apply(kernel, values); });
}
