#include "sinopia/train/codebook_use.h"

#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

Tensor codes(const std::vector<int32_t>& values) {
  return Tensor::from(Shape{static_cast<int64_t>(values.size())}, values);
}

TEST(CodebookUse, CountsOverAllThatWasAdded) {
  CodebookUse use(5);
  EXPECT_EQ(use.perplexity(), 0);
  EXPECT_EQ(use.share_used(), 0);
  use.add(codes({3, 3, 3}));
  EXPECT_NEAR(use.perplexity(), 1, 1e-12);
  EXPECT_NEAR(use.share_used(), 0.2, 1e-12);
  use.add(codes({0, 0, 0}).reshape({1, 3, 1}));
  EXPECT_NEAR(use.perplexity(), 2, 1e-12);
  use.add(codes({4, 0}));
  // Shares 3/8, 4/8 and 1/8.
  EXPECT_NEAR(use.perplexity(), std::pow(8.0 / 3, 3.0 / 8) * std::pow(2.0, 0.5) * std::pow(8.0, 1.0 / 8),
              1e-12);
  EXPECT_NEAR(use.share_used(), 0.6, 1e-12);
}

TEST(CodebookUse, IsTheNumberOfEntriesWhereAllAreEqual) {
  CodebookUse use(300);
  std::vector<int32_t> all(300);
  for (int32_t i = 0; i < 300; ++i) all[static_cast<size_t>(i)] = i;
  use.add(codes(all));
  EXPECT_NEAR(use.perplexity(), 300, 1e-9);
  EXPECT_EQ(use.share_used(), 1);
}

TEST(CodebookUse, RefusesCodesThatDoNotExist) {
  CodebookUse use(4);
  expect_error(ErrorKind::InvalidArgument, "[codebook use] expected codes in [0,4), got 4", [&] {
    use.add(codes({1, 4}));
  });
  expect_error(ErrorKind::InvalidArgument, "got -1", [&] { use.add(codes({-1})); });
}

}  // namespace
}  // namespace sinopia
