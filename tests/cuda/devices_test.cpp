#include "sinopia/ops/elementwise.h"
#include "tests/cuda/on_gpu.h"

namespace sinopia {
namespace {

using namespace testing;

class DevicesOnGpu : public OnGpu {};

TEST_F(DevicesOnGpu, AreOpenedByTheirNames) {
  EXPECT_EQ(open_device("cuda"), (Device{DeviceType::Cuda, 0}));
  EXPECT_EQ(open_device("cuda:0"), device());
  EXPECT_EQ(open_device("auto"), device());
  EXPECT_TRUE(has_gpu_backend());
  EXPECT_FALSE(device_name(device()).empty());
  EXPECT_GT(free_device_memory(device()), size_t{1} << 20);
  EXPECT_EQ(kind_of([] { open_device("cuda:15"); }), ErrorKind::Unsupported);
  EXPECT_EQ(kind_of([] { open_device("cuda:x"); }), ErrorKind::InvalidArgument);
  synchronise(device());
}

TEST_F(DevicesOnGpu, TensorsGoThereAndBack) {
  for (const DType dtype : {DType::F32, DType::F16, DType::I32, DType::Bool, DType::F64}) {
    const Tensor x = to_dtype(random_tensor({3, 5, 7}, 1), dtype == DType::Bool ? DType::U8 : dtype);
    const Tensor y = copy_to(x, device());
    EXPECT_EQ(y.device(), device());
    EXPECT_TRUE(same_bits(copy_to(y, Device{}), x));
    EXPECT_EQ(copy_to(y, device()).raw(), y.raw());
    EXPECT_THAT(describe(y), ::testing::HasSubstr("on cuda:0"));
    EXPECT_EQ(kind_of([&] { y.to_vector<float>(); }), ErrorKind::InvalidArgument);
  }
  const Tensor nothing = copy_to(Tensor::empty({0, 4}), device());
  EXPECT_EQ(nothing.shape(), (Shape{0, 4}));
  EXPECT_EQ(kind_of([] { copy_to({}, Device{}); }), ErrorKind::InvalidArgument);
}

// Where one operand is elsewhere, or of another type, an op says so.
TEST_F(DevicesOnGpu, OpsWantTheirOperandsTogether) {
  const Tensor here = random_tensor({4}, 1), there = copy_to(here, device());
  EXPECT_EQ(kind_of([&] { here + there; }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { there + here; }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { there + to_dtype(there, DType::F16); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { to_dtype(here, DType::F16) + to_dtype(here, DType::F16); }),
            ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
