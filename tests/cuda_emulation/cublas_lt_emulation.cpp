#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>
#include <vector>

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

struct cublasLtContext {};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t ld;
  int32_t batch = 1;
  int64_t stride = 0;
  bool operator==(const cublasLtMatrixLayoutOpaque_t&) const = default;
};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t transposed_a = CUBLAS_OP_N, transposed_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace = 0;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t aligned[4] = {256, 256, 256, 256};
};

namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;
using Description = cublasLtMatmulDescOpaque_t;

constexpr int64_t kMostRows = int64_t{1} << 31, kMostBatch = 65535;
constexpr uint64_t kMostOfResult = uint64_t{1} << 22;  // rows and columns; of more nothing is promised
constexpr size_t kWorkspace = 4096;                    // what algorithms for long sums ask for
constexpr uint64_t kMark = 0x53696e6f706961;

std::mutex mutex;
sinopia_emulation::MissingProducts missing;
std::atomic<uint64_t> asked{0}, products{0};

size_t bytes_of(int type) { return type == CUDA_R_32F ? 4 : 2; }

bool is_aligned(const void* data, size_t bytes) { return reinterpret_cast<uintptr_t>(data) % bytes == 0; }

// The largest power of two up to 256 that an address is a multiple of.
uint32_t alignment(const void* data) {
  uint32_t bytes = 256;
  while (!is_aligned(data, bytes)) bytes /= 2;
  return bytes;
}

template <class T>
cublasStatus_t read(T& to, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

bool has_bias(const Description& d) { return d.epilogue & CUBLASLT_EPILOGUE_BIAS; }

// Whether the matrices fit each other, and are of types that go together.
cublasStatus_t status_of(const Description& d, const Layout& a, const Layout& b, const Layout& c,
                         const Layout& y) {
  const bool ta = d.transposed_a == CUBLAS_OP_T, tb = d.transposed_b == CUBLAS_OP_T;
  const uint64_t m = ta ? a.columns : a.rows, k = ta ? a.rows : a.columns;
  if ((tb ? b.columns : b.rows) != k || (tb ? b.rows : b.columns) != y.columns || y.rows != m)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (c.rows != y.rows || c.columns != y.columns) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || k == 0 || y.columns == 0) return CUBLAS_STATUS_INVALID_VALUE;
  for (const Layout* one : {&a, &b, &c, &y}) {
    if (one->ld < static_cast<int64_t>(one->rows) || one->batch != y.batch)
      return CUBLAS_STATUS_INVALID_VALUE;
    if (static_cast<int64_t>(std::max(one->rows, one->columns)) >= kMostRows || one->batch > kMostBatch)
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (std::max(y.rows, y.columns) > kMostOfResult) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (y.batch > 1 && y.stride < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const bool types_fit = a.type == b.type && c.type == y.type && (y.type == a.type || y.type == CUDA_R_32F);
  if (!types_fit || d.scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (d.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  switch (d.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
      return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
      if (d.bias_type != -1 && d.bias_type != y.type) return CUBLAS_STATUS_NOT_SUPPORTED;
      break;
    case CUBLASLT_EPILOGUE_GELU:
      break;
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return missing.epilogues ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

uint64_t mixed(uint64_t hash, uint64_t value) { return (hash ^ value) * 0x100000001b3 + (hash >> 29); }

// Which problem an algorithm was chosen for.
uint64_t problem(const Description& d, const Layout& a, const Layout& b, const Layout& c, const Layout& y) {
  uint64_t hash = kMark;
  for (const Layout* one : {&a, &b, &c, &y})
    for (const uint64_t value :
         {static_cast<uint64_t>(one->type), one->rows, one->columns, static_cast<uint64_t>(one->ld),
          static_cast<uint64_t>(one->batch), static_cast<uint64_t>(one->stride)})
      hash = mixed(hash, value);
  for (const uint64_t value :
       {static_cast<uint64_t>(d.compute), static_cast<uint64_t>(d.transposed_a),
        static_cast<uint64_t>(d.transposed_b), uint64_t{d.epilogue}, static_cast<uint64_t>(d.bias_type)})
    hash = mixed(hash, value);
  return hash;
}

float widened(const void* data, int type, int64_t place) {
  if (type == CUDA_R_16F) return __half2float(static_cast<const __half*>(data)[place]);
  if (type == CUDA_R_16BF) return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[place]);
  return static_cast<const float*>(data)[place];
}

void store(void* data, int type, int64_t place, float value) {
  if (type == CUDA_R_16F) {
    static_cast<__half*>(data)[place] = __float2half_rn(value);
  } else if (type == CUDA_R_16BF) {
    static_cast<__nv_bfloat16*>(data)[place] = __float2bfloat16_rn(value);
  } else {
    static_cast<float*>(data)[place] = value;
  }
}

// To 11 significant bits, ties to even.
float rounded_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu);
}

// One matrix, densely, as [columns][rows], or [rows][columns] if `transposed`.
std::vector<float> gathered(const void* data, const Layout& layout, int64_t batch, bool transposed,
                            bool tf32) {
  const auto rows = static_cast<int64_t>(layout.rows), columns = static_cast<int64_t>(layout.columns);
  std::vector<float> result(static_cast<size_t>(rows * columns));
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) {
      const float x = widened(data, layout.type, batch * layout.stride + j * layout.ld + i);
      result[static_cast<size_t>(transposed ? i * columns + j : j * rows + i)] =
          tf32 ? rounded_to_tf32(x) : x;
    }
  return result;
}

struct Work {
  Description description;
  Layout a, b, c, y;
  const void *A, *B, *C;
  void* Y;
  float alpha, beta;

  void operator()() const {
    const bool tf32 = description.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const auto m = static_cast<size_t>(y.rows), n = static_cast<size_t>(y.columns);
    for (int64_t batch = 0; batch < y.batch; ++batch) {
      const bool ta = description.transposed_a == CUBLAS_OP_T, tb = description.transposed_b == CUBLAS_OP_T;
      const std::vector<float> as_km = gathered(A, a, batch, ta, tf32);
      const std::vector<float> as_nk = gathered(B, b, batch, tb, tf32);
      const size_t k = as_km.size() / m;
      std::vector<double> sums(m);
      for (size_t j = 0; j < n; ++j) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (size_t l = 0; l < k; ++l) {
          const auto factor = static_cast<double>(as_nk[j * k + l]);
          const float* column = as_km.data() + l * m;
          for (size_t i = 0; i < m; ++i) sums[i] += factor * static_cast<double>(column[i]);
        }
        for (size_t i = 0; i < m; ++i)
          finish(batch, static_cast<int64_t>(i), static_cast<int64_t>(j), sums[i]);
      }
    }
  }

  void finish(int64_t batch, int64_t i, int64_t j, double sum) const {
    double value = static_cast<double>(alpha) * sum;
    if (beta != 0) {
      const float before = widened(C, c.type, batch * c.stride + j * c.ld + i);
      value += static_cast<double>(beta) * static_cast<double>(before);
    }
    if (has_bias(description)) value += static_cast<double>(widened(description.bias, y.type, i));
    if (description.epilogue & CUBLASLT_EPILOGUE_GELU)
      value *= 0.5 * (1 + std::tanh(0.7978845608028654 * (value + 0.044715 * value * value * value)));
    store(Y, y.type, batch * y.stride + j * y.ld + i, static_cast<float>(value));
  }
};

// Whether all of a matrix that is touched is the device's.
bool lies_there(const void* data, const Layout& layout) {
  const int64_t last = (layout.batch - 1) * layout.stride +
                       (static_cast<int64_t>(layout.columns) - 1) * layout.ld +
                       static_cast<int64_t>(layout.rows);
  return sinopia_emulation::is_device_memory(data, static_cast<size_t>(last) * bytes_of(layout.type));
}

}  // namespace

namespace sinopia_emulation {

void set_missing_products(const MissingProducts& what) {
  const std::lock_guard lock(mutex);
  missing = what;
}
uint64_t algorithms_asked() { return asked; }
uint64_t products_run() { return products; }

}  // namespace sinopia_emulation

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS";
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "no error";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an invalid value";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "not supported";
    default:
      return "an error of the emulated cuBLASLt";
  }
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  *layout = new Layout{type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return read(layout->batch, value, bytes);
  return read(layout->stride, value, bytes);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *description = new Description{compute, scale};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete description;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return read(description->transposed_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return read(description->transposed_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return read(description->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return read(description->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return read(description->bias_type, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return read(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return read(preference->reduction, value, bytes);
    default:
      return read(preference->aligned[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results, int* returned) {
  const std::lock_guard lock(mutex);
  *returned = 0;
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested <= 0 || !results) return CUBLAS_STATUS_INVALID_VALUE;
  ++asked;
  if (const cublasStatus_t status = status_of(*description, *a, *b, *c, *d)) return status;
  const Layout* const layouts[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (preference->aligned[i] < bytes_of(layouts[i]->type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  // For long sums first an algorithm that needs a workspace, if one is allowed; then one that works anywhere.
  const uint64_t k = description->transposed_a == CUBLAS_OP_T ? a->rows : a->columns;
  for (int i = 0; i < std::min(requested, 2); ++i) {
    cublasLtMatmulHeuristicResult_t result{};
    const bool split = i == 0 && k >= 64 && (preference->reduction & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    if (split && preference->workspace < kWorkspace) continue;
    result.workspaceSize = split ? kWorkspace : 0;
    uint64_t* const data = result.algo.data;
    data[0] = problem(*description, *a, *b, *c, *d);
    data[1] = result.workspaceSize;
    data[2] = has_bias(*description) ? alignment(description->bias) : 1;
    for (int j = 0; j < 4; ++j) data[3 + j] = std::min(preference->aligned[j], 256u);
    data[7] = i == 0;
    results[(*returned)++] = result;
  }
  return *returned > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* A, cublasLtMatrixLayout_t a, const void* B,
                              cublasLtMatrixLayout_t b, const void* beta, const void* C,
                              cublasLtMatrixLayout_t c, void* D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  using sinopia_emulation::is_device_memory;
  const std::unique_lock lock(mutex);
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!alpha || !beta || !A || !B || !C || !D || !algo) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = status_of(*description, *a, *b, *c, *d)) return status;
  const uint64_t* const chosen = algo->data;
  if (chosen[0] != problem(*description, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (missing.any_when_run || (missing.when_run && chosen[7])) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (workspace_bytes < chosen[1]) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes > 0 && (!is_device_memory(workspace, workspace_bytes) || !is_aligned(workspace, 256)))
    return CUBLAS_STATUS_INVALID_VALUE;
  const void* const places[] = {A, B, C, D};
  const Layout* const layouts[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    // A GPU would report a misaligned or illegal address when it gets there, and be lost.
    if (!is_aligned(places[i], chosen[3 + i])) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!lies_there(places[i], *layouts[i])) return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  if (has_bias(*description)) {
    const void* const bias = description->bias;
    if (!bias) return CUBLAS_STATUS_INVALID_VALUE;
    // The library's algorithms read biases 16 bytes at a time, whatever alignment was announced.
    if (!is_aligned(bias, 16) || alignment(bias) < chosen[2]) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!is_device_memory(bias, d->rows * bytes_of(d->type))) return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  const float factor = *static_cast<const float*>(alpha), of_c = *static_cast<const float*>(beta);
  if (C == D && of_c != 0 && !(*c == *d)) return CUBLAS_STATUS_INVALID_VALUE;
  ++products;
  const Work work{*description, *a, *b, *c, *d, A, B, C, D, factor, of_c};
  const int status = sinopia_emulation::enqueue(stream, [work, workspace, bytes = chosen[1]] {
    if (bytes > 0) std::memset(workspace, 0xff, bytes);  // whoever kept something there notices
    work();
  });
  return status == 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
