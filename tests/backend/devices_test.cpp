#include "sinopia/backend/devices.h"

#include "tests/kind_of.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

TEST(Devices, AreOpenedByTheirNames) {
  EXPECT_TRUE(open_device("cpu").is_cpu());
  EXPECT_EQ(device_name(open_device("cpu")), "cpu");
  EXPECT_EQ(free_device_memory({}), 0u);
  synchronise({});
  for (const char* name :
       {"", "CPU", "gpu", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:99999999999", "cuda0", "cpu:0"})
    EXPECT_EQ(kind_of([&] { open_device(name); }), ErrorKind::InvalidArgument) << name;
}

TEST(Devices, SayWhyThereIsNoGpu) {
  if (gpu_obstacle().empty()) GTEST_SKIP() << "there is a GPU";
  EXPECT_TRUE(open_device("auto").is_cpu());
  for (const char* name : {"cuda", "cuda:0", "cuda:3"})
    expect_error(ErrorKind::Unsupported, gpu_obstacle(), [&] { open_device(name); });
  EXPECT_EQ(kind_of([] { Tensor::empty({2}, DType::F32, {DeviceType::Cuda, 0}); }), ErrorKind::Unsupported);
}

}  // namespace
}  // namespace sinopia
