#include "sinopia/diffusion/brownian.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

void append_words(std::vector<uint32_t>& words, uint64_t value) {
  words.push_back(static_cast<uint32_t>(value));
  if (value >> 32) words.push_back(static_cast<uint32_t>(value >> 32));
}

// The first word that NumPy's SeedSequence(entropy, spawn_key=spawn_key, pool_size=24) generates; no spawn
// key for the root of the tree.
uint32_t seed_sequence(uint64_t entropy, std::span<const uint64_t> spawn_key) {
  constexpr size_t kPool = 24;
  std::vector<uint32_t> words;
  append_words(words, entropy);
  if (!spawn_key.empty()) words.resize(kPool, 0);
  for (const uint64_t key : spawn_key) append_words(words, key);

  uint32_t hash = 0x43b0d7e5;
  const auto hashed = [&hash](uint32_t value) {
    value ^= hash;
    hash *= 0x931e8875;
    value *= hash;
    return value ^ value >> 16;
  };
  const auto mixed = [](uint32_t x, uint32_t y) {
    const uint32_t z = 0xca01f9dd * x - 0x4973f715 * y;
    return z ^ z >> 16;
  };
  std::array<uint32_t, kPool> pool;
  for (size_t i = 0; i < kPool; ++i) pool[i] = hashed(i < words.size() ? words[i] : 0);
  for (size_t from = 0; from < kPool; ++from) {
    for (size_t to = 0; to < kPool; ++to) {
      if (from != to) pool[to] = mixed(pool[to], hashed(pool[from]));
    }
  }
  for (size_t from = kPool; from < words.size(); ++from) {
    for (uint32_t& word : pool) word = mixed(word, hashed(words[from]));
  }
  uint32_t state = (pool[0] ^ 0x8b51f9dd) * (0x8b51f9dd * 0x58f38ded);
  return state ^ state >> 16;
}

// Six decimals, decided on the exact binary value as Python's round() does.
double round_time(double t) {
  char text[64];
  std::snprintf(text, sizeof text, "%.6f", t);
  return std::strtod(text, nullptr);
}

class BrownianTree {
 public:
  BrownianTree(RngKind kind, uint64_t seed, size_t size, double start, double end)
      : kind_(kind), seed_(seed), start_(round_time(start)), end_(round_time(end)) {
    root_ = draw(seed_sequence(seed, {}), size);
    const float deviation = static_cast<float>(std::sqrt(end - start));
    for (float& w : root_) w *= deviation;
  }

  // W(to) - W(from) for from <= to.
  std::vector<float> increment(double from, double to) const {
    from = round_time(std::clamp(from, start_, end_));
    to = round_time(std::clamp(to, start_, end_));
    std::vector<float> sum(root_.size(), 0.0f);
    if (from < to) add({start_, end_, 0, 0, root_}, from, to, sum);
    return sum;
  }

 private:
  struct Node {
    double start, end;
    uint64_t key, depth;
    std::vector<float> W;
  };

  std::vector<float> draw(uint32_t seed, size_t size) const {
    std::vector<float> noise(size);
    make_generator(kind_, seed)->normal(noise);
    return noise;
  }

  // Adds the increments of the largest nodes that make up [from,to], from left to right.
  void add(const Node& node, double from, double to, std::vector<float>& sum) const {
    if (from == node.start && to == node.end) {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += node.W[i];
      return;
    }
    const double middle = round_time(0.5 * (node.end + node.start));
    const double left_span = middle - node.start, right_span = node.end - middle;
    const double reciprocal = 1 / (node.end - node.start);
    const auto scale = static_cast<float>(left_span), share = static_cast<float>(reciprocal);
    const auto deviation = static_cast<float>(std::sqrt(left_span * right_span * reciprocal));
    const uint64_t spawn_key[] = {node.key, node.depth};
    std::vector<float> left = draw(seed_sequence(seed_, spawn_key), sum.size());
    for (size_t i = 0; i < left.size(); ++i) left[i] = scale * node.W[i] * share + deviation * left[i];
    std::vector<float> right(left.size());
    for (size_t i = 0; i < left.size(); ++i) right[i] = node.W[i] - left[i];
    if (from < middle) {
      add({node.start, middle, 2 * node.key, node.depth + 1, std::move(left)}, from, std::min(to, middle),
          sum);
    }
    if (to > middle) {
      add({middle, node.end, 2 * node.key + 1, node.depth + 1, std::move(right)}, std::max(from, middle), to,
          sum);
    }
  }

  RngKind kind_;
  uint64_t seed_;
  double start_, end_;
  std::vector<float> root_;
};

}  // namespace

NoiseSource brownian_noise(RngKind kind, std::vector<uint64_t> seeds, const Shape& shape, double sigma_min,
                           double sigma_max) {
  SINOPIA_CHECK(shape.rank() == 4 && shape[0] == static_cast<int64_t>(seeds.size()), InvalidArgument,
                "[noise] expected one seed for each image of {}, got {}", to_string(shape), seeds.size());
  SINOPIA_CHECK(sigma_min >= 0 && sigma_min < sigma_max, InvalidArgument,
                "[noise] expected 0 <= sigma_min < sigma_max, got {} and {}", sigma_min, sigma_max);
  // The reference's times are float32.
  const auto time = [](double sigma) { return static_cast<double>(static_cast<float>(sigma)); };
  const auto size = static_cast<size_t>(shape.numel() / std::max<int64_t>(shape[0], 1));
  auto trees = std::make_shared<std::vector<BrownianTree>>();
  for (const uint64_t seed : seeds) trees->emplace_back(kind, seed, size, time(sigma_min), time(sigma_max));
  return [trees, shape, time](double sigma_from, double sigma_to) {
    const double low = time(std::min(sigma_from, sigma_to)), high = time(std::max(sigma_from, sigma_to));
    // The tree runs from sigma_min up; the way down has the other sign.
    const float root = std::sqrt(static_cast<float>(high) - static_cast<float>(low));
    const float scale = sigma_from > sigma_to ? -root : root;
    std::vector<float> values;
    for (const BrownianTree& tree : *trees) {
      for (const float w : tree.increment(low, high)) values.push_back(w / scale);
    }
    const Shape channels_first_shape{shape[0], shape[3], shape[1], shape[2]};
    return channels_last(Tensor::from<float>(channels_first_shape, values));
  };
}

}  // namespace sinopia
