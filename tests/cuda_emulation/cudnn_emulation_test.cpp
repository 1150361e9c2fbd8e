#include <array>
#include <vector>

#include <cuda_runtime.h>
#include <cudnn.h>
#include <gtest/gtest.h>

// That the emulated cuDNN refuses what the library refuses, without which tests on it would show little.

namespace {

using Descriptor = cudnnBackendDescriptor_t;

Descriptor made(cudnnBackendDescriptorType_t type) {
  Descriptor d = nullptr;
  EXPECT_EQ(cudnnBackendCreateDescriptor(type, &d), CUDNN_STATUS_SUCCESS);
  return d;
}

template <class T>
cudnnStatus_t set(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  const std::vector<T>& values) {
  return cudnnBackendSetAttribute(d, name, type, static_cast<int64_t>(values.size()), values.data());
}

Descriptor tensor(int64_t id, const std::vector<int64_t>& dims, bool finalise = true) {
  const std::vector<int64_t> strides{dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
  const Descriptor d = made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, std::vector{CUDNN_DATA_FLOAT}), 0);
  EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims), 0);
  EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides), 0);
  EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, std::vector{id}), 0);
  EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::vector<int64_t>{16}), 0);
  if (finalise) {
    EXPECT_EQ(cudnnBackendFinalize(d), 0);
  }
  return d;
}

Descriptor convolution() {
  const Descriptor d = made(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const std::vector<int64_t> ones{1, 1};
  set(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, std::vector{CUDNN_DATA_FLOAT});
  set(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, std::vector{CUDNN_CROSS_CORRELATION});
  set(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::vector<int64_t>{2});
  for (const auto name : {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES,
                          CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS})
    EXPECT_EQ(set(d, name, CUDNN_TYPE_INT64, ones), 0);
  EXPECT_EQ(cudnnBackendFinalize(d), 0);
  return d;
}

Descriptor forward(const std::vector<int64_t>& y) {
  const Descriptor d = made(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  const auto part = [&](cudnnBackendAttributeName_t name, Descriptor value) {
    EXPECT_EQ(set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::vector{value}), 0);
    cudnnBackendDestroyDescriptor(value);
  };
  part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution());
  part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, tensor(1, {1, 8, 4, 4}));
  part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, tensor(2, {8, 8, 3, 3}));
  part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, tensor(3, y));
  set(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, std::vector{1.0f});
  set(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, std::vector{0.0f});
  return d;
}

TEST(CudnnEmulation, RefusesWrongAttributes) {
  const size_t before = sinopia_emulation::cudnn_descriptors();
  const Descriptor d = made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  EXPECT_NE(cudnnBackendFinalize(d), 0);  // nothing is set
  const std::vector<int64_t> three{1, 2, 3};
  EXPECT_NE(set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, three), 0);
  EXPECT_NE(set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, std::vector{1.0f}), 0);
  EXPECT_NE(set(d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, std::vector{CUDNN_HEUR_MODE_A}), 0);
  cudnnBackendDestroyDescriptor(d);
  EXPECT_NE(cudnnBackendDestroyDescriptor(d), 0);
  EXPECT_NE(cudnnBackendFinalize(d), 0);

  const Descriptor finalised = tensor(1, {1, 2, 3, 4});
  EXPECT_NE(set(finalised, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, std::vector<int64_t>{5}), 0);
  const Descriptor open = tensor(1, {1, 2, 3, 4}, false);
  const Descriptor operation = made(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  EXPECT_NE(
      set(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::vector{open}),
      0);
  const Descriptor none = tensor(1, {1, 2, 0, 4}, false);
  EXPECT_NE(cudnnBackendFinalize(none), 0);
  for (const Descriptor each : {finalised, open, operation, none}) cudnnBackendDestroyDescriptor(each);
  EXPECT_EQ(sinopia_emulation::cudnn_descriptors(), before);
}

TEST(CudnnEmulation, RefusesExtentsThatDoNotFit) {
  const Descriptor right = forward({1, 8, 4, 4}), wrong = forward({1, 8, 4, 5});
  EXPECT_EQ(cudnnBackendFinalize(right), 0);
  EXPECT_NE(cudnnBackendFinalize(wrong), 0);
  cudnnBackendDestroyDescriptor(right);
  cudnnBackendDestroyDescriptor(wrong);
}

TEST(CudnnEmulation, RefusesToRunWithoutWhatThePlanNeeds) {
  cudnnHandle_t handle = nullptr;
  ASSERT_EQ(cudnnCreate(&handle), 0);
  const Descriptor operation = forward({1, 8, 4, 4});
  ASSERT_EQ(cudnnBackendFinalize(operation), 0);
  const Descriptor graph = made(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::vector{operation});
  EXPECT_NE(cudnnBackendFinalize(graph), 0);  // no handle
  set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, std::vector{handle});
  ASSERT_EQ(cudnnBackendFinalize(graph), 0);
  const Descriptor heuristics = made(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::vector{graph});
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, std::vector{CUDNN_HEUR_MODE_A});
  int64_t count = 0;
  EXPECT_NE(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     0, &count, nullptr),
            0);  // not finalised
  ASSERT_EQ(cudnnBackendFinalize(heuristics), 0);
  ASSERT_EQ(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     0, &count, nullptr),
            0);
  std::vector<Descriptor> configurations;
  for (int64_t i = 0; i < count; ++i) configurations.push_back(made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
  ASSERT_EQ(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     count, &count, configurations.data()),
            0);
  int refused = 0, with_workspace = 0;
  float* memory = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&memory), 64 << 10), cudaSuccess);
  for (const Descriptor configuration : configurations) {
    const Descriptor plan = made(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, std::vector{handle});
    set(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR,
        std::vector{configuration});
    if (cudnnBackendFinalize(plan) != CUDNN_STATUS_SUCCESS) {
      ++refused;
      cudnnBackendDestroyDescriptor(plan);
      continue;
    }
    int64_t bytes = 0;
    ASSERT_EQ(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                       &count, &bytes),
              0);
    const auto execute = [&](std::vector<void*> places, void* workspace) {
      std::vector<int64_t> ids{1, 2, 3};
      ids.resize(places.size());
      const Descriptor pack = made(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
      set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids);
      set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, places);
      set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, std::vector{workspace});
      EXPECT_EQ(cudnnBackendFinalize(pack), 0);
      const cudnnStatus_t status = cudnnBackendExecute(handle, plan, pack);
      cudnnBackendDestroyDescriptor(pack);
      return status;
    };
    void *const x = memory, *const w = memory + 1024, *const y = memory + 4096,
                *const workspace = memory + 8192;
    if (bytes < 4096) {
      EXPECT_EQ(execute({x, w, y}, workspace), 0);
      EXPECT_EQ(sinopia_emulation::cudnn_workspace(), static_cast<size_t>(bytes));
    }
    EXPECT_NE(execute({x, w}, workspace), 0);
    EXPECT_NE(execute({x, w, memory + 4097}, workspace), 0);  // not aligned
    std::vector<float> host(4096);
    EXPECT_NE(execute({x, w, host.data()}, workspace), 0);
    if (bytes > 0) {
      ++with_workspace;
      EXPECT_NE(execute({x, w, y}, nullptr), 0);
    }
    cudnnBackendDestroyDescriptor(plan);
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(with_workspace, 0);
  for (const Descriptor each : configurations) cudnnBackendDestroyDescriptor(each);
  for (const Descriptor each : {heuristics, graph, operation}) cudnnBackendDestroyDescriptor(each);
  cudaFree(memory);
}

}  // namespace
