#include <thread>

#include <cuda_runtime.h>

#include "sinopia/backend/cuda/reclaim.h"
#include "sinopia/backend/cuda/recording.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/backend/graph_recording.h"
#include "sinopia/backend/parameter_store.h"
#include "sinopia/backend/recorded_call.h"
#include "sinopia/tensor/allocator.h"
#include "tests/cuda/on_gpu.h"

// What only an emulated device shows: how much memory it has handed out, what it was asked to run, and
// streams that get on as chance has it.

namespace sinopia::testing {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class EmulatedDevice : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    give_up_parameters(device());
    memory().release_cached();
  }
  void TearDown() override {
    sinopia_emulation::set_late(false, 0);
    sinopia_emulation::set_memory(0);
    memory().set_limit(0);
  }
  Allocator& memory() const { return allocator(device()); }
  Tensor bytes(size_t count) const { return empty({static_cast<int64_t>(count)}, DType::U8); }
  Tensor affine(const Tensor& x, float scale, float shift) const {
    Tensor y = empty_like(x);
    gpu().affine(x, scale, shift, y);
    return y;
  }
};

TEST_F(EmulatedDevice, GivesIdleSegmentsBackBeforeItRunsOut) {
  using sinopia_emulation::memory_in_use;
  const size_t start = memory_in_use();
  sinopia_emulation::set_memory(start + 100 * kMiB);
  const Tensor kept = bytes(10);
  {
    const Tensor a = bytes(30 * kMiB), b = bytes(40 * kMiB);
    EXPECT_GE(memory_in_use(), start + 70 * kMiB);
  }
  EXPECT_GE(memory().stats().cached, 70 * kMiB);
  EXPECT_GE(memory_in_use(), start + 70 * kMiB);
  {
    const Tensor c = bytes(90 * kMiB);  // fits only once the others are given back
    EXPECT_LE(memory_in_use(), start + 100 * kMiB);
    try {
      bytes(40 * kMiB);
      FAIL() << "expected to be refused";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::OutOfMemory);
      EXPECT_THAT(e.what(), ::testing::HasSubstr("has no 40 MiB left"));
    }
    EXPECT_EQ(bytes(1000).bytes(), 1000u);
  }
  memory().release_cached();
  EXPECT_LE(memory_in_use(), start + 2 * kMiB);
}

TEST_F(EmulatedDevice, ParametersLeaveWhenTheDeviceHasNoMore) {
  std::vector<Tensor> hosts, stored;
  for (unsigned i = 0; i < 60; ++i) {
    hosts.push_back(random_tensor({256, 1024}, i));
    stored.push_back(store_parameter(hosts.back(), device(), DType::F32));
  }
  sinopia_emulation::set_memory(sinopia_emulation::memory_in_use() + 48 * kMiB);
  for (int pass = 0; pass < 3; ++pass)
    for (size_t i = 0; i < 60; ++i) {
      const Tensor activation = bytes(size_t{1} << (10 + i % 12));
      ASSERT_TRUE(same_bits(copy_to(stored[i], Device{}), hosts[i])) << pass << " " << i;
    }
  EXPECT_GT(parameter_stats(device()).resident, 36 * kMiB);
}

// Weights that come while activations do lie apart from them, so that these leave whole segments behind.
TEST_F(EmulatedDevice, ParametersLieApart) {
  std::vector<Tensor> hosts, stored;
  const size_t start = sinopia_emulation::memory_in_use();
  for (unsigned i = 0; i < 20; ++i) {
    hosts.push_back(Tensor::from(Shape{256, 1024}, std::vector<float>(256 * 1024, 1)));
    stored.push_back(store_parameter(hosts.back(), device(), DType::F32));
  }
  {
    std::vector<Tensor> activations;
    for (size_t i = 0; i < 20; ++i) {
      activations.push_back(bytes(5 * kMiB));
      EXPECT_NE(stored[i].raw(), nullptr);
    }
  }
  memory().release_cached();
  EXPECT_LE(sinopia_emulation::memory_in_use(), start + 20 * kMiB + 32 * kMiB);
}

TEST_F(EmulatedDevice, RecordsAlthoughItsMemoryMustComeFromTheDevice) {
  RecordedCall call;
  const std::vector<Tensor> in{there(random_tensor({64, 1024}, 1))};
  const RecordedCall::Work work = [&](std::span<const Tensor> x) {
    const Tensor large = bytes(50 * kMiB);
    return std::vector{affine(affine(x[0], 2, 1), 3, 0)};
  };
  const Tensor expected = copy_to(call(in, work)[0], Device{});
  memory().release_cached();
  const size_t before = sinopia_emulation::memory_in_use();
  const uint64_t graphs = sinopia_emulation::graphs_launched();
  EXPECT_TRUE(same_bits(copy_to(call(in, work)[0], Device{}), expected));
  EXPECT_GE(sinopia_emulation::memory_in_use(), before + 50 * kMiB);
  EXPECT_EQ(sinopia_emulation::graphs_launched(), graphs + 1);
  const uint64_t kernels = sinopia_emulation::kernels_launched();
  EXPECT_TRUE(same_bits(copy_to(call(in, work)[0], Device{}), expected));
  EXPECT_EQ(sinopia_emulation::graphs_launched(), graphs + 2);
  EXPECT_EQ(sinopia_emulation::kernels_launched(), kernels + 2);
  EXPECT_TRUE(call.replayed());
  call.reset();
  memory().release_cached();
  EXPECT_LT(sinopia_emulation::memory_in_use(), before + 50 * kMiB);
}

// Memory that the first call took serves the recording too.
TEST_F(EmulatedDevice, RecordingTakesWhatTheFirstCallLeft) {
  RecordedCall call;
  const std::vector<Tensor> in{there(random_tensor({64, 1024}, 1))};
  const RecordedCall::Work work = [&](std::span<const Tensor> x) {
    const Tensor large = bytes(50 * kMiB);
    return std::vector{affine(x[0], 2, 1)};
  };
  call(in, work);
  const size_t before = sinopia_emulation::memory_in_use();
  call(in, work);
  EXPECT_LE(sinopia_emulation::memory_in_use(), before + 4 * kMiB);
}

TEST_F(EmulatedDevice, RefusesWhatARecordingCannotHold) {
  const Tensor x = bytes(100);
  std::vector<uint8_t> here(100);
  int survived = 0;
  const auto recorded = [&](const std::function<void()>& work) {
    return record_graph(device(), [&] {
             EXPECT_TRUE(is_recording_graph());
             work();
             ++survived;
           }) != nullptr;
  };
  EXPECT_TRUE(recorded([] {}));
  EXPECT_EQ(survived, 1);
  EXPECT_FALSE(recorded([&] { cuda::to_host(here.data(), x.raw(), 100); }));
  EXPECT_FALSE(recorded([&] { memory().release_cached(); }));
  EXPECT_FALSE(recorded([&] { synchronise(device()); }));
  EXPECT_EQ(survived, 1);
  EXPECT_FALSE(recorded([&] { cudaStreamSynchronize(cuda::stream()); }));  // and no one noticed
  EXPECT_EQ(survived, 2);
  EXPECT_TRUE(recorded([&] {
    EXPECT_FALSE(recorded([] {}));  // one at a time
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, 100), cudaErrorStreamCaptureUnsupported);
    const cuda::RecordingPause pause;
    EXPECT_FALSE(is_recording_graph());
    cuda::to_host(here.data(), x.raw(), 100);
    synchronise(device());
  }));
  EXPECT_FALSE(is_recording_graph());
  synchronise(device());
  cudaGetLastError();
}

TEST_F(EmulatedDevice, KeepsWhatARecordingReads) {
  auto kept = std::make_shared<int>(1);
  std::unique_ptr<GraphRecording> recording =
      record_graph(device(), [&] { cuda::keep_while_recorded(kept); });
  EXPECT_EQ(kept.use_count(), 2);
  recording.reset();
  EXPECT_EQ(kept.use_count(), 1);
  cuda::keep_while_recorded(kept);  // outside
  EXPECT_EQ(kept.use_count(), 1);
}

// Parameters that come and go, with the uploads on another stream than the kernels, under every order that
// the events between them allow.
TEST_F(EmulatedDevice, UploadsNeverMeetKernels) {
  constexpr size_t kCount = 90, kRoom = 40, kPasses = 3;
  for (unsigned seed = 1; seed <= 12; ++seed) {
    std::vector<Tensor> hosts, stored;
    for (unsigned i = 0; i < kCount; ++i) {
      const DType type = i % 3 == 0 ? DType::F16 : DType::F32;
      hosts.push_back(stored_as(random_tensor({2, 512}, i), type));
      stored.push_back(store_parameter(hosts.back(), device(), DType::F32));
    }
    copy_to(stored[0], Device{});  // what conversions need for themselves
    give_up_parameters(device());
    sinopia_emulation::set_late(true, seed);
    const ParameterStats before = parameter_stats(device());
    const size_t each = stored[1].bytes();
    std::vector<Tensor> results;
    for (size_t i = 0; i < kPasses * kCount; ++i) {
      const Tensor& parameter = stored[i % kCount];
      const size_t others = memory().stats().in_use - parameter_stats(device()).resident;
      memory().set_limit(others + kRoom * each);
      EXPECT_TRUE(sinopia_emulation::is_device_memory(parameter.raw(), each));
      EXPECT_LE(parameter_stats(device()).resident, kRoom * each);
      memory().set_limit(0);
      results.push_back(affine(affine(parameter, 1, 0), 2, 1));
    }
    EXPECT_GT(parameter_stats(device()).uploads - before.uploads, 2 * kCount);
    EXPECT_GT(parameter_stats(device()).ahead, before.ahead);
    for (size_t i = 0; i < results.size(); ++i) {
      const Tensor& host = hosts[i % kCount];
      Tensor expected = Tensor::empty(host.shape());
      cpu_kernels().affine(to_dtype(host, DType::F32), 2, 1, expected);
      ASSERT_TRUE(same_bits(copy_to(results[i], Device{}), expected)) << "seed " << seed << ", use " << i;
    }
    sinopia_emulation::set_late(false, 0);
    stored.clear();
    give_up_parameters(device());
  }
}

// An upload that was begun ahead and is given up before anyone asked for it must not land on what has its
// memory next.
TEST_F(EmulatedDevice, UploadsGivenUpLandNowhere) {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    std::vector<Tensor> stored;
    const Tensor host = random_tensor({4, 1024}, 1);
    for (unsigned i = 0; i < 30; ++i) stored.push_back(store_parameter(host, device(), DType::F32));
    for (const Tensor& p : stored) EXPECT_NE(p.raw(), nullptr);
    give_up_parameters(device());
    memory().release_cached();
    const Tensor x = there(host);
    sinopia_emulation::set_late(true, seed);
    const uint64_t ahead = parameter_stats(device()).ahead;
    EXPECT_NE(stored[0].raw(), nullptr);
    EXPECT_GT(parameter_stats(device()).ahead, ahead);
    give_up_parameters(device());
    std::vector<Tensor> results;
    for (int i = 0; i < 300; ++i) results.push_back(affine(x, 1, 5));
    Tensor expected = Tensor::empty(host.shape());
    cpu_kernels().affine(host, 1, 5, expected);
    synchronise(device());
    cudaDeviceSynchronize();
    for (const Tensor& y : results) ASSERT_TRUE(same_bits(copy_to(y, Device{}), expected)) << seed;
    sinopia_emulation::set_late(false, 0);
  }
}

TEST_F(EmulatedDevice, RecordedCallsInAnyOrderOfStreams) {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    sinopia_emulation::set_late(true, seed);
    const Tensor host = random_tensor({3, 1024}, seed);
    const Tensor stored = store_parameter(host, device(), DType::F32);
    RecordedCall call;
    const RecordedCall::Work work = [&](std::span<const Tensor> in) {
      return std::vector{affine(affine(in[0], 2, 1), 1, 3), affine(stored, -1, 0)};
    };
    std::vector<std::vector<Tensor>> results;
    std::vector<Tensor> inputs;
    for (unsigned i = 0; i < 6; ++i) {
      inputs.push_back(random_tensor({2, 700}, 10 + i));
      if (i < 3) give_up_parameters(device());
      results.push_back(call(std::vector{copy_to(inputs.back(), device())}, work));
    }
    EXPECT_TRUE(call.replayed());
    call.reset();
    for (size_t i = 0; i < 6; ++i) {
      Tensor expected = Tensor::empty(inputs[i].shape()), y = Tensor::empty(inputs[i].shape());
      cpu_kernels().affine(inputs[i], 2, 1, expected);
      cpu_kernels().affine(expected, 1, 3, y);
      EXPECT_TRUE(same_bits(copy_to(results[i][0], Device{}), y)) << seed << " " << i;
      Tensor negative = Tensor::empty(host.shape());
      cpu_kernels().affine(host, -1, 0, negative);
      EXPECT_TRUE(same_bits(copy_to(results[i][1], Device{}), negative)) << seed << " " << i;
    }
    sinopia_emulation::set_late(false, 0);
  }
}

TEST_F(EmulatedDevice, CopiesInAnyOrderOfStreams) {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    sinopia_emulation::set_late(true, seed);
    std::vector<Tensor> there, here;
    for (unsigned i = 0; i < 80; ++i) {
      Tensor x = random_tensor({i % 20 == 3 ? int64_t{1'500'000} : 1000 + static_cast<int64_t>(i)}, i);
      here.push_back(stored_as(x, DType::F32));
      there.push_back(copy_to(x, device()));
      std::memset(x.raw(), 0xee, x.bytes());
    }
    for (size_t i = 0; i < 80; ++i) EXPECT_TRUE(same_bits(copy_to(there[i], Device{}), here[i])) << i;
    sinopia_emulation::set_late(false, 0);
  }
}

}  // namespace
}  // namespace sinopia::testing
