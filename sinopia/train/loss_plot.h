#pragma once

#include <span>
#include <string>
#include <vector>

#include "sinopia/io/image.h"

namespace sinopia {

/// Values over steps, which ascend. What is not finite makes a gap in the faint line.
struct LossSeries {
  std::string name;  ///< ASCII, for the legend
  std::vector<double> steps, values;
};

struct LossPlotOptions {
  int width = 1000, height = 600;  ///< pixels, from 320 x 200
  std::string title = "";
  std::string value_name = "loss", step_name = "step";
  bool logarithmic = false;  ///< the axis of values; those not above 0 make gaps
  double smoothing = 0.98;   ///< of the strong line, see Smoothed; 0: the values alone; less for few values
};

/// A chart: each series as a faint line of its values and a strong one of their smoothed course. The axis
/// holds all of a series but the 1 % that are the most extreme at either end, where it is smoothed, so that
/// an outlier does not flatten the rest. Without any point the axes are empty. Throws InvalidArgument for
/// options out of range and for series whose steps and values differ in number or whose steps do not ascend.
Image plot_losses(std::span<const LossSeries> series, const LossPlotOptions& options = {});

/// Round numbers from low to high > low, about `count` of them, 1, 2 or 5 times a power of ten apart.
std::vector<double> axis_ticks(double low, double high, int count);
/// 1, 2 and 5 times powers of ten from low > 0 to high, or powers of ten alone where those are many; as
/// axis_ticks where there are fewer than three.
std::vector<double> logarithmic_ticks(double low, double high, int count);
/// "0.05", "1e-05", "20k", "1.5M".
std::string tick_label(double value);

}  // namespace sinopia
