#include "sinopia/train/progress_view.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/train/smoothing.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using testing::kind_of;

TrainingProgress a_run() {
  return {.step = 250,
          .steps = 1000,
          .loss = 0.12345,
          .learning_rate = 1e-4,
          .samples_per_second = 3.21,
          .seconds_left = 3725,
          .memory_bytes = uint64_t{5} << 29,
          .skipped = 2};
}

TEST(ProgressView, IsOneLineOrMore) {
  EXPECT_THAT(
      progress_view(a_run(), 200),
      ElementsAre("step 250/1000 25%  loss 0.1235  2 skipped  1h 02m left  3.2 samples/s  lr 1.00e-04  2.5 "
                  "GiB  [=========                             ]"));
  EXPECT_THAT(progress_view(a_run(), 40), ElementsAre("step 250/1000 25%  loss 0.1235  2.5 GiB"));
  EXPECT_THAT(progress_view(a_run(), 44, 3),
              ElementsAre("step 250/1000 25%  loss 0.1235  2 skipped",
                          "1h 02m left  3.2 samples/s  lr 1.00e-04", "2.5 GiB"));
  EXPECT_THAT(progress_view({.step = 7}, 80), ElementsAre("step 7"));
  EXPECT_THAT(progress_view({.step = 999, .steps = 1000}, 31),
              ElementsAre("step 999/1000 99%  [========= ]"));
  EXPECT_THAT(progress_view({.step = 1000, .steps = 1000}, 32),
              ElementsAre("step 1000/1000 100%  [=========]"));
}

TEST(ProgressView, NeverExceedsItsWidth) {
  TrainingProgress progress = a_run();
  for (const int64_t step : {int64_t{0}, int64_t{250}, int64_t{1000}, int64_t{1} << 40}) {
    progress.step = step;
    for (int width = 20; width < 180; ++width) {
      for (int lines = 1; lines < 5; ++lines) {
        const auto view = progress_view(progress, width, lines);
        EXPECT_GE(view.size(), 1u);
        EXPECT_LE(static_cast<int>(view.size()), lines);
        for (const std::string& line : view) EXPECT_LE(static_cast<int>(line.size()), width);
      }
    }
  }
  EXPECT_EQ(kind_of([&] { progress_view(progress, 19); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { progress_view(progress, 80, 0); }), ErrorKind::InvalidArgument);
}

TEST(ProgressView, WritesDurations) {
  EXPECT_EQ(duration_text(0.4), "0s");
  EXPECT_EQ(duration_text(59.7), "1m 00s");
  EXPECT_EQ(duration_text(187), "3m 07s");
  EXPECT_EQ(duration_text(7500), "2h 05m");
  EXPECT_EQ(duration_text(4 * 86400 + 11 * 3600), "4d 11h");
  EXPECT_EQ(duration_text(INFINITY), "?");
  EXPECT_EQ(duration_text(-1), "?");
  EXPECT_EQ(duration_text(std::nan("")), "?");
}

TEST(RateEstimator, FollowsTheRecentPast) {
  RateEstimator rate(10);
  EXPECT_EQ(rate.rate(), 0);
  EXPECT_TRUE(std::isinf(rate.seconds_for(1)));
  rate.update(1000, 50);  // a run that goes on from step 50
  EXPECT_EQ(rate.rate(), 0);
  for (int i = 1; i <= 30; ++i) rate.update(1000 + i, 50 + 4 * i);
  EXPECT_NEAR(rate.rate(), 4, 1e-12);
  EXPECT_NEAR(rate.seconds_for(100), 25, 1e-9);
  rate.skip_to(5000);
  rate.update(5001, 174);
  EXPECT_NEAR(rate.rate(), 4, 1e-12);
  // Of a constant rate r1 after a long one r0: r0 + (r1 - r0) (1 - 2^-(t/h)), h the half life, in the limit
  // of small steps.
  for (int i = 1; i <= 1000; ++i) rate.update(5001 + 0.01 * i, 174 + 0.08 * i);
  EXPECT_NEAR(rate.rate(), 4 + 4 * 0.5 / (1 - std::exp2(-4.1)), 0.12);
  EXPECT_EQ(kind_of([&] { rate.update(1, 2000); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { RateEstimator(0); }), ErrorKind::InvalidArgument);
}

TEST(Smoothed, IsTheWeightedMean) {
  Smoothed mean(0.75);
  EXPECT_TRUE(std::isnan(mean.value()));
  mean.add(3);
  EXPECT_DOUBLE_EQ(mean.value(), 3);
  mean.add(std::nan(""));
  mean.add(5);
  mean.add(-2);
  EXPECT_DOUBLE_EQ(mean.value(), (0.5625 * 3 + 0.75 * 5 - 2) / (0.5625 + 0.75 + 1));
  Smoothed last(0);
  last.add(1);
  last.add(2);
  EXPECT_EQ(last.value(), 2);
  EXPECT_EQ(kind_of([] { Smoothed(1); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
