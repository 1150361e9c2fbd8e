#include "sinopia/train/loss_plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "sinopia/train/canvas.h"
#include "sinopia/train/smoothing.h"

namespace sinopia {
namespace {

constexpr Color kPaper{255, 255, 255}, kInk{40, 40, 45}, kGrid{228, 228, 232};
// Apart in lightness too, for those who do not tell colours apart.
constexpr Color kColors[] = {{31, 88, 181}, {214, 96, 24},  {30, 138, 84},
                             {178, 34, 84}, {112, 78, 170}, {110, 96, 60}};

struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  double first_pixel = 0, last_pixel = 1;

  double pixel(double value) const {
    const auto at = [this](double v) { return logarithmic ? (v > 0 ? std::log(v) : std::nan("")) : v; };
    return first_pixel + (at(value) - at(low)) / (at(high) - at(low)) * (last_pixel - first_pixel);
  }
};

std::vector<double> smoothed(const LossSeries& series, double smoothing, bool positive) {
  Smoothed mean(smoothing);
  std::vector<double> result;
  for (const double v : series.values) {
    if (!positive || v > 0) mean.add(v);
    result.push_back(mean.value());
  }
  return result;
}

// Of few values less, lest the line lag far behind them.
double smoothing_of(const LossSeries& series, double asked) {
  constexpr double kWindows = 20;
  const double most = 1 - kWindows / static_cast<double>(std::max<size_t>(1, series.values.size()));
  return std::min(asked, std::max(0.0, most));
}

// By so much that ticks between them are different numbers.
bool differ(const Axis& axis) {
  return axis.high - axis.low > 1e-9 * std::max(std::abs(axis.low), std::abs(axis.high));
}

// The range of the values that are to be seen.
void fit_values(Axis& axis, std::span<const LossSeries> series, double smoothing) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  axis.low = kNone;
  axis.high = -kNone;
  for (const LossSeries& s : series) {
    std::vector<double> shown;
    std::copy_if(s.values.begin(), s.values.end(), std::back_inserter(shown),
                 [&](double v) { return std::isfinite(v) && (v > 0 || !axis.logarithmic); });
    if (shown.empty()) continue;
    std::sort(shown.begin(), shown.end());
    const size_t extreme = smoothing_of(s, smoothing) > 0 ? shown.size() / 100 : 0;
    axis.low = std::min(axis.low, shown[extreme]);
    axis.high = std::max(axis.high, shown[shown.size() - 1 - extreme]);
  }
  if (axis.low == kNone) {
    axis.low = axis.logarithmic ? 0.1 : 0;
    axis.high = 1;
    return;
  }
  if (axis.logarithmic) {
    const double margin = differ(axis) ? std::pow(axis.high, 0.04) / std::pow(axis.low, 0.04) : 1.5;
    axis.low = std::max(axis.low / margin, std::numeric_limits<double>::min());
    axis.high = std::min(axis.high * margin, std::numeric_limits<double>::max());
  } else {
    const double margin = differ(axis) ? 0.04 * (axis.high - axis.low) : std::max(0.5, std::abs(axis.low));
    axis.low -= margin;
    axis.high += margin;
  }
}

void fit_steps(Axis& axis, std::span<const LossSeries> series) {
  axis.low = std::numeric_limits<double>::infinity();
  axis.high = -axis.low;
  for (const LossSeries& s : series) {
    if (s.steps.empty()) continue;
    axis.low = std::min(axis.low, s.steps.front());
    axis.high = std::max(axis.high, s.steps.back());
  }
  if (!std::isfinite(axis.low)) {
    axis.low = 0;
    axis.high = 1;
  }
  if (!differ(axis)) {
    const double margin = std::max(0.5, 1e-6 * std::abs(axis.low));
    axis.low -= margin;
    axis.high += margin;
  }
}

// First, least, largest and last point of each column of pixels: what is seen of them all.
std::vector<Point> thinned(const std::vector<Point>& points) {
  std::vector<Point> result;
  for (size_t begin = 0; begin < points.size();) {
    size_t end = begin + 1, least = begin, largest = begin;
    const bool finite = std::isfinite(points[begin].y);
    for (; end < points.size() && std::floor(points[end].x) == std::floor(points[begin].x) &&
           std::isfinite(points[end].y) == finite;
         ++end) {
      if (points[end].y < points[least].y) least = end;
      if (points[end].y > points[largest].y) largest = end;
    }
    size_t kept[] = {begin, std::min(least, largest), std::max(least, largest), end - 1};
    const size_t* last = std::unique(std::begin(kept), std::end(kept));
    for (const size_t* k = kept; k != last; ++k) result.push_back(points[*k]);
    begin = end;
  }
  return result;
}

void draw_axes(Canvas& canvas, const Axis& x, const Axis& y, const LossPlotOptions& options, Box area,
               int scale) {
  const int height = Canvas::text_height(scale);
  const int labels_x = std::max(2, (area.right - area.left) / (14 * 6 * scale / 2)),
            labels_y = std::max(2, (area.bottom - area.top) / (4 * height));
  for (const double tick : axis_ticks(x.low, x.high, labels_x)) {
    const int at = static_cast<int>(std::floor(x.pixel(tick)));
    const std::string label = tick_label(tick);
    canvas.fill({at, area.top, at + 1, area.bottom}, kGrid);
    canvas.fill({at, area.bottom, at + 1, area.bottom + 5}, kInk);
    canvas.text(at - Canvas::text_width(label, scale) / 2, area.bottom + 9, label, scale, kInk);
  }
  for (const double tick :
       y.logarithmic ? logarithmic_ticks(y.low, y.high, labels_y) : axis_ticks(y.low, y.high, labels_y)) {
    const int at = static_cast<int>(std::floor(y.pixel(tick)));
    const std::string label = tick_label(tick);
    canvas.fill({area.left, at, area.right, at + 1}, kGrid);
    canvas.fill({area.left - 5, at, area.left, at + 1}, kInk);
    canvas.text(area.left - 9 - Canvas::text_width(label, scale), at - height / 2, label, scale, kInk);
  }
  canvas.fill({area.left - 1, area.top, area.left, area.bottom + 1}, kInk);
  canvas.fill({area.left - 1, area.bottom, area.right, area.bottom + 1}, kInk);
  canvas.text(area.left, area.top - height - 8, options.value_name + (options.logarithmic ? " (log)" : ""),
              scale, kInk);
  canvas.text((area.left + area.right - Canvas::text_width(options.title, scale)) / 2, area.top - height - 8,
              options.title, scale, kInk);
  canvas.text((area.left + area.right - Canvas::text_width(options.step_name, scale)) / 2,
              area.bottom + 9 + height + 6, options.step_name, scale, kInk);
}

void draw_legend(Canvas& canvas, std::span<const LossSeries> series, Box area, int scale) {
  int widest = 0;
  for (const LossSeries& s : series) widest = std::max(widest, Canvas::text_width(s.name, scale));
  if (widest == 0) return;
  const int row = Canvas::text_height(scale) + 8, mark = 24;
  const int left = area.right - widest - mark - 30, top = area.top + 8;
  canvas.fill({left, top, area.right - 8, top + row * static_cast<int>(series.size()) + 8}, kPaper, 0.85);
  for (size_t i = 0; i < series.size(); ++i) {
    const int y = top + 8 + row * static_cast<int>(i);
    const double middle = y + Canvas::text_height(scale) / 2.0;
    const Point ends[] = {{left + 8.0, middle}, {left + 8.0 + mark, middle}};
    canvas.polyline(ends, 3, kColors[i % std::size(kColors)], 1, area);
    canvas.text(left + mark + 16, y, series[i].name, scale, kInk);
  }
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int count) {
  const double rough = (high - low) / std::max(1, count), power = std::pow(10, std::floor(std::log10(rough)));
  double apart = 10 * power;
  for (const double nice : {5.0, 2.0, 1.0}) {
    if (nice * power >= rough) apart = nice * power;
  }
  std::vector<double> result;
  for (double k = std::ceil(low / apart); k * apart <= high; ++k)
    result.push_back(k * apart + 0.0);  // not -0
  return result;
}

std::vector<double> logarithmic_ticks(double low, double high, int count) {
  const auto all = [&](std::initializer_list<double> factors) {
    std::vector<double> result;
    for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
      for (const double factor : factors) {
        const double tick = factor * std::pow(10, power);
        if (tick >= low && tick <= high) result.push_back(tick);
      }
    }
    return result;
  };
  std::vector<double> ticks = all({1, 2, 5});
  if (ticks.size() < 3) return axis_ticks(low, high, count);
  if (static_cast<int>(ticks.size()) > count) ticks = all({1});
  // Many decades: every second, third, ..
  const size_t every =
      (ticks.size() + static_cast<size_t>(std::max(count, 1)) - 1) / static_cast<size_t>(std::max(count, 1));
  std::vector<double> result;
  for (size_t i = 0; i < ticks.size(); i += every) result.push_back(ticks[i]);
  return result;
}

std::string tick_label(double value) {
  const double size = std::abs(value);
  if (size >= 1e9 || (size > 0 && size < 1e-4)) return fmt::format("{:.3g}", value);
  if (size >= 1e6) return fmt::format("{:.6g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.6g}k", value / 1e3);
  return fmt::format("{:.6g}", value);
}

Image plot_losses(std::span<const LossSeries> series, const LossPlotOptions& options) {
  SINOPIA_CHECK(options.width >= 320 && options.height >= 200, InvalidArgument,
                "[loss plot] expected at least 320 x 200 pixels, got {} x {}", options.width, options.height);
  SINOPIA_CHECK(options.smoothing >= 0 && options.smoothing < 1, InvalidArgument,
                "[loss plot] expected a smoothing in [0,1), got {}", options.smoothing);
  for (const LossSeries& s : series) {
    SINOPIA_CHECK(
        s.steps.size() == s.values.size() &&
            std::all_of(s.steps.begin(), s.steps.end(), [](double v) { return std::isfinite(v); }) &&
            std::is_sorted(s.steps.begin(), s.steps.end()),
        InvalidArgument, "[loss plot] expected ascending steps, one a value, got {} and {} in '{}'",
        s.steps.size(), s.values.size(), s.name);
  }
  const int scale = options.width >= 640 ? 2 : 1, height = Canvas::text_height(scale);
  const Box area{11 * 6 * scale / 2 + 24, height + 22, options.width - 28, options.height - 2 * height - 26};
  Canvas canvas(options.width, options.height, kPaper);
  Axis x{.first_pixel = static_cast<double>(area.left), .last_pixel = static_cast<double>(area.right) - 1};
  Axis y{.logarithmic = options.logarithmic,
         .first_pixel = static_cast<double>(area.bottom) - 1,
         .last_pixel = static_cast<double>(area.top)};
  fit_steps(x, series);
  fit_values(y, series, options.smoothing);
  draw_axes(canvas, x, y, options, area, scale);

  const auto draw = [&](size_t i, const std::vector<double>& values, double width, double opacity) {
    std::vector<Point> points;
    for (size_t k = 0; k < values.size(); ++k)
      points.push_back({x.pixel(series[i].steps[k]), y.pixel(values[k])});
    canvas.polyline(thinned(points), width, kColors[i % std::size(kColors)], opacity, area);
  };
  // The strong lines above all faint ones.
  for (size_t i = 0; i < series.size(); ++i) {
    if (smoothing_of(series[i], options.smoothing) > 0) draw(i, series[i].values, 1, 0.28);
  }
  for (size_t i = 0; i < series.size(); ++i) {
    const double smoothing = smoothing_of(series[i], options.smoothing);
    draw(i, smoothing > 0 ? smoothed(series[i], smoothing, options.logarithmic) : series[i].values, 2.4, 1);
  }
  draw_legend(canvas, series, area, scale);
  return canvas.image();
}

}  // namespace sinopia
