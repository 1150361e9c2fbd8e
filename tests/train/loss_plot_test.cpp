#include "sinopia/train/loss_plot.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/train/canvas.h"
#include "sinopia/train/glyphs.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using testing::kind_of;

constexpr Color kBlack{0, 0, 0};

double ink(const Canvas& canvas, Box box) {
  double sum = 0;
  for (int y = box.top; y < box.bottom; ++y) {
    for (int x = box.left; x < box.right; ++x) sum += (255 - canvas.image().pixel(y, x)[0]) / 255.0;
  }
  return sum;
}

TEST(Glyphs, AreAllDifferentAndFilled) {
  std::set<std::array<uint8_t, 7>> seen;
  const std::string drawn =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,:;+-_=*/()[]<>%#!?'\"&@|~^$";
  for (const char c : drawn) {
    const auto rows = glyph(c);
    EXPECT_NE(rows, glyph(' ')) << c;
    EXPECT_NE(rows, glyph('\x01')) << c;
    for (const uint8_t row : rows) EXPECT_LT(row, 32) << c;
    EXPECT_TRUE(seen.insert(rows).second) << c;
  }
  EXPECT_EQ(glyph('\xe4'), glyph('\x01'));
}

TEST(Canvas, DrawsLinesOfTheirWidth) {
  const Box all{0, 0, 200, 120};
  for (const Point to : {Point{160.2, 20.7}, Point{40.3, 100.1}, Point{150.5, 90.5}}) {
    Canvas canvas(200, 120, {});
    const Point line[] = {{40.3, 20.7}, to};
    canvas.polyline(line, 3, kBlack, 1, all);
    const double length = std::hypot(to.x - 40.3, to.y - 20.7);
    // The line and a round end on either side, of radius 1.5.
    EXPECT_NEAR(ink(canvas, all), 3 * length + 7.1, 0.02 * length);
  }
}

TEST(Canvas, CrossingsAreNoDarkerAndGapsStayEmpty) {
  const Box all{0, 0, 100, 40};
  Canvas once(100, 40, {}), twice(100, 40, {});
  const Point line[] = {{10, 20}, {90, 20}}, back[] = {{10, 20}, {90, 20}, {10, 20}};
  once.polyline(line, 2, kBlack, 0.5, all);
  twice.polyline(back, 2, kBlack, 0.5, all);
  EXPECT_EQ(once.image().pixels, twice.image().pixels);
  const double nan = std::nan("");
  const Point gap[] = {{10, 20}, {30, 20}, {40, nan}, {50, 20}, {60, nan}, {70, 20}, {90, 20}};
  Canvas gaps(100, 40, {});
  gaps.polyline(gap, 2, kBlack, 1, {0, 0, 85, 40});
  EXPECT_EQ(ink(gaps, {32, 0, 48, 40}), 0);
  EXPECT_GT(ink(gaps, {48, 0, 52, 40}), 2);
  EXPECT_EQ(ink(gaps, {85, 0, 100, 40}), 0);
}

TEST(Canvas, LeavesOutWhatLiesOutside) {
  Canvas canvas(20, 10, {});
  const double far = 1e300;
  const Point line[] = {{-far, 5}, {5, 5}, {far, far}};
  canvas.polyline(line, 2, kBlack, 1, {-5, -5, 50, 50});
  canvas.text(-3, -2, "Axy", 2, kBlack);
  canvas.text(15, 8, "Axy", 2, kBlack);
  canvas.fill({-4, 9, 400, 400}, kBlack);
  EXPECT_EQ(ink(canvas, {0, 9, 20, 10}), 20);
  EXPECT_EQ(Canvas::text_width("abc", 2), 34);
  EXPECT_EQ(Canvas::text_width("", 2), 0);
}

TEST(LossPlot, HasRoundTicks) {
  EXPECT_THAT(axis_ticks(0, 1, 5), ElementsAre(0, ::testing::DoubleEq(0.2), ::testing::DoubleEq(0.4),
                                               ::testing::DoubleEq(0.6), ::testing::DoubleEq(0.8), 1));
  EXPECT_THAT(axis_ticks(-700, 1900, 4), ElementsAre(0, 1000));
  EXPECT_THAT(logarithmic_ticks(0.015, 1.2, 9),
              ElementsAre(::testing::DoubleEq(0.02), ::testing::DoubleEq(0.05), ::testing::DoubleEq(0.1),
                          ::testing::DoubleEq(0.2), ::testing::DoubleEq(0.5), 1));
  EXPECT_EQ(logarithmic_ticks(1e-12, 1e12, 8).size(), 7u);
  EXPECT_THAT(logarithmic_ticks(0.21, 0.24, 3),
              ElementsAre(::testing::DoubleEq(0.21), ::testing::DoubleEq(0.22), ::testing::DoubleEq(0.23),
                          ::testing::DoubleEq(0.24)));
  EXPECT_EQ(tick_label(0.30000000000000004), "0.3");
  EXPECT_EQ(tick_label(-0.0 + 0.0), "0");
  EXPECT_EQ(tick_label(20000), "20k");
  EXPECT_EQ(tick_label(1.5e6), "1.5M");
  EXPECT_EQ(tick_label(1e-5), "1e-05");
  EXPECT_EQ(tick_label(1000), "1000");
}

std::vector<LossSeries> a_run(size_t count) {
  std::mt19937 engine(5);
  std::normal_distribution<double> normal;
  std::vector<LossSeries> series{{"training", {}, {}}, {"validation", {}, {}}};
  for (size_t i = 0; i < count; ++i) {
    const double t = static_cast<double>(i), course = 0.08 + 0.9 * std::exp(-t / 900);
    series[0].steps.push_back(t);
    series[0].values.push_back(i == count / 2 ? 1e6 : course * std::exp(0.3 * normal(engine)));
    if (i % 250 != 0) continue;
    series[1].steps.push_back(t);
    series[1].values.push_back(1.15 * course * std::exp(0.03 * normal(engine)));
  }
  return series;
}

// SINOPIA_KEEP_PLOTS names a folder for the pictures, to be looked at.
TEST(LossPlot, ShowsTheCurves) {
  for (const bool logarithmic : {false, true}) {
    const Image plot = plot_losses(
        a_run(6000), {.title = "LoRA on 24 pictures, SD 1.5", .logarithmic = logarithmic, .smoothing = 0.97});
    EXPECT_EQ(plot.width, 1000);
    EXPECT_EQ(plot.height, 600);
    // The smoothed line of the first series, in its own colour, in most columns of the plot.
    int columns = 0;
    for (int x = 0; x < plot.width; ++x) {
      bool found = false;
      for (int y = 0; y < plot.height; ++y) {
        const uint8_t* p = plot.pixel(y, x);
        found |= p[0] == 31 && p[1] == 88 && p[2] == 181;
      }
      columns += found;
    }
    EXPECT_GT(columns, 700);
    if (const char* folder = std::getenv("SINOPIA_KEEP_PLOTS"))
      write_image(std::filesystem::path(folder) / (logarithmic ? "logarithmic.png" : "linear.png"), plot);
  }
}

TEST(LossPlot, FallingLossesFall) {
  LossSeries falling{"", {0, 1, 2, 3}, {4, 3, 2, 1}};
  const Image plot = plot_losses({&falling, 1}, {.smoothing = 0});
  const auto height_at = [&](int x) {
    for (int y = 0; y < plot.height; ++y) {
      if (plot.pixel(y, x)[2] > plot.pixel(y, x)[0] + 100) return y;
    }
    return -1;
  };
  EXPECT_GT(height_at(200), 0);
  EXPECT_GT(height_at(500), height_at(200) + 100);
  EXPECT_GT(height_at(900), height_at(500) + 100);
}

TEST(LossPlot, StandsWhatRunsBring) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const std::vector<LossSeries> odd[] = {
      {},
      {{"empty", {}, {}}},
      {{"one", {7}, {0.5}}},
      {{"same", {1, 2, 3}, {0.25, 0.25, 0.25}}},
      {{"one ulp apart", {1e15, 1e15 + 0.125}, {1e15, 1e15 + 0.125}}},
      {{"nothing finite", {1, 2, 3}, {nan, infinity, -infinity}}},
      {{"not above 0", {1, 2, 3}, {0, -1, -2}}},
      {{"huge", {1, 2, 3}, {1e300, 1e-300, -1e300}}},
      {{"gaps", {1, 2, 3, 4}, {1, nan, 2, 3}}, {"", {2, 2, 2}, {1, 3, 2}}}};
  for (const auto& series : odd) {
    for (const bool logarithmic : {false, true}) {
      for (const double smoothing : {0.0, 0.9}) {
        EXPECT_EQ(
            plot_losses(series,
                        {.width = 320, .height = 200, .logarithmic = logarithmic, .smoothing = smoothing})
                .width,
            320);
      }
    }
  }
  const auto refused = [](LossSeries series, LossPlotOptions options = {}) {
    return kind_of([&] { plot_losses({&series, 1}, options); });
  };
  EXPECT_EQ(refused({"", {1, 2}, {1}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused({"", {2, 1}, {1, 1}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused({"", {nan}, {1}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused({"", {1}, {1}}, {.width = 100}), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused({"", {1}, {1}}, {.smoothing = 1}), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
