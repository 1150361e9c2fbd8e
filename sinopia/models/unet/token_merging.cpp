#include "sinopia/models/unet/token_merging.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "sinopia/ops/embedding.h"
#include "sinopia/ops/linear.h"
#include "sinopia/ops/norm.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

// Similarities that are held at once; there is one for each pair of a token and a destination.
constexpr int64_t kMaxSimilarities = int64_t{1} << 22;
constexpr float kEpsilon = 1e-20f;

struct Split {
  std::vector<int32_t> sources, destinations;  // token numbers, ascending
};

Split split_tokens(int64_t height, int64_t width, TorchCpuGenerator& random) {
  const int64_t columns = width / 2;
  std::vector<int64_t> corners(static_cast<size_t>(height / 2 * columns));
  random.randint(0, 4, corners);
  std::vector<bool> chosen(static_cast<size_t>(height * width));
  for (size_t i = 0; i < corners.size(); ++i) {
    const int64_t square = static_cast<int64_t>(i);
    const int64_t y = square / columns * 2 + corners[i] / 2, x = square % columns * 2 + corners[i] % 2;
    chosen[static_cast<size_t>(y * width + x)] = true;
  }
  Split split;
  for (size_t t = 0; t < chosen.size(); ++t)
    (chosen[t] ? split.destinations : split.sources).push_back(static_cast<int32_t>(t));
  return split;
}

Tensor rows(const Tensor& x, const std::vector<int32_t>& places) {
  return embedding(x, Tensor::from(Shape{static_cast<int64_t>(places.size())}, places));
}

// For each source the destination that it is most like, and how much, as if in one product; on the CPU.
RowMax most_alike(const Tensor& sources, const Tensor& destinations) {
  const int64_t S = sources.dim(0), D = destinations.dim(0), C = sources.dim(1);
  const int64_t piece = std::max<int64_t>(1, kMaxSimilarities / D);
  RowMax all{Tensor::empty(Shape{S}), Tensor::empty(Shape{S}, DType::I32)};
  for (int64_t begin = 0; begin < S; begin += piece) {
    const int64_t end = std::min(S, begin + piece);
    const Tensor alike = matmul(sources.slice(begin, end).reshape({1, end - begin, C}),
                                destinations.reshape({1, D, C}), Transpose::Right);
    const RowMax found = row_max(alike);
    const RowMax best{to_device(to_dtype(found.value, DType::F32), {}), to_device(found.place, {})};
    std::copy_n(best.value.data<float>(), end - begin, all.value.data<float>() + begin);
    std::copy_n(best.place.data<int32_t>(), end - begin, all.place.data<int32_t>() + begin);
  }
  return all;
}

}  // namespace

Tensor MergedTokens::merge(const Tensor& x) const { return group_mean(x, groups_, count_); }

Tensor MergedTokens::unmerge(const Tensor& y) const {
  const int64_t N = groups_.dim(0), T = groups_.dim(1), C = y.dim(2);
  std::vector<int32_t> places = groups_.to_vector<int32_t>();
  for (int64_t n = 1; n < N; ++n)
    for (int64_t t = 0; t < T; ++t)
      places[static_cast<size_t>(n * T + t)] += static_cast<int32_t>(n * count_);
  return rows(y.reshape({N * count_, C}), places).reshape({N, T, C});
}

std::optional<MergedTokens> TokenMerging::match(const Tensor& tokens, int64_t height, int64_t width) {
  const int64_t N = tokens.dim(0), T = tokens.dim(1), C = tokens.dim(2);
  SINOPIA_CHECK(T == height * width, InvalidArgument, "[token_merging] expected {}x{} tokens, got {}", height,
                width, describe(tokens));
  const int64_t wanted = static_cast<int64_t>(static_cast<double>(T) * ratio);
  if (wanted <= 0 || height < 2 || width < 2) return std::nullopt;
  const Split split = split_tokens(height, width, random);
  const int64_t S = static_cast<int64_t>(split.sources.size()), D = T - S, merged = std::min(S, wanted);

  std::vector<int32_t> groups(static_cast<size_t>(N * T));
  const Tensor directions = rms_norm(tokens, {}, kEpsilon);
  for (int64_t n = 0; n < N; ++n) {
    const Tensor all = directions.slice(n, n + 1).reshape({T, C});
    const RowMax best = most_alike(rows(all, split.sources), rows(all, split.destinations));
    const auto value = best.value.values<float>();
    const auto place = best.place.values<int32_t>();
    std::vector<int32_t> order(static_cast<size_t>(S));
    std::iota(order.begin(), order.end(), 0);
    const auto alike = [&](int32_t s) {
      const float v = value[static_cast<size_t>(s)];
      return std::isnan(v) ? -1.0f : v;
    };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return alike(a) > alike(b); });
    std::vector<bool> goes(static_cast<size_t>(S));
    for (int64_t i = 0; i < merged; ++i) goes[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;

    int32_t* group = groups.data() + n * T;
    for (size_t d = 0; d < split.destinations.size(); ++d)
      group[split.destinations[d]] = static_cast<int32_t>(d);
    int32_t next = static_cast<int32_t>(D);
    for (size_t s = 0; s < split.sources.size(); ++s) group[split.sources[s]] = goes[s] ? place[s] : next++;
  }
  return MergedTokens(Tensor::from(Shape{N, T}, groups), T - merged);
}

}  // namespace sinopia
