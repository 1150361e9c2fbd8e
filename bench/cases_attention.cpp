#include <cmath>

#include <fmt/format.h>

#include "bench/bench.h"

namespace sinopia::bench {
namespace {

void add(std::vector<Case>& cases, const std::string& where, int64_t B, int64_t T, int64_t S, int H,
         int64_t D, bool causal = false) {
  Case c;
  c.family = "attention";
  c.name = fmt::format("{} {}x{}x{}, {} heads of {}{}", where, B, T, S, H, D, causal ? ", causal" : "");
  c.flops = 4.0 * static_cast<double>(B * H * D * T * S) * (causal ? 0.5 : 1);
  c.bytes = 8.0 * static_cast<double>(B * H * D * (T + S));
  c.prepare = [=] {
    const Tensor q = random_tensor({B, T, H * D}), k = random_tensor({B, S, H * D}),
                 v = random_tensor({B, S, H * D});
    const AttentionOptions options{.heads = H, .scale = 0, .causal = causal};
    Tensor y = empty_like(q);
    Prepared p;
    p.contenders.push_back({"ours", [=]() mutable { cpu_kernels().attention(q, k, v, {}, options, y); }, y});
    p.tolerance = 3e-6;
    p.reference = [=](int64_t i) {
      const int64_t column = i % (H * D), head = column / D, t = i / (H * D) % T, b = i / (H * D) / T;
      const int64_t seen = causal ? std::min(S, t + 1) : S;
      double total = 0;
      Prepared::Value sum{0, 0};
      for (int64_t s = 0; s < seen; ++s) {
        double score = 0;
        for (int64_t d = 0; d < D; ++d)
          score +=
              element(q, ((b * T + t) * H + head) * D + d) * element(k, ((b * S + s) * H + head) * D + d);
        const double weight = std::exp(score / std::sqrt(static_cast<double>(D)));
        const double value = element(v, (b * S + s) * H * D + column);
        total += weight;
        sum.value += weight * value;
        sum.magnitude += weight * std::abs(value);
      }
      return Prepared::Value{sum.value / total, sum.magnitude / total};
    };
    return p;
  };
  cases.push_back(std::move(c));
}

}  // namespace

void add_attentions(std::vector<Case>& cases) {
  add(cases, "SD1.5 self", 2, 4096, 4096, 8, 40);
  add(cases, "SD1.5 self", 2, 1024, 1024, 8, 80);
  add(cases, "SD1.5 self", 2, 256, 256, 8, 160);
  add(cases, "SD1.5 self", 2, 64, 64, 8, 160);
  add(cases, "SD1.5 cross", 2, 4096, 77, 8, 40);
  add(cases, "SD1.5 cross", 2, 1024, 77, 8, 80);
  add(cases, "SD1.5 cross", 2, 256, 77, 8, 160);
  add(cases, "SDXL self", 2, 4096, 4096, 10, 64);
  add(cases, "SDXL self", 2, 1024, 1024, 20, 64);
  add(cases, "CLIP-L", 2, 77, 77, 12, 64, true);
  add(cases, "VAE", 1, 4096, 4096, 1, 512);
}

}  // namespace sinopia::bench
