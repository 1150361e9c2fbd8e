#include "sinopia/backend/recorded_call.h"

#include <atomic>
#include <thread>

#include "sinopia/backend/parameter_store.h"
#include "sinopia/tensor/allocator.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia::testing {
namespace {

class CudaRecordedCall : public OnGpu {
 protected:
  void TearDown() override {
    if (!IsSkipped()) memory().set_limit(0);
  }
  Allocator& memory() const { return allocator(device()); }
  size_t in_use() const { return memory().stats().in_use; }

  Tensor input(unsigned seed, const Shape& shape = {5, 33}, DType dtype = DType::F32) const {
    return there(random_tensor(shape, seed), dtype);
  }
  Tensor softmax(const Tensor& x) const {
    Tensor y = empty_like(x);
    gpu().softmax(x, y);
    return y;
  }
  Tensor affine(const Tensor& x, float scale, float shift) const {
    Tensor y = empty_like(x);
    gpu().affine(x, scale, shift, y);
    return y;
  }
  /// Several kernels with tensors of their own between them.
  std::vector<Tensor> work(std::span<const Tensor> in) const {
    Tensor y = affine(in[0], 3, 0.5f);
    for (int i = 0; i < 4; ++i) y = affine(softmax(y), 2, -0.25f);
    return {softmax(y), affine(in[0], -1, 1), Tensor()};
  }
  RecordedCall::Work counted(int& calls) const {
    return [this, &calls](std::span<const Tensor> in) {
      ++calls;
      return work(in);
    };
  }
  static void expect_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].defined(), b[i].defined());
      if (!a[i]) continue;
      EXPECT_TRUE(same_bits(copy_to(a[i], Device{}), copy_to(b[i], Device{}))) << i;
    }
  }
};

TEST_F(CudaRecordedCall, GivesTheSameBitsPlainRecordedAndReplayed) {
  for (const DType dtype : kFloats) {
    RecordedCall call;
    int calls = 0;
    std::vector<std::vector<Tensor>> results, expected;
    for (unsigned i = 0; i < 5; ++i) {
      const std::vector<Tensor> in{input(i, {5, 33}, dtype), Tensor()};
      expected.push_back(work(in));
      results.push_back(call(in, counted(calls)));
      EXPECT_EQ(call.replayed(), i >= 2);
      EXPECT_EQ(calls, i < 2 ? static_cast<int>(i) + 1 : 2);
    }
    for (size_t i = 0; i < 5; ++i) expect_same(results[i], expected[i]);  // later calls leave earlier results
  }
}

TEST_F(CudaRecordedCall, StartsAnewForInputsOfAnotherKind) {
  RecordedCall call;
  int calls = 0;
  const auto run = [&](const std::vector<Tensor>& in) {
    const int before = calls;
    expect_same(call(in, counted(calls)), work(in));
    return calls > before;
  };
  const std::vector<std::vector<Tensor>> kinds{{input(1)},
                                               {input(2, {33, 5})},
                                               {input(3, {5, 33}, DType::F16)},
                                               {input(3, {5, 33}, DType::BF16)},
                                               {input(4), input(5)},
                                               {input(6), Tensor()},
                                               {input(7, {0, 33}), input(7)}};
  for (const auto& in : kinds) {
    EXPECT_TRUE(run(in));
    EXPECT_TRUE(run(in));
    EXPECT_FALSE(run(in));
    EXPECT_TRUE(call.replayed());
  }
}

TEST_F(CudaRecordedCall, CallsWorkThatReadsOnTheHost) {
  RecordedCall call;
  int calls = 0;
  const RecordedCall::Work reads = [&](std::span<const Tensor> in) {
    ++calls;
    const Tensor y = softmax(in[0]);
    const Tensor here = copy_to(y, Device{});
    return std::vector{affine(y, here.data<float>()[0], 1)};
  };
  const std::vector<Tensor> in{input(1)};
  const std::vector<Tensor> expected = reads(in);
  const size_t before = in_use();
  for (int i = 0; i < 4; ++i) {
    const auto y = call(in, reads);
    EXPECT_FALSE(call.replayed());
    expect_same(y, expected);
  }
  EXPECT_EQ(calls, 6);  // the recording that did not come about as well
  EXPECT_EQ(in_use(), before);
}

TEST_F(CudaRecordedCall, PassesErrorsOn) {
  RecordedCall call;
  int calls = 0;
  const RecordedCall::Work fails = [&](std::span<const Tensor> in) -> std::vector<Tensor> {
    const Tensor y = softmax(in[0]);
    if (++calls == 2) fail(ErrorKind::Cancelled, "that will do");
    return {y};
  };
  const std::vector<Tensor> in{input(1)};
  const size_t before = in_use();
  call(in, fails);
  EXPECT_EQ(kind_of([&] { call(in, fails); }), ErrorKind::Cancelled);
  for (int i = 0; i < 4; ++i) expect_same(call(in, fails), {softmax(in[0])});
  call.reset();
  EXPECT_EQ(in_use(), before);
}

TEST_F(CudaRecordedCall, KeepsItsMemoryUntilItIsForgotten) {
  const std::vector<Tensor> in{input(1, {16, 4096})};
  int calls = 0;
  const size_t before = in_use();
  {
    RecordedCall call;
    std::vector<Tensor> kept;
    for (int i = 0; i < 3; ++i) kept = call(in, counted(calls));
    EXPECT_GT(in_use(), before + 3 * in[0].bytes());
    // What the recording writes to is no one else's: new tensors over and over do not disturb it.
    std::vector<Tensor> others;
    for (unsigned i = 0; i < 20; ++i) others.push_back(affine(in[0], 0, static_cast<float>(i)));
    expect_same(call(in, counted(calls)), kept);
    for (unsigned i = 0; i < 20; ++i)
      EXPECT_EQ(copy_to(others[i], Device{}).data<float>()[12345], static_cast<float>(i));
    others.clear();
    RecordedCall moved = std::move(call);
    moved(in, counted(calls));
    EXPECT_TRUE(moved.replayed());
    moved.reset();
    EXPECT_FALSE(moved.replayed());
    EXPECT_EQ(in_use(), before + kept[0].bytes() + kept[1].bytes());
    expect_same(moved(in, counted(calls)), kept);
  }
  EXPECT_EQ(in_use(), before);
}

TEST_F(CudaRecordedCall, UploadsWhatTheWorkUploaded) {
  RecordedCall call;
  const RecordedCall::Work uploads = [&](std::span<const Tensor> in) {
    const Tensor host = random_tensor(in[0].shape(), 9);
    return std::vector{softmax(copy_to(host, device())), affine(in[0], 2, 0)};
  };
  for (unsigned i = 0; i < 4; ++i) {
    const std::vector<Tensor> in{input(i)};
    expect_same(call(in, uploads), uploads(in));
    EXPECT_EQ(call.replayed(), i >= 2);
  }
}

TEST_F(CudaRecordedCall, ParametersStayWhereTheRecordingReadsThem) {
  std::vector<Tensor> hosts, stored;
  for (unsigned i = 0; i < 50; ++i) {
    hosts.push_back(random_tensor({16, 1024}, i));
    stored.push_back(store_parameter(hosts.back(), device(), DType::F32));
  }
  const RecordedCall::Work reads = [&](std::span<const Tensor> in) {
    std::vector<Tensor> y{softmax(in[0])};
    for (size_t i = 0; i < 10; ++i) y.push_back(affine(stored[i], 1, 0));
    return y;
  };
  RecordedCall call;
  const std::vector<Tensor> in{input(1)};
  const std::vector<Tensor> expected = call(in, reads);
  give_up_parameters(device());  // so that the recording fetches them
  call(in, reads);
  give_up_parameters(device());
  EXPECT_EQ(parameter_stats(device()).resident, 10 * hosts[0].bytes());
  for (size_t i = 10; i < 50; ++i) affine(stored[i], 1, 0);
  give_up_parameters(device());
  const Tensor other = affine(input(2, {64, 1024}), 1, 0);  // has the others' memory
  const std::vector<Tensor> y = call(in, reads);
  EXPECT_TRUE(call.replayed());
  expect_same(y, expected);
  for (size_t i = 0; i < 10; ++i) EXPECT_TRUE(same_bits(copy_to(y[i + 1], Device{}), hosts[i]));
  call.reset();
  give_up_parameters(device());
  EXPECT_EQ(parameter_stats(device()).resident, 0u);
}

TEST_F(CudaRecordedCall, GivesItsRecordingUpWhenMemoryIsShort) {
  // What tests before have left that could be given up instead: the parameters that this thread used last.
  for (int i = 0; i < 64; ++i) store_parameter(random_tensor({1}, 1), device(), DType::F32).raw();
  give_up_parameters(device());
  RecordedCall call;
  int calls = 0;
  const std::vector<Tensor> in{input(1, {16, 4096})};
  const std::vector<Tensor> expected = work(in);
  const size_t before = in_use();
  for (int i = 0; i < 3; ++i) call(in, counted(calls));
  const size_t recorded = in_use() - before;
  EXPECT_TRUE(call.replayed());
  memory().set_limit(before + recorded + in[0].bytes());
  {
    const Tensor large = empty({static_cast<int64_t>(recorded)}, DType::U8);
    EXPECT_LE(in_use(), before + recorded);  // the recording went
    EXPECT_EQ(kind_of([&] { call(in, counted(calls)); }), ErrorKind::OutOfMemory);
  }
  memory().set_limit(0);
  for (int i = 0; i < 3; ++i) {
    expect_same(call(in, counted(calls)), expected);
    EXPECT_EQ(call.replayed(), i == 2);
  }
  // A second time, and it is not tried again.
  memory().set_limit(in_use() + 1);
  empty({static_cast<int64_t>(recorded)}, DType::U8);
  memory().set_limit(0);
  for (int i = 0; i < 4; ++i) {
    expect_same(call(in, counted(calls)), expected);
    EXPECT_FALSE(call.replayed());
  }
}

TEST_F(CudaRecordedCall, CallsWhereMemoryIsTooShortToRecord) {
  RecordedCall call;
  int calls = 0;
  const std::vector<Tensor> in{input(1, {16, 4096})};
  const std::vector<Tensor> expected = work(in);
  const size_t before = in_use();
  memory().reset_peak();
  call(in, counted(calls));
  memory().set_limit(memory().stats().peak);  // enough for the work alone
  for (int i = 0; i < 3; ++i) {
    expect_same(call(in, counted(calls)), expected);
    EXPECT_FALSE(call.replayed());
  }
  EXPECT_EQ(in_use(), before);
}

TEST_F(CudaRecordedCall, OtherThreadsGoOn) {
  RecordedCall call;
  std::atomic<bool> recording{false}, done{false};
  std::atomic<int> wrong{0}, rounds{0};
  std::thread other([&] {
    const Tensor x = input(3);
    const Tensor expected = copy_to(softmax(x), Device{});
    while (!done || rounds < 3) {
      if (!same_bits(copy_to(softmax(x), Device{}), expected)) ++wrong;
      ++rounds;
    }
  });
  int calls = 0;
  const RecordedCall::Work waits = [&](std::span<const Tensor> in) {
    auto y = work(in);
    if (++calls == 2)  // recording: until the other has begun and ended something
    {
      for (const int before = rounds; rounds < before + 2;) std::this_thread::yield();
    }
    return y;
  };
  for (unsigned i = 0; i < 4; ++i) {
    const std::vector<Tensor> in{input(i)};
    expect_same(call(in, waits), work(in));
  }
  EXPECT_TRUE(call.replayed());
  done = true;
  other.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(CudaRecordedCall, IsPartOfAnotherRecording) {
  RecordedCall outer, inner;
  const RecordedCall::Work within = [&](std::span<const Tensor> in) {
    return inner(in, [&](std::span<const Tensor> x) { return work(x); });
  };
  for (unsigned i = 0; i < 5; ++i) {
    const std::vector<Tensor> in{input(i)};
    expect_same(outer(in, within), work(in));
    EXPECT_EQ(outer.replayed(), i >= 2);
  }
}

TEST_F(CudaRecordedCall, IsPlainOnTheCpuAndAcrossDevices) {
  RecordedCall call;
  const RecordedCall::Work same = [](std::span<const Tensor> in) {
    return std::vector<Tensor>(in.begin(), in.end());
  };
  const Tensor here = random_tensor({3}, 1);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(call(std::vector{here}, same)[0].raw(), here.raw());
    EXPECT_EQ(call(std::vector{here, input(1)}, same)[0].raw(), here.raw());
    EXPECT_EQ(call({}, same).size(), 0u);
    EXPECT_FALSE(call.replayed());
  }
}

}  // namespace
}  // namespace sinopia::testing
