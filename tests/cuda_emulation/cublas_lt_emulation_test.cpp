// What the emulated cuBLASLt refuses, and what sinopia makes of a library that refuses.

#include <memory>

#include <cublasLt.h>

#include "sinopia/backend/cuda/cublaslt.h"
#include "sinopia/backend/cuda/runtime.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia::testing {
namespace {

using namespace sinopia_emulation;

// A product of 6 x 4 and 4 x 5 in the library's own terms, to be spoiled by tests.
class CublasLtEmulation : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    ASSERT_EQ(cudaMalloc(&data_, 4096), cudaSuccess);  // of its own: what lies beyond is nobody's
    cublasLtCreate(&handle_);
  }
  void TearDown() override {
    cublasLtDestroy(handle_);
    cudaFree(data_);
    set_missing_products({});
  }

  char* place(size_t bytes) { return static_cast<char*>(data_) + bytes; }

  cublasStatus_t choose() {
    cublasLtMatrixLayout_t layouts[4];
    cublasLtMatmulDesc_t description;
    make(layouts, &description);
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace_limit_, sizeof workspace_limit_);
    for (int i = 0; i < 4; ++i)
      cublasLtMatmulPreferenceSetAttribute(
          preference, static_cast<cublasLtMatmulPreferenceAttributes_t>(5 + i), &aligned_, sizeof aligned_);
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, description, layouts[0], layouts[1], layouts[2], layouts[3],
                                       preference, 1, &chosen_, &found);
    EXPECT_EQ(found > 0, status == CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceDestroy(preference);
    destroy(layouts, description);
    return status;
  }

  cublasStatus_t run() {
    cublasLtMatrixLayout_t layouts[4];
    cublasLtMatmulDesc_t description;
    make(layouts, &description);
    const float one = 1;
    const cublasStatus_t status =
        cublasLtMatmul(handle_, description, &one, a_, layouts[0], b_, layouts[1], &one, c_, layouts[2], d_,
                       layouts[3], &chosen_.algo, workspace_, workspace_bytes_, cuda::stream());
    destroy(layouts, description);
    return status;
  }

  cublasLtHandle_t handle_ = nullptr;
  void* data_ = nullptr;
  cublasComputeType_t compute_ = CUBLAS_COMPUTE_32F;
  cudaDataType_t scale_ = CUDA_R_32F, types_[4] = {CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F};
  uint64_t m_ = 6, n_ = 5, k_ = 4, k_of_b_ = 4, m_of_c_ = 6;
  int64_t ld_of_a_ = 0, d_stride_ = 32;
  int32_t batch_ = 1, batch_of_a_ = 0;
  uint32_t epilogue_ = CUBLASLT_EPILOGUE_DEFAULT, aligned_ = 16;
  int32_t bias_type_ = -1;
  uint64_t workspace_limit_ = 1 << 20;
  void *a_ = nullptr, *b_ = nullptr, *c_ = nullptr, *d_ = nullptr, *workspace_ = nullptr;
  const void* bias_ = nullptr;
  size_t workspace_bytes_ = 0;
  cublasLtMatmulHeuristicResult_t chosen_{};

  void use_memory() {
    a_ = place(0);
    b_ = place(1024);
    c_ = place(1536);
    d_ = place(2048);
    bias_ = place(3072);
  }

 private:
  void make(cublasLtMatrixLayout_t* layouts, cublasLtMatmulDesc_t* description) {
    const auto ld = ld_of_a_ ? ld_of_a_ : static_cast<int64_t>(m_);
    cublasLtMatrixLayoutCreate(&layouts[0], types_[0], m_, k_, ld);
    cublasLtMatrixLayoutCreate(&layouts[1], types_[1], k_of_b_, n_, static_cast<int64_t>(k_of_b_));
    cublasLtMatrixLayoutCreate(&layouts[2], types_[2], m_of_c_, n_, static_cast<int64_t>(m_of_c_));
    cublasLtMatrixLayoutCreate(&layouts[3], types_[3], m_, n_, static_cast<int64_t>(m_));
    for (int i = 0; i < 4; ++i) {
      const int32_t batch = i == 0 && batch_of_a_ ? batch_of_a_ : batch_;
      const int64_t stride = i == 3 ? d_stride_ : 32;
      cublasLtMatrixLayoutSetAttribute(layouts[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
      cublasLtMatrixLayoutSetAttribute(layouts[i], CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                       sizeof stride);
    }
    cublasLtMatmulDescCreate(description, compute_, scale_);
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      EXPECT_EQ(cublasLtMatmulDescSetAttribute(*description, attribute, &value, sizeof value),
                CUBLAS_STATUS_SUCCESS);
    };
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type_);
  }
  static void destroy(cublasLtMatrixLayout_t* layouts, cublasLtMatmulDesc_t description) {
    for (int i = 0; i < 4; ++i) cublasLtMatrixLayoutDestroy(layouts[i]);
    cublasLtMatmulDescDestroy(description);
  }
};

TEST_F(CublasLtEmulation, TakesWhatIsSound) {
  use_memory();
  for (const cudaDataType_t type : {CUDA_R_16F, CUDA_R_16BF, CUDA_R_32F})
    for (const cudaDataType_t result : {type, CUDA_R_32F})
      for (const cublasLtEpilogue_t epilogue : {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS,
                                                CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS}) {
        types_[0] = types_[1] = type;
        types_[2] = types_[3] = result;
        epilogue_ = epilogue;
        EXPECT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
        EXPECT_EQ(run(), CUBLAS_STATUS_SUCCESS);
      }
}

TEST_F(CublasLtEmulation, RefusesTypesThatDoNotGoTogether) {
  types_[1] = CUDA_R_16BF;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  types_[1] = CUDA_R_16F;
  types_[2] = CUDA_R_32F;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  types_[2] = types_[3] = CUDA_R_16BF;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  types_[2] = types_[3] = CUDA_R_16F;
  scale_ = CUDA_R_16F;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  scale_ = CUDA_R_32F;
  compute_ = CUBLAS_COMPUTE_32F_FAST_TF32;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLtEmulation, RefusesABiasOfAnotherTypeThanTheResult) {
  epilogue_ = CUBLASLT_EPILOGUE_BIAS;
  for (const int type : {CUDA_R_32F, CUDA_R_16BF}) {
    bias_type_ = type;
    EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  }
  bias_type_ = CUDA_R_16F;
  EXPECT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
  epilogue_ = CUBLASLT_EPILOGUE_RELU;  // could make zeros of NaN
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLtEmulation, RefusesMatricesThatDoNotFit) {
  k_of_b_ = 3;
  EXPECT_EQ(choose(), CUBLAS_STATUS_INVALID_VALUE);
  k_of_b_ = 4;
  m_of_c_ = 7;
  EXPECT_EQ(choose(), CUBLAS_STATUS_INVALID_VALUE);
  m_of_c_ = 6;
  ld_of_a_ = 5;
  EXPECT_EQ(choose(), CUBLAS_STATUS_INVALID_VALUE);
  ld_of_a_ = 0;
  batch_of_a_ = 2;
  EXPECT_EQ(choose(), CUBLAS_STATUS_INVALID_VALUE);
  batch_of_a_ = 0;
  batch_ = 2;
  d_stride_ = 0;
  EXPECT_EQ(choose(), CUBLAS_STATUS_INVALID_VALUE);
  d_stride_ = 32;
  EXPECT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
  batch_ = 65536;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  batch_ = 1;
  k_ = k_of_b_ = 0;
  EXPECT_EQ(choose(), CUBLAS_STATUS_INVALID_VALUE);
  k_ = k_of_b_ = 4;
  aligned_ = 1;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLtEmulation, RefusesMemoryThatIsNotSound) {
  use_memory();
  ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  for (void** const pointer : {&a_, &b_, &c_, &d_}) {
    void* const sound = *pointer;
    float here[64];
    *pointer = static_cast<char*>(sound) + 2;  // less aligned than was said
    EXPECT_EQ(run(), CUBLAS_STATUS_EXECUTION_FAILED);
    *pointer = here;
    EXPECT_NE(run(), CUBLAS_STATUS_SUCCESS);
    *pointer = place(4096 - 16);  // beyond the end
    EXPECT_EQ(run(), CUBLAS_STATUS_EXECUTION_FAILED);
    *pointer = nullptr;
    EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
    *pointer = sound;
  }
  EXPECT_EQ(run(), CUBLAS_STATUS_SUCCESS);
}

TEST_F(CublasLtEmulation, RefusesABiasThatIsNotSound) {
  use_memory();
  epilogue_ = CUBLASLT_EPILOGUE_BIAS;
  bias_ = place(3072 + 2);
  EXPECT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(), CUBLAS_STATUS_EXECUTION_FAILED);
  bias_ = place(3072);
  EXPECT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  bias_ = place(3072 + 16);  // the algorithm was chosen for 256
  EXPECT_EQ(run(), CUBLAS_STATUS_EXECUTION_FAILED);
  bias_ = nullptr;
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(CublasLtEmulation, RefusesAnAlgorithmOfAnotherProblem) {
  use_memory();
  ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
  n_ = 4;
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(CublasLtEmulation, RefusesTooLittleWorkspace) {
  k_ = k_of_b_ = 64;
  use_memory();
  ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_GT(chosen_.workspaceSize, 0U);
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
  const Tensor memory = Tensor::empty({8192}, DType::U8, device());
  workspace_ = const_cast<void*>(memory.raw());
  workspace_bytes_ = chosen_.workspaceSize - 1;
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
  workspace_bytes_ = chosen_.workspaceSize;
  EXPECT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  workspace_ = static_cast<char*>(workspace_) + 16;
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
  workspace_ = nullptr;
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
  workspace_limit_ = 0;
  EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);  // the only one asked for needs some
}

// ---- sinopia's use of it

struct Layer {
  Tensor x, w, bias, add, y;
};

Layer layer(Device device, DType dtype, int64_t features = 80) {
  const auto there = [&](const Tensor& t) { return copy_to(to_dtype(t, dtype), device); };
  return {there(random_tensor({5, features}, 1)), there(random_tensor({24, features}, 2)),
          there(random_tensor({24}, 3)), there(random_tensor({5, 24}, 4)),
          Tensor::empty({5, 24}, dtype, device)};
}

using CublasLtUse = CublasLtEmulation;

TEST_F(CublasLtUse, AnAlgorithmIsAskedForOncePerProblem) {
  Layer l = layer(device(), DType::F16, 81);
  const uint64_t asked = algorithms_asked(), run = products_run();
  for (int i = 0; i < 3; ++i) gpu().linear(l.x, l.w, l.bias, l.add, Activation::None, l.y);
  EXPECT_EQ(algorithms_asked(), asked + 1);
  EXPECT_EQ(products_run(), run + 3);
  gpu().linear(l.x, l.w, {}, {}, Activation::None, l.y);
  EXPECT_EQ(algorithms_asked(), asked + 2);
  gpu().linear(l.x, l.w, l.bias, l.add, Activation::None, l.y);
  EXPECT_EQ(algorithms_asked(), asked + 2);
}

TEST_F(CublasLtUse, WithoutFusedEpilogues) {
  set_missing_products({.epilogues = true});
  for (const DType dtype : kFloats) {
    Layer l = layer(device(), dtype, 83);  // a problem that no other test has a plan for
    const uint64_t run = products_run(), kernels = kernels_launched();
    gpu().linear(l.x, l.w, l.bias, l.add, Activation::None, l.y);
    EXPECT_EQ(products_run(), run + 1);
    EXPECT_EQ(kernels_launched(), kernels + 1);
    Tensor expected = Tensor::empty({5, 24});
    cpu_kernels().linear(back(l.x), back(l.w), back(l.bias), back(l.add), Activation::None, expected);
    expect_close(back(l.y), doubles(expected), 2e-5, 1.01 * epsilon_of(dtype));
  }
}

TEST_F(CublasLtUse, AnAlgorithmThatRefusesAfterAllIsNotAskedAgain) {
  Layer l = layer(device(), DType::F32, 84);
  set_missing_products({.when_run = true});
  const uint64_t run = products_run();
  for (int i = 0; i < 2; ++i) gpu().linear(l.x, l.w, l.bias, l.add, Activation::None, l.y);
  EXPECT_EQ(products_run(), run + 2);
  Tensor expected = Tensor::empty({5, 24});
  cpu_kernels().linear(back(l.x), back(l.w), back(l.bias), back(l.add), Activation::None, expected);
  expect_close(back(l.y), doubles(expected), 2e-5, 1e-6);
}

TEST_F(CublasLtUse, ReportsWhatCannotBeMultiplied) {
  Layer l = layer(device(), DType::BF16, 85);
  set_missing_products({.any_when_run = true});
  expect_error(ErrorKind::Backend, "cuBLASLt cannot multiply bf16 [5,85] on cuda:0 and bf16 [24,85]",
               [&] { gpu().linear(l.x, l.w, l.bias, l.add, Activation::None, l.y); });
  Tensor y = empty({1, 5, 24}, DType::BF16);
  expect_error(ErrorKind::Backend, "cuBLASLt cannot multiply", [&] {
    gpu().matmul(l.x.reshape({1, 5, 85}), l.w.reshape({1, 24, 85}), Transpose::Right, 1, y);
  });
}

// Ends with the test, so that one that fails while recording does not spoil those after it.
struct Capture {
  cudaGraph_t graph = nullptr;
  bool ended = false;
  Capture() {
    EXPECT_EQ(cudaStreamBeginCapture(cuda::stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  }
  cudaError_t end() {
    ended = true;
    return cudaStreamEndCapture(cuda::stream(), &graph);
  }
  ~Capture() {
    if (!ended) static_cast<void>(end());
    if (graph) cudaGraphDestroy(graph);
  }
};

TEST_F(CublasLtUse, CanBeRecorded) {
  cuda::prepare_products();
  for (const Activation activation : {Activation::None, Activation::Silu}) {
    Layer l = layer(device(), DType::F16, 86);
    const Tensor nan =
        there(Tensor::from<float>({5, 24}, std::vector<float>(120, std::nanf(""))), DType::F16);
    // Nothing is allocated between this call and the recorded one, which finds the scratch that this one
    // left.
    gpu().linear(l.x, l.w, l.bias, l.add, activation, l.y);
    const Tensor expected = back(l.y);
    cudaMemcpyAsync(l.y.raw(), nan.raw(), nan.bytes(), cudaMemcpyDeviceToDevice, cuda::stream());
    Capture capture;
    gpu().linear(l.x, l.w, l.bias, l.add, activation, l.y);
    ASSERT_EQ(capture.end(), cudaSuccess);
    EXPECT_TRUE(std::isnan(back(l.y).data<float>()[0]));  // nothing was done yet
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, capture.graph, 0), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, cuda::stream()), cudaSuccess);
    EXPECT_TRUE(same_bits(back(l.y), expected));
    cudaGraphExecDestroy(executable);
  }
}

TEST_F(CublasLtUse, Tf32RoundsTheFactors) {
  const Tensor x = there(Tensor::from<float>({1, 2}, std::vector<float>{1.0f + 0x1p-12f, 1}));
  const Tensor w = there(Tensor::from<float>({1, 2}, std::vector<float>{1, 0}));
  Tensor y = empty({1, 1});
  gpu().linear(x, w, {}, {}, Activation::None, y);
  EXPECT_EQ(back(y).data<float>()[0], 1.0f + 0x1p-12f);
  cuda::set_tf32(true);
  gpu().linear(x, w, {}, {}, Activation::None, y);
  cuda::set_tf32(false);
  EXPECT_EQ(back(y).data<float>()[0], 1.0f);
}

}  // namespace
}  // namespace sinopia::testing
