#include <algorithm>
#include <cmath>
#include <vector>

#include "sinopia/backend/cpu/cast.h"
#include "sinopia/backend/cpu/cpu_kernels.h"
#include "sinopia/base/threads.h"

namespace sinopia {
namespace {

// w [..,R,C] cut into strips of whole rows of one matrix, for work whose cuts depend on the shape alone.
struct Strips {
  int64_t R, C, rows, per_matrix, count, grain;

  Strips(int64_t numel, int64_t R_, int64_t C_)
      : R(R_),
        C(C_),
        rows(std::clamp<int64_t>(kMemoryGrain / std::max<int64_t>(C_, 1), 1, std::max<int64_t>(R_, 1))),
        per_matrix((R_ + rows - 1) / rows),
        count(numel == 0 ? 0 : numel / (R_ * C_) * per_matrix),
        grain(std::max<int64_t>(1, kMemoryGrain / std::max<int64_t>(rows * C_, 1))) {}

  int64_t pieces() const { return (count + grain - 1) / grain; }
  int64_t matrix(int64_t strip) const { return strip / per_matrix; }
  /// Counted through all matrices.
  int64_t first_row(int64_t strip) const { return matrix(strip) * R + strip % per_matrix * rows; }
  int64_t last_row(int64_t strip) const { return std::min(first_row(strip) + rows, (matrix(strip) + 1) * R); }
};

double total(const std::vector<double>& parts) {
  double sum = 0;
  for (double part : parts) sum += part;
  return sum;
}

// The squared gradient's means over rows and columns go on.
void follow(const Strips& s, const float* gradient, float scale, float eps, double beta2, float* rows,
            float* columns) {
  const auto keep = static_cast<float>(beta2),
             fresh_row = static_cast<float>((1 - beta2) / static_cast<double>(s.C)),
             fresh_column = static_cast<float>((1 - beta2) / static_cast<double>(s.R));
  // Sums of the strips, where a matrix has more than one.
  std::vector<double> partial(static_cast<size_t>(s.per_matrix > 1 ? s.count * s.C : 0));
  const auto mix = [&](int64_t matrix, int64_t c, double sum) {
    float& column = columns[matrix * s.C + c];
    column = column * keep + static_cast<float>(sum) * fresh_column;
  };
  parallel_for(s.count, s.grain, [&](int64_t begin, int64_t end) {
    std::vector<double> own(static_cast<size_t>(s.C));
    for (int64_t strip = begin; strip < end; ++strip) {
      double* sums = s.per_matrix > 1 ? partial.data() + strip * s.C : own.data();
      std::fill(sums, sums + s.C, 0.0);
      for (int64_t r = s.first_row(strip); r < s.last_row(strip); ++r) {
        double row = 0;
        for (int64_t c = 0; c < s.C; ++c) {
          const float g = gradient[r * s.C + c] * scale;
          const double square = static_cast<double>(g * g + eps);
          row += square;
          sums[c] += square;
        }
        rows[r] = rows[r] * keep + static_cast<float>(row) * fresh_row;
      }
      if (s.per_matrix > 1) continue;
      for (int64_t c = 0; c < s.C; ++c) mix(s.matrix(strip), c, sums[c]);
    }
  });
  if (s.per_matrix == 1) return;
  parallel_for(s.count / s.per_matrix * s.C, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t matrix = i / s.C, c = i % s.C;
      double sum = 0;
      for (int64_t k = 0; k < s.per_matrix; ++k)
        sum += partial[static_cast<size_t>((matrix * s.per_matrix + k) * s.C + c)];
      mix(matrix, c, sum);
    }
  });
}

// visit(piece, first element, count, row factor, column factors) for every row: an element's update is its
// gradient times both factors.
template <class Visit>
void for_updates(const Strips& s, const float* rows, const float* columns, const Visit& visit) {
  parallel_for(s.count, s.grain, [&](int64_t begin, int64_t end) {
    std::vector<float> column(static_cast<size_t>(s.C));
    for (int64_t strip = begin; strip < end; ++strip) {
      const int64_t matrix = s.matrix(strip);
      double sum = 0;
      for (int64_t r = 0; r < s.R; ++r) sum += static_cast<double>(rows[matrix * s.R + r]);
      const auto mean = static_cast<float>(sum / static_cast<double>(s.R));
      for (int64_t c = 0; c < s.C; ++c)
        column[static_cast<size_t>(c)] = 1 / std::sqrt(columns[matrix * s.C + c]);
      for (int64_t r = s.first_row(strip); r < s.last_row(strip); ++r)
        visit(begin / s.grain, r * s.C, s.C, 1 / std::sqrt(rows[r] / mean), column.data());
    }
  });
}

}  // namespace

void CpuKernels::adafactor(const OptimizerStep& step, const AdafactorConstants& constants,
                           const Tensor& gradient, Tensor& w, Tensor& rows, Tensor& columns, Tensor& m,
                           Tensor& stored) {
  if (w.numel() == 0) return;
  const bool factored = columns.defined();
  const int64_t count = w.numel();
  // Without factors, a row is a piece of the elements.
  const Strips strips(count, factored ? rows.dim(-1) : 1, factored ? columns.dim(-1) : count);
  const float* g = gradient.data<float>();
  float *ws = w.data<float>(), *row = rows.data<float>(),
        *column = factored ? columns.data<float>() : nullptr, *mean = m ? m.data<float>() : nullptr;
  const auto n = static_cast<double>(count);
  const auto scale = static_cast<float>(step.gradient_scale), eps = static_cast<float>(constants.eps);
  const double beta2 = 1 - std::pow(static_cast<double>(step.number), constants.decay_rate);

  double rate = step.learning_rate;
  if (constants.least_scale > 0) rate *= std::max(constants.least_scale, std::sqrt(sum_of_squares(w) / n));

  // visit(piece, first element, count, factor of an element)
  const auto for_all = [&](const auto& visit) {
    if (factored) {
      for_updates(strips, row, column,
                  [&](int64_t piece, int64_t from, int64_t length, float row_factor, const float* factors) {
                    visit(piece, from, length, [=](int64_t i) { return row_factor * factors[i]; });
                  });
    } else {
      parallel_for(count, kMemoryGrain, [&](int64_t begin, int64_t end) {
        visit(begin / kMemoryGrain, begin, end - begin,
              [at = row + begin](int64_t i) { return 1 / std::sqrt(at[i]); });
      });
    }
  };

  if (factored) {
    follow(strips, g, scale, eps, beta2, row, column);
  } else {
    const auto keep = static_cast<float>(beta2), fresh = static_cast<float>(1 - beta2);
    parallel_for(count, kMemoryGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float scaled = g[i] * scale;
        row[i] = row[i] * keep + (scaled * scaled + eps) * fresh;
      }
    });
  }

  std::vector<double> parts(
      static_cast<size_t>(factored ? strips.pieces() : (count + kMemoryGrain - 1) / kMemoryGrain));
  for_all([&](int64_t piece, int64_t from, int64_t length, const auto& factor) {
    double sum = 0;
    for (int64_t i = 0; i < length; ++i) {
      const auto update = static_cast<double>(factor(i) * (g[from + i] * scale));
      sum += update * update;
    }
    parts[static_cast<size_t>(piece)] += sum;
  });
  const double rms = std::sqrt(total(parts) / n);
  const auto move = static_cast<float>(rate / std::max(1.0, rms / constants.clip_threshold));
  const auto keep = static_cast<float>(1 - rate * step.weight_decay),
             beta1 = static_cast<float>(constants.beta1), fresh = static_cast<float>(1 - constants.beta1);
  for_all([&](int64_t, int64_t from, int64_t length, const auto& factor) {
    for (int64_t i = 0; i < length; ++i) {
      float update = factor(i) * (g[from + i] * scale) * move;
      if (mean) update = mean[from + i] = mean[from + i] * beta1 + update * fresh;
      ws[from + i] = ws[from + i] * keep - update;
    }
  });
  if (stored) convert(w, stored);
}

}  // namespace sinopia
