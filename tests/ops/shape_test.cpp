#include "sinopia/ops/shape.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "sinopia/backend/kernels.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

constexpr DType kAllTypes[] = {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8,
                               DType::U8,  DType::I16, DType::I32,  DType::I64, DType::Bool};

// Bytes that differ from element to element, of any type.
Tensor numbered(const Shape& shape, DType dtype) {
  Tensor x = Tensor::empty(shape, dtype);
  auto* bytes = static_cast<unsigned char*>(x.raw());
  const size_t size = size_of(dtype);
  for (size_t i = 0; i < static_cast<size_t>(x.numel()); ++i) {
    const uint64_t value = dtype == DType::Bool ? i * i % 3 % 2 : i * 2654435761u + 12345;
    std::memcpy(bytes + i * size, &value, size);
  }
  return x;
}

TEST(Convert, HalvesToFloatForEveryBitPattern) {
  std::vector<Half> halves;
  std::vector<BFloat16> bfloats;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    halves.push_back({static_cast<uint16_t>(bits)});
    bfloats.push_back({static_cast<uint16_t>(bits)});
  }
  for_each_instruction_set([&] {
    const Tensor from_half = to_dtype(Tensor::from(Shape{0x10000}, halves), DType::F32);
    const Tensor from_bfloat = to_dtype(Tensor::from(Shape{0x10000}, bfloats), DType::F32);
    for (size_t i = 0; i < 0x10000; ++i) {
      for (const auto& [got, expected] : {std::pair{from_half.data<float>()[i], to_float(halves[i])},
                                          std::pair{from_bfloat.data<float>()[i], to_float(bfloats[i])}}) {
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(got)) << i;
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected)) << i;
        }
      }
    }
  });
}

// Around every half: itself, the ties between neighbours, and what lies just beside a tie.
TEST(Convert, FloatToHalvesRoundsToNearestEven) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 0xffff; ++bits) {
    const float here = to_float(Half{static_cast<uint16_t>(bits)});
    const float next = to_float(Half{static_cast<uint16_t>(bits + 1)});
    for (float v : {here, here + (next - here) / 2}) {
      x.insert(x.end(), {v, std::nextafter(v, 1e30f), std::nextafter(v, -1e30f)});
    }
    x.push_back(std::bit_cast<float>(bits << 16 | 0x8000));
    x.push_back(std::bit_cast<float>(bits << 16 | 0x7fff));
    x.push_back(std::bit_cast<float>(bits << 16 | 0x8001));
  }
  const Tensor source = Tensor::from(Shape{static_cast<int64_t>(x.size())}, x);
  for_each_instruction_set([&] {
    const Tensor half = to_dtype(source, DType::F16), bfloat = to_dtype(source, DType::BF16);
    for (size_t i = 0; i < x.size(); ++i) {
      const Half h = half.data<Half>()[i];
      const BFloat16 b = bfloat.data<BFloat16>()[i];
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(to_float(h)) && std::isnan(to_float(b))) << x[i];
      } else {
        ASSERT_EQ(h.bits, to_half(x[i]).bits) << x[i];
        ASSERT_EQ(b.bits, to_bfloat16(x[i]).bits) << x[i];
      }
    }
  });
}

TEST(Convert, SmallWholeNumbersSurviveEveryPair) {
  const std::vector<int32_t> numbers = {0, 1, 2, 3, 5, 8, 13, 100, 127, 1, 0};
  const Tensor start = Tensor::from(Shape{11}, numbers);
  for_each_instruction_set([&] {
    for (DType from : kAllTypes) {
      for (DType to : kAllTypes) {
        if (from == DType::Bool || to == DType::Bool) continue;
        const Tensor back = to_dtype(to_dtype(to_dtype(start, from), to), DType::I32);
        EXPECT_EQ(back.to_vector<int32_t>(), numbers) << to_string(from) << " to " << to_string(to);
      }
    }
  });
  Tensor flags = Tensor::from(Shape{3}, std::span<const bool>(std::array{true, false, true}));
  for (DType to : kAllTypes) {
    if (to == DType::Bool) continue;
    EXPECT_EQ(to_dtype(to_dtype(flags, to), DType::I32).to_vector<int32_t>(),
              (std::vector<int32_t>{1, 0, 1}));
  }
}

TEST(Convert, OutOfRangeBecomesTheNearestEnd) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x =
      Tensor::from(Shape{8}, std::vector<float>{-inf, inf, nan, 1e30f, -1e30f, -1.9f, 255.9f, 2147483648.0f});
  EXPECT_EQ(to_dtype(x, DType::U8).to_vector<uint8_t>(),
            (std::vector<uint8_t>{0, 255, 0, 255, 0, 0, 255, 255}));
  EXPECT_EQ(to_dtype(x, DType::I8).to_vector<int8_t>(),
            (std::vector<int8_t>{-128, 127, 0, 127, -128, -1, 127, 127}));
  constexpr int32_t low = std::numeric_limits<int32_t>::min(), high = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(to_dtype(x, DType::I32).to_vector<int32_t>(),
            (std::vector<int32_t>{low, high, 0, high, low, -1, 255, high}));
  const Tensor d = Tensor::from(Shape{3}, std::vector<double>{1e300, -9.3e18, 4503599627370497.0});
  EXPECT_EQ(to_dtype(d, DType::I64).to_vector<int64_t>(),
            (std::vector<int64_t>{std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(),
                                  4503599627370497}));
}

TEST(Convert, SharesWhatHasTheTypeAlready) {
  const Tensor x = random_tensor({3}, 1);
  EXPECT_EQ(to_dtype(x, DType::F32).raw(), x.raw());
  EXPECT_EQ(to_dtype(Tensor::empty({0, 2}), DType::F16).shape(), (Shape{0, 2}));
  expect_error(ErrorKind::Unsupported, "[to_dtype]", [&] { to_dtype(x, DType::Bool); });
  const Tensor large = random_tensor({100003}, 2);
  expect_same_for_any_thread_count([&] { return to_dtype(large, DType::F16); });
}

TEST(Fill, EveryElement) {
  for (int64_t n : {0, 1, 100000}) {
    const Tensor y = full({n, 2}, 1.5f);
    EXPECT_TRUE(std::ranges::all_of(y.values<float>(), [](float v) { return v == 1.5f; }));
  }
  EXPECT_EQ(zeros(Shape{}).to_vector<float>(), std::vector<float>{0.0f});
  for (DType dtype : kAllTypes) {
    Tensor y = Tensor::empty({5}, dtype);
    kernels({}).fill(y, 1);
    EXPECT_EQ(to_dtype(y, DType::I32).to_vector<int32_t>(), std::vector<int32_t>(5, 1));
  }
}

// y[i_axes...] = x[i...], one element at a time.
void expect_permuted(const Tensor& x, const Tensor& y, const std::vector<int>& axes) {
  const size_t size = size_of(x.dtype());
  const auto rank = static_cast<size_t>(x.rank());
  std::vector<int64_t> x_step(rank, 1);
  for (size_t i = rank; i-- > 1;) x_step[i - 1] = x_step[i] * x.dim(static_cast<int>(i));
  for (size_t i = 0; i < rank; ++i) ASSERT_EQ(y.dim(static_cast<int>(i)), x.dim(axes[i]));
  for (int64_t at = 0; at < y.numel(); ++at) {
    int64_t rest = at, from = 0;
    for (size_t i = rank; i-- > 0;) {
      from += rest % y.dim(static_cast<int>(i)) * x_step[static_cast<size_t>(axes[i])];
      rest /= y.dim(static_cast<int>(i));
    }
    ASSERT_EQ(std::memcmp(static_cast<const char*>(y.raw()) + static_cast<size_t>(at) * size,
                          static_cast<const char*>(x.raw()) + static_cast<size_t>(from) * size, size),
              0)
        << to_string(x.shape()) << " at " << at;
  }
}

TEST(Permute, EveryOrderOfEveryRankAndType) {
  for (const Shape& shape : {Shape{}, Shape{5}, Shape{3, 4}, Shape{2, 3, 5}, Shape{2, 1, 3, 7},
                             Shape{3, 2, 1, 5, 2}, Shape{2, 3, 2, 3, 2, 3}}) {
    for (DType dtype : {DType::U8, DType::F16, DType::F32, DType::I64}) {
      const Tensor x = numbered(shape, dtype);
      std::vector<int> axes(static_cast<size_t>(shape.rank()));
      std::iota(axes.begin(), axes.end(), 0);
      do {
        expect_permuted(x, permute(x, axes), axes);
      } while (std::next_permutation(axes.begin(), axes.end()));
    }
  }
}

TEST(Permute, LargeTranspositions) {
  for (DType dtype : {DType::U8, DType::F16, DType::F32, DType::F64}) {
    for (const Shape& shape :
         {Shape{2, 3, 65, 67}, Shape{1, 70, 33, 35}, Shape{37, 67, 3, 3}, Shape{3, 1030, 1, 5},
          Shape{2, 2, 1, 40000}, Shape{1, 8, 8, 8}, Shape{1, 64, 16, 16}}) {
      const Tensor x = numbered(shape, dtype);
      expect_permuted(x, channels_last(x), {0, 2, 3, 1});
      expect_permuted(x, channels_first(x), {0, 3, 1, 2});
      expect_permuted(x, permute(x, {2, 1, 0, 3}), {2, 1, 0, 3});
      EXPECT_TRUE(same_bits(channels_first(channels_last(x)), x));
    }
  }
  const Tensor x = numbered({2, 65, 67, 33}, DType::F32);
  expect_same_for_any_thread_count([&] { return channels_last(x); });
}

TEST(Permute, EmptyAndErrors) {
  EXPECT_EQ(permute(Tensor::empty({0, 2, 3}), {2, 0, 1}).shape(), (Shape{3, 0, 2}));
  const Tensor x = Tensor::empty({2, 3});
  for (const std::vector<int>& axes : {std::vector<int>{0}, {0, 0}, {0, 2}, {-1, 0}, {0, 1, 2}}) {
    expect_error(ErrorKind::InvalidArgument, "[permute] expected each axis of [2,3] once",
                 [&] { permute(x, axes); });
  }
  expect_error(ErrorKind::InvalidArgument, "[channels_last] expected x with 4 axes",
               [&] { channels_last(x); });
  expect_error(ErrorKind::InvalidArgument, "[permute]", [] { permute(Tensor(), std::vector<int>{}); });
}

TEST(ConcatAndNarrow, UndoEachOther) {
  for (const Shape& shape :
       {Shape{6}, Shape{6, 5}, Shape{3, 6, 4}, Shape{2, 6, 6, 3}, Shape{2, 6, 3, 2, 6}}) {
    for (DType dtype : kAllTypes) {
      const Tensor x = numbered(shape, dtype);
      for (int axis = 0; axis < shape.rank(); ++axis) {
        const int64_t extent = shape.dim(axis), cut = extent / 2;
        const Tensor a = narrow(x, axis, 0, cut), b = narrow(x, axis, cut, extent),
                     none = narrow(x, axis, 1, 1);
        EXPECT_EQ(a.dim(axis), cut);
        EXPECT_TRUE(same_bits(concat({a, none, b}, axis), x));
        EXPECT_TRUE(same_bits(concat({a, b}, axis - shape.rank()), x));
      }
    }
  }
}

TEST(ConcatAndNarrow, TakeTheRightElements) {
  const Tensor x = random_tensor({2, 3, 4}, 1), y = random_tensor({2, 2, 4}, 2);
  const Tensor joined = concat({x, y}, 1);
  ASSERT_EQ(joined.shape(), (Shape{2, 5, 4}));
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t c = 0; c < 4; ++c) {
        const float expected =
            i < 3 ? x.data<float>()[(n * 3 + i) * 4 + c] : y.data<float>()[(n * 2 + i - 3) * 4 + c];
        EXPECT_EQ(joined.data<float>()[(n * 5 + i) * 4 + c], expected);
      }
    }
  }
  const Tensor middle = narrow(x, -1, 1, 3);
  ASSERT_EQ(middle.shape(), (Shape{2, 3, 2}));
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(middle.data<float>()[i], x.data<float>()[i / 2 * 4 + 1 + i % 2]);
}

TEST(ConcatAndNarrow, LargePieces) {
  const Tensor x = random_tensor({300001}, 1), y = random_tensor({70001}, 2);
  const Tensor joined = concat({x, y}, 0);
  EXPECT_TRUE(same_bits(joined.slice(0, 300001), x));
  EXPECT_TRUE(same_bits(joined.slice(300001, 370002), y));
  const Tensor a = random_tensor({2, 200003}, 3), b = random_tensor({2, 5}, 4);
  const Tensor wide = concat({a, b}, 1);
  EXPECT_TRUE(same_bits(narrow(wide, 1, 0, 200003), a));
  EXPECT_TRUE(same_bits(narrow(wide, 1, 200003, 200008), b));
  expect_same_for_any_thread_count([&] { return concat({a, b}, 1); });
}

TEST(ConcatAndNarrow, ViewsAndErrors) {
  const Tensor x = random_tensor({4, 3}, 1);
  EXPECT_EQ(narrow(x, 0, 1, 3).raw(), x.data<float>() + 3);
  EXPECT_EQ(concat({x}, 1).raw(), x.raw());
  EXPECT_EQ(narrow(x, 1, 2, 2).shape(), (Shape{4, 0}));
  expect_error(ErrorKind::InvalidArgument, "[narrow] expected 0 <= begin <= end <= 3",
               [&] { narrow(x, 1, 2, 4); });
  expect_error(ErrorKind::InvalidArgument, "[narrow]", [&] { narrow(x, 0, -1, 2); });
  expect_error(ErrorKind::InvalidArgument, "[narrow] no axis 2 in [4,3]", [&] { narrow(x, 2, 0, 1); });
  expect_error(ErrorKind::InvalidArgument, "[concat] expected f32 [4,3] but for axis 1, got f32 [3,3]", [&] {
    concat({x, x.slice(0, 3)}, 1);
  });
  expect_error(ErrorKind::InvalidArgument, "got f16 [4,3]", [&] { concat({x, to_dtype(x, DType::F16)}, 1); });
  expect_error(ErrorKind::InvalidArgument, "got absent", [&] { concat({x, Tensor()}, 1); });
  expect_error(ErrorKind::InvalidArgument, "[concat] expected at least one tensor",
               [] { concat(std::span<const Tensor>(), 0); });
  expect_error(ErrorKind::InvalidArgument, "[concat] no axis -3", [&] { concat({x, x}, -3); });
}

TEST(ExpandBatch, RepeatsABatchOfOne) {
  const Tensor x = random_tensor({1, 2, 3}, 1);
  const Tensor y = expand_batch(x, 3);
  ASSERT_EQ(y.shape(), (Shape{3, 2, 3}));
  for (int64_t n = 0; n < 3; ++n) EXPECT_TRUE(same_bits(y.slice(n, n + 1), x));
  EXPECT_EQ(expand_batch(y, 3).raw(), y.raw());
  EXPECT_EQ(expand_batch(x, 0).shape(), (Shape{0, 2, 3}));
  expect_error(ErrorKind::InvalidArgument, "[expand_batch] expected a batch of 1 or 2",
               [&] { expand_batch(y, 2); });
}

}  // namespace
}  // namespace sinopia
