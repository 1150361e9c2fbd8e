#pragma once

#include "sinopia/backend/cuda/attention_tiles.h"
#include "sinopia/backend/cuda/dynamic_shared.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda {

/// Attention of heads of up to 256 channels after FlashAttention-2 (Dao 2023): a block holds some queries of
/// a head, goes through its keys in steps and keeps the running maximum, the sum of the weights and the
/// weighted sum of the values in registers, each warp for rows of its own. Keys are copied while values are
/// multiplied and the other way round. kColumns is D rounded up, kTall how many times 16 rows a warp has.
template <int kColumns, int kTall>
struct NarrowAttention {
  using Rows = TileRows<kColumns>;
  static constexpr int kWarps = 4, kThreads = kWarps * 32;
  static constexpr int kQueries = kWarps * kTall * 16;
  static constexpr int kKeys = kColumns <= 48 ? 48 : 64;  ///< of a step
  /// Whether the queries stay in registers, or are read from shared memory in each step.
  static constexpr bool kHoldQueries = kTall * Rows::kDepthSteps <= 8;
  static constexpr int kBlocks = kTall * kColumns <= 80 ? 3 : 2;  ///< on a multiprocessor at a time, at least
  static constexpr size_t kSharedBytes = size_t{kQueries + 2 * kKeys} * Rows::kStepBytes;
};

template <class T, int kColumns, int kTall>
__global__ void __launch_bounds__(NarrowAttention<kColumns, kTall>::kThreads,
                                  NarrowAttention<kColumns, kTall>::kBlocks)
    attend(const AttentionProblem<T> p, bool aligned) {
  using Plan = NarrowAttention<kColumns, kTall>;
  using Rows = typename Plan::Rows;
  constexpr int kQueries = Plan::kQueries, kKeys = Plan::kKeys, kThreads = Plan::kThreads;
  constexpr int kSteps = Rows::kDepthSteps, kStepBytes = Rows::kStepBytes, kTiles = kColumns / 8;
  constexpr int kHeld = Plan::kHoldQueries ? kSteps : 1;

  const BlockOfQueries<T> block(p, kQueries);
  const int64_t step = block.step;
  const int first_query = block.first_query, keys = block.keys;
  int64_t there = block.first_key_element;

  T* const queries_there = dynamic_shared<T>();
  T* const keys_there = queries_there + kQueries * Rows::kStep;
  T* const values_there = keys_there + kKeys * Rows::kStep;
  load_tile<kQueries, kColumns, kThreads>(queries_there, p.q + block.first_element, step,
                                          p.queries - first_query, p.columns, aligned);
  load_tile<kKeys, kColumns, kThreads>(keys_there, p.k + there, step, keys, p.columns, aligned);
  commit_copies();

  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first_row = warp * kTall * 16;
  const auto place = [&](int row, int column) {
    return static_cast<unsigned>(row * kStepBytes + column * 2);
  };
  const SharedAddress q_rows = shared_address(queries_there) + place(first_row + lane % 16, lane / 16 * 8);
  const SharedAddress k_rows = shared_address(keys_there) + place(lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8);
  const SharedAddress v_rows = shared_address(values_there) + place(lane % 16, lane / 16 * 8);

  // A factor above zero can wait until the largest score is known.
  const bool scale_first = block.bias || !(p.scale > 0);
  const float factor = scale_first ? 1.0f : p.scale;
  uint32_t q[kTall][kHeld][4];
  float sums[kTall][kTiles][4] = {}, maximum[kTall][2], total[kTall][2] = {};
#pragma unroll
  for (int m = 0; m < kTall; ++m) maximum[m][0] = maximum[m][1] = -std::numeric_limits<float>::infinity();

  for (int key = 0; key < keys; key += kKeys) {
    wait_for_copies<0>();
    __syncthreads();  // the keys are there, and nobody needs the values any more
    load_tile<kKeys, kColumns, kThreads>(values_there, p.v + there, step, keys - key, p.columns, aligned);
    commit_copies();
    if (Plan::kHoldQueries && key == 0) {
#pragma unroll
      for (int m = 0; m < kTall; ++m)
#pragma unroll
        for (int d = 0; d < kHeld; ++d) load_matrices(q[m][d], q_rows + place(m * 16, d * 16));
    }

    float scores[kTall][kKeys / 8][4] = {};
#pragma unroll
    for (int d = 0; d < kSteps; ++d) {
      if (!Plan::kHoldQueries) {
#pragma unroll
        for (int m = 0; m < kTall; ++m) load_matrices(q[m][0], q_rows + place(m * 16, d * 16));
      }
#pragma unroll
      for (int n = 0; n < kKeys; n += 16) {
        uint32_t b[4];
        load_matrices(b, k_rows + place(n, d * 16));
#pragma unroll
        for (int m = 0; m < kTall; ++m) {
          mma<T>(scores[m][n / 8], q[m][Plan::kHoldQueries ? d : 0], b[0], b[1]);
          mma<T>(scores[m][n / 8 + 1], q[m][Plan::kHoldQueries ? d : 0], b[2], b[3]);
        }
      }
    }
    wait_for_copies<0>();
    __syncthreads();  // the values are there, and nobody needs the keys any more
    there += kKeys * step;
    if (key + kKeys < keys)
      load_tile<kKeys, kColumns, kThreads>(keys_there, p.k + there, step, keys - key - kKeys, p.columns,
                                           aligned);
    commit_copies();

    const int query = first_query + first_row;
    if (scale_first) add_bias(scores, block.bias, query, key, p.queries, keys, p.keys, p.scale);
    if (key + kKeys > keys || (p.causal && key + kKeys > query + 1))
      mask_scores(scores, query, key, keys, p.causal);
    float shrink[kTall][2];
    {
      float highest[kTall][2];
      highest_of(scores, highest);
      if (raise_maximum(highest, factor, maximum, total, shrink)) shrink_sums(sums, shrink);
    }
    weigh(scores, maximum, factor, total);

#pragma unroll
    for (int s = 0; s < kKeys; s += 16) {
      uint32_t weights[kTall][4];
#pragma unroll
      for (int m = 0; m < kTall; ++m)
#pragma unroll
        for (int r = 0; r < 4; ++r)
          weights[m][r] =
              pack<T>(scores[m][s / 8 + r / 2][r % 2 * 2], scores[m][s / 8 + r / 2][r % 2 * 2 + 1]);
#pragma unroll
      for (int c = 0; c < kTiles; c += 2) {
        if (c + 1 < kTiles) {
          uint32_t b[4];
          load_matrices_transposed(b, v_rows + place(s, c * 8));
#pragma unroll
          for (int m = 0; m < kTall; ++m) {
            mma<T>(sums[m][c], weights[m], b[0], b[1]);
            mma<T>(sums[m][c + 1 < kTiles ? c + 1 : c], weights[m], b[2], b[3]);
          }
        } else {
          uint32_t b[2];
          load_matrices_transposed(b, v_rows + place(s, c * 8));
#pragma unroll
          for (int m = 0; m < kTall; ++m) mma<T>(sums[m][c], weights[m], b[0], b[1]);
        }
      }
    }
  }

  // Through shared memory, so that whole rows go out; the queries of these rows were this warp's alone.
  __syncwarp();
  T* const rows_there = queries_there + first_row * Rows::kStep;
#pragma unroll
  for (int m = 0; m < kTall; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      store_sums(sums[m], h, row_sum(total[m][h]), rows_there + (m * 16 + h * 8 + lane / 4) * Rows::kStep);
    }
  __syncwarp();
  store_rows<kTall * 16, kColumns>(rows_there, p.y + block.first_element + first_row * step, step,
                                   p.queries - first_query - first_row, p.columns, aligned);
}

template <class T, int kColumns, int kTall>
void attend_narrow(const AttentionProblem<T>& p, bool aligned) {
  using Plan = NarrowAttention<kColumns, kTall>;
  constexpr auto kernel = attend<T, kColumns, kTall>;
  static_assert(Plan::kSharedBytes <= size_t{99} << 10);
  allow_shared_memory(kernel, Plan::kSharedBytes);
  const int64_t blocks = p.batch * p.heads * ceil_div(p.queries, Plan::kQueries);
  launch(kernel, dim3(static_cast<unsigned>(blocks)), Plan::kThreads, Plan::kSharedBytes, p, aligned);
}

}  // namespace sinopia::cuda
