#pragma once

#include "sinopia/backend/cuda/attention_narrow.h"

namespace sinopia::cuda {

/// Attention of heads of up to 512 channels, such as the one of an autoencoder. The weighted sums of a row
/// are too many for one warp: kSplit warps share their rows, each with its part of the columns. For the
/// scores the same warps share the keys of a step instead, and weights go through shared memory.
template <int kRowWarps, int kSplit_, int kTall, int kKeys_>
struct WideAttention {
  static constexpr int kColumns = kMostAttentionColumns;
  using Rows = TileRows<kColumns>;
  static constexpr int kWarps = kRowWarps * kSplit_, kThreads = kWarps * 32;
  static constexpr int kSplit = kSplit_, kQueries = kRowWarps * kTall * 16;
  static constexpr int kKeys = kKeys_, kKeyPart = kKeys / kSplit, kColumnPart = kColumns / kSplit;
  static constexpr int kWeightStep = kKeys + 8;  ///< elements from row to row, without bank conflicts
  static constexpr size_t kSharedBytes = size_t{kQueries + 2 * kKeys} * Rows::kStepBytes +
                                         kQueries * kWeightStep * 2 + kQueries * kSplit * sizeof(float);
};

template <class T, class Plan, int kTall>
__global__ void __launch_bounds__(Plan::kThreads) attend_wide(const AttentionProblem<T> p, bool aligned) {
  using Rows = typename Plan::Rows;
  constexpr int kColumns = Plan::kColumns, kThreads = Plan::kThreads, kSplit = Plan::kSplit;
  constexpr int kQueries = Plan::kQueries, kKeys = Plan::kKeys, kKeyPart = Plan::kKeyPart;
  constexpr int kStepBytes = Rows::kStepBytes, kTiles = Plan::kColumnPart / 8;

  const BlockOfQueries<T> block(p, kQueries);
  const int64_t step = block.step;
  const int first_query = block.first_query, keys = block.keys;
  int64_t there = block.first_key_element;

  T* const queries_there = dynamic_shared<T>();
  T* const keys_there = queries_there + kQueries * Rows::kStep;
  T* const values_there = keys_there + kKeys * Rows::kStep;
  T* const weights_there = values_there + kKeys * Rows::kStep;
  float* const of_parts = reinterpret_cast<float*>(weights_there + kQueries * Plan::kWeightStep);
  load_tile<kQueries, kColumns, kThreads>(queries_there, p.q + block.first_element, step,
                                          p.queries - first_query, p.columns, aligned);
  load_tile<kKeys, kColumns, kThreads>(keys_there, p.k + there, step, keys, p.columns, aligned);
  commit_copies();

  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int part = warp % kSplit, first_row = warp / kSplit * kTall * 16;
  const int key_part = part * kKeyPart, column_part = part * Plan::kColumnPart;
  const auto place = [](int row, int column) { return static_cast<unsigned>(row * kStepBytes + column * 2); };
  const auto weight_place = [](int row, int key) {
    return static_cast<unsigned>((row * Plan::kWeightStep + key) * 2);
  };
  const SharedAddress q_rows = shared_address(queries_there) + place(first_row + lane % 16, lane / 16 * 8);
  const SharedAddress k_rows =
      shared_address(keys_there) + place(key_part + lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8);
  const SharedAddress v_rows = shared_address(values_there) + place(lane % 16, column_part + lane / 16 * 8);
  const SharedAddress w_rows =
      shared_address(weights_there) + weight_place(first_row + lane % 16, lane / 16 * 8);

  const bool scale_first = block.bias || !(p.scale > 0);
  const float factor = scale_first ? 1.0f : p.scale;
  float sums[kTall][kTiles][4] = {}, maximum[kTall][2], total[kTall][2] = {};
#pragma unroll
  for (int m = 0; m < kTall; ++m) maximum[m][0] = maximum[m][1] = -std::numeric_limits<float>::infinity();

  for (int key = 0; key < keys; key += kKeys) {
    wait_for_copies<0>();
    __syncthreads();  // the keys are there, and nobody needs values and weights any more
    load_tile<kKeys, kColumns, kThreads>(values_there, p.v + there, step, keys - key, p.columns, aligned);
    commit_copies();

    float scores[kTall][kKeyPart / 8][4] = {};
#pragma unroll 4
    for (int d = 0; d < kColumns; d += 16) {
      uint32_t q[kTall][4];
#pragma unroll
      for (int m = 0; m < kTall; ++m) load_matrices(q[m], q_rows + place(m * 16, d));
      if constexpr (kKeyPart % 16 == 0) {
#pragma unroll
        for (int n = 0; n < kKeyPart; n += 16) {
          uint32_t b[4];
          load_matrices(b, k_rows + place(n, d));
#pragma unroll
          for (int m = 0; m < kTall; ++m) {
            mma<T>(scores[m][n / 8], q[m], b[0], b[1]);
            mma<T>(scores[m][n / 8 + 1], q[m], b[2], b[3]);
          }
        }
      } else {
        static_assert(kKeyPart == 8);
        uint32_t b[2];
        load_matrices(b, k_rows + place(0, d));
#pragma unroll
        for (int m = 0; m < kTall; ++m) mma<T>(scores[m][0], q[m], b[0], b[1]);
      }
    }
    const int query = first_query + first_row;
    if (scale_first) add_bias(scores, block.bias, query, key + key_part, p.queries, keys, p.keys, p.scale);
    if (key + kKeys > keys || (p.causal && key + kKeys > query + 1))
      mask_scores(scores, query, key + key_part, keys, p.causal);
    float highest[kTall][2];
    highest_of(scores, highest);
    const auto row_of = [&](int m, int h) { return first_row + m * 16 + h * 8 + lane / 4; };
    if (lane % 4 == 0) {
#pragma unroll
      for (int m = 0; m < kTall; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) of_parts[part * kQueries + row_of(m, h)] = highest[m][h];
    }
    wait_for_copies<0>();
    __syncthreads();  // the values and the maxima are there, and nobody needs the keys any more
    there += kKeys * step;
    if (key + kKeys < keys)
      load_tile<kKeys, kColumns, kThreads>(keys_there, p.k + there, step, keys - key - kKeys, p.columns,
                                           aligned);
    commit_copies();

#pragma unroll
    for (int m = 0; m < kTall; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < kSplit; ++i)
          highest[m][h] = fmaxf(highest[m][h], of_parts[i * kQueries + row_of(m, h)]);
    float shrink[kTall][2];
    if (raise_maximum(highest, factor, maximum, total, shrink)) shrink_sums(sums, shrink);
    weigh(scores, maximum, factor, total);
#pragma unroll
    for (int m = 0; m < kTall; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int n = 0; n < kKeyPart / 8; ++n)
          *reinterpret_cast<uint32_t*>(weights_there + row_of(m, h) * Plan::kWeightStep + key_part + n * 8 +
                                       lane % 4 * 2) = pack<T>(scores[m][n][2 * h], scores[m][n][2 * h + 1]);
    __syncthreads();  // the weights are there

#pragma unroll
    for (int s = 0; s < kKeys; s += 16) {
      uint32_t weights[kTall][4];
#pragma unroll
      for (int m = 0; m < kTall; ++m) load_matrices(weights[m], w_rows + weight_place(m * 16, s));
#pragma unroll
      for (int c = 0; c < kTiles; c += 2) {
        uint32_t b[4];
        load_matrices_transposed(b, v_rows + place(s, c * 8));
#pragma unroll
        for (int m = 0; m < kTall; ++m) {
          mma<T>(sums[m][c], weights[m], b[0], b[1]);
          mma<T>(sums[m][c + 1], weights[m], b[2], b[3]);
        }
      }
    }
  }

  // Totals, like the maxima, are joined over the parts; results go through the place of the queries.
  __syncthreads();
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float all = row_sum(total[m][h]);
      if (lane % 4 == 0) of_parts[part * kQueries + first_row + m * 16 + h * 8 + lane / 4] = all;
    }
  __syncthreads();
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + m * 16 + h * 8 + lane / 4;
      float all = 0;
#pragma unroll
      for (int i = 0; i < kSplit; ++i) all += of_parts[i * kQueries + row];
      store_sums(sums[m], h, all, queries_there + row * Rows::kStep + column_part);
    }
  __syncthreads();
  constexpr int kRowsOut = kQueries / Plan::kWarps;
  store_rows<kRowsOut, kColumns>(queries_there + warp * kRowsOut * Rows::kStep,
                                 p.y + block.first_element + warp * kRowsOut * step, step,
                                 p.queries - first_query - warp * kRowsOut, p.columns, aligned);
}

template <class T, int kRowWarps, int kSplit, int kTall, int kKeys>
void attend_wide(const AttentionProblem<T>& p, bool aligned) {
  using Plan = WideAttention<kRowWarps, kSplit, kTall, kKeys>;
  constexpr void (*kernel)(AttentionProblem<T>, bool) = attend_wide<T, Plan, kTall>;
  allow_shared_memory(kernel, Plan::kSharedBytes);
  const int64_t blocks = p.batch * p.heads * ceil_div(p.queries, Plan::kQueries);
  launch(kernel, dim3(static_cast<unsigned>(blocks)), Plan::kThreads, Plan::kSharedBytes, p, aligned);
}

}  // namespace sinopia::cuda
