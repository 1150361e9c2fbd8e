#include "sinopia/backend/cuda/cublaslt.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include <cublasLt.h>

#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/base/error.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia::cuda {
namespace {

constexpr int kCandidates = 4;  // algorithms to fall back on should one refuse after all
constexpr int64_t kMostRows = int64_t{1} << 22, kMostMatrices = 65535;  // what one grid of blocks covers
constexpr int64_t kFullAlignment = 256;                                 // more the library does not ask for

std::atomic<bool> use_tf32{false};

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::OutOfMemory : ErrorKind::Backend,
       "[cuda] could not {}: {}", what, cublasLtGetStatusString(status));
}

cudaDataType_t library_type(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return CUDA_R_32F;
    case DType::F16:
      return CUDA_R_16F;
    case DType::BF16:
      return CUDA_R_16BF;
    default:
      fail(ErrorKind::InvalidArgument, "[cuda] products are of f32, f16 or bf16, got {}", to_string(dtype));
  }
}

template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* handle) const {
    kDestroy(handle);
  }
};
template <class Handle, auto kDestroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<kDestroy>>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class T>
void set(const Description& description, cublasLtMatmulDescAttributes_t attribute, T value) {
  check(cublasLtMatmulDescSetAttribute(description.get(), attribute, &value, sizeof value),
        "describe a product");
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
        "describe a product");
}

// A product with every stride given.
Product spelled_out(Product p) {
  if (p.a_row == kDense) p.a_row = p.a_is_km ? p.m : p.k;
  if (p.b_row == kDense) p.b_row = p.b_is_nk ? p.k : p.n;
  if (p.y_row == kDense) p.y_row = p.n;
  if (p.a_batch == kDense) p.a_batch = (p.a_is_km ? p.k : p.m) * p.a_row;
  if (p.b_batch == kDense) p.b_batch = (p.b_is_nk ? p.n : p.k) * p.b_row;
  if (p.y_batch == kDense) p.y_batch = p.m * p.y_row;
  if (p.batch == 1) p.a_batch = p.b_batch = p.y_batch = 0;
  return p;
}

int64_t alignment(const void* data) {
  const auto place = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % kFullAlignment);
  if (place == 0) return kFullAlignment;
  return std::min<int64_t>(place & -place, 16);  // of those between there are few, and no algorithm cares
}

cublasComputeType_t compute_type(const Product& p) {
  return p.dtype == DType::F32 && use_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

// All that the choice of an algorithm depends on.
using Key = std::array<int64_t, 19>;

Key key_of(const Product& p) {
  const int64_t flags = (p.a_is_km ? 1 : 0) + (p.b_is_nk ? 2 : 0) + (p.bias ? 4 : 0) + (p.gelu_tanh ? 8 : 0);
  return {p.m,
          p.n,
          p.k,
          p.batch,
          p.a_row,
          p.b_row,
          p.y_row,
          p.a_batch,
          p.b_batch,
          p.y_batch,
          static_cast<int64_t>(p.dtype),
          static_cast<int64_t>(p.y_dtype),
          flags,
          static_cast<int64_t>(compute_type(p)),
          alignment(p.a),
          alignment(p.b),
          alignment(p.y),
          p.add ? alignment(p.add) : 0,
          p.bias ? alignment(p.bias) : 0};
}

struct Plan {
  Description description;
  Layout a, b, y;
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms;  // the best first; none: the library has none
};

// Row-major rows of the library's column-major matrices.
Layout layout(DType dtype, int64_t rows, int64_t columns, int64_t row, int64_t batch, int64_t to_next) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, library_type(dtype), static_cast<uint64_t>(columns),
                                   static_cast<uint64_t>(rows), row),
        "describe a matrix");
  Layout result(made);
  if (batch > 1) {
    const auto count = static_cast<int32_t>(batch);
    check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "describe a matrix");
    check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &to_next,
                                           sizeof to_next),
          "describe a matrix");
  }
  return result;
}

cublasLtEpilogue_t epilogue(const Product& p) {
  if (p.gelu_tanh) return p.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  return p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

size_t most_workspace() { return (limits().major >= 9 ? size_t{32} : size_t{8}) << 20; }

// The library's y^T [n,m] = b^T a^T: what lies as rows here are columns there, so b is its first factor.
Plan make_plan(cublasLtHandle_t handle, const Product& p) {
  Plan plan;
  cublasLtMatmulDesc_t description = nullptr;
  check(cublasLtMatmulDescCreate(&description, compute_type(p), CUDA_R_32F), "describe a product");
  plan.description.reset(description);
  set(plan.description, CUBLASLT_MATMUL_DESC_TRANSA, p.b_is_nk ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.description, CUBLASLT_MATMUL_DESC_TRANSB, p.a_is_km ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.description, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(p));
  if (p.bias) {
    set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<int32_t>(library_type(p.y_dtype)));
    set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);  // read for its alignment
  }
  plan.a = layout(p.dtype, p.a_is_km ? p.k : p.m, p.a_is_km ? p.m : p.k, p.a_row, p.batch, p.a_batch);
  plan.b = layout(p.dtype, p.b_is_nk ? p.n : p.k, p.b_is_nk ? p.k : p.n, p.b_row, p.batch, p.b_batch);
  plan.y = layout(p.y_dtype, p.m, p.n, p.y_row, p.batch, p.y_batch);

  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "describe a product");
  const Preference preference(made);
  const auto aligned = [](const void* data) { return static_cast<uint32_t>(alignment(data)); };

  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{most_workspace()});
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, aligned(p.b));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, aligned(p.a));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, aligned(p.add ? p.add : p.y));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, aligned(p.y));
  // Parts of a long sum are added up in f32, never in the halves that the result may have.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));

  plan.algorithms.resize(kCandidates);
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, plan.description.get(), plan.b.get(), plan.a.get(), plan.y.get(), plan.y.get(),
      preference.get(), kCandidates, plan.algorithms.data(), &found);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "choose an algorithm for a product");
  plan.algorithms.resize(status == CUBLAS_STATUS_SUCCESS ? static_cast<size_t>(found) : 0);
  std::erase_if(plan.algorithms, [](const cublasLtMatmulHeuristicResult_t& one) {
    return one.state != CUBLAS_STATUS_SUCCESS || one.workspaceSize > most_workspace();
  });
  return plan;
}

// A device's handle and plans. A description is changed by each product that uses it, so one thread at a
// time.
struct Library {
  std::mutex mutex;
  cublasLtHandle_t handle = nullptr;
  std::map<Key, Plan> plans;

  void prepare() {
    if (!handle) check(cublasLtCreate(&handle), "start cuBLASLt");
  }

  Plan& plan(const Product& p) {
    const Key key = key_of(p);
    const auto found = plans.find(key);
    return found != plans.end() ? found->second : plans.emplace(key, make_plan(handle, p)).first->second;
  }

  bool run(Plan& plan, const Product& p) {
    if (p.bias) set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    const float beta = p.add ? 1.0f : 0.0f;
    while (!plan.algorithms.empty()) {
      const cublasLtMatmulHeuristicResult_t& best = plan.algorithms.front();
      // One size for all, so that one block of memory serves them.
      const size_t bytes = best.workspaceSize > 0 ? most_workspace() : 0;
      const Tensor workspace = bytes > 0 ? scratch(bytes) : Tensor();
      const cublasStatus_t status =
          cublasLtMatmul(handle, plan.description.get(), &p.alpha, p.b, plan.b.get(), p.a, plan.a.get(),
                         &beta, p.add ? p.add : p.y, plan.y.get(), p.y, plan.y.get(), &best.algo,
                         const_cast<void*>(workspace.raw()), bytes, stream());
      if (status == CUBLAS_STATUS_SUCCESS) return true;
      if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_ARCH_MISMATCH)
        check(status, "multiply matrices");
      plan.algorithms.erase(plan.algorithms.begin());
    }
    return false;
  }
};

Library& library() {
  static auto* const all = new std::array<Library, kMaxGpus>;  // never freed: the driver may be gone by then
  return all->at(static_cast<size_t>(current_device()));
}

template <class T>
T* advanced(T* data, int64_t elements, DType dtype) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return data ? static_cast<Byte*>(data) + elements * static_cast<int64_t>(size_of(dtype)) : nullptr;
}

// The matrices from `matrix` and the rows from `row` on, as many as one call takes.
Product part(Product p, int64_t matrix, int64_t row) {
  const int64_t to_row = p.a_is_km ? 1 : p.a_row;
  p.batch = std::min(p.batch - matrix, kMostMatrices);
  p.m = std::min(p.m - row, kMostRows);
  p.a = advanced(p.a, matrix * p.a_batch + row * to_row, p.dtype);
  p.b = advanced(p.b, matrix * p.b_batch, p.dtype);
  p.y = advanced(p.y, matrix * p.y_batch + row * p.y_row, p.y_dtype);
  p.add = advanced(p.add, matrix * p.y_batch + row * p.y_row, p.y_dtype);
  return p;
}

}  // namespace

bool multiply(const Product& product) {
  if (product.batch == 0 || product.m == 0 || product.n == 0) return true;
  SINOPIA_CHECK(product.k > 0, InvalidArgument, "[cuda] a product of nothing");
  SINOPIA_CHECK(!product.bias || alignment(product.bias) >= 16, InvalidArgument,
                "[cuda] the bias of a product is not at a multiple of 16 bytes");
  const Product whole = spelled_out(product);
  Library& library_here = library();
  const std::lock_guard lock(library_here.mutex);
  library_here.prepare();
  for (int64_t matrix = 0; matrix < whole.batch; matrix += kMostMatrices)
    for (int64_t row = 0; row < whole.m; row += kMostRows) {
      const Product p = part(whole, matrix, row);
      if (!library_here.run(library_here.plan(p), p)) return false;
    }
  return true;
}

void prepare_products() {
  Library& library_here = library();
  const std::lock_guard lock(library_here.mutex);
  library_here.prepare();
}

void set_tf32(bool on) { use_tf32 = on; }
bool tf32() { return use_tf32; }

}  // namespace sinopia::cuda
