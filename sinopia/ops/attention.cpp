#include "sinopia/ops/attention.h"

#include <array>

#include "sinopia/autograd/tape.h"
#include "sinopia/ops/checks.h"

namespace sinopia {

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 const Tensor& bias) {
  checks::activation("attention", "q", q);
  checks::operand("attention", "k", k, q);
  checks::operand("attention", "v", v, q);
  checks::rank("attention", "q", q, 3);
  checks::rank("attention", "k", k, 3);
  SINOPIA_CHECK(k.dim(0) == q.dim(0) && k.dim(2) == q.dim(2) && v.shape() == k.shape(), InvalidArgument,
                "[attention] expected k and v [{},S,{}], got k={} and v={} (q={})", q.dim(0), q.dim(2),
                to_string(k.shape()), to_string(v.shape()), to_string(q.shape()));
  SINOPIA_CHECK(options.heads >= 1 && q.dim(2) % options.heads == 0, InvalidArgument,
                "[attention] expected heads that divide {}, got {}", q.dim(2), options.heads);
  SINOPIA_CHECK(k.dim(1) >= 1, InvalidArgument, "[attention] expected at least one key, got k={}",
                to_string(k.shape()));
  if (bias.defined()) {
    checks::operand("attention", "bias", bias, q);
    checks::rank("attention", "bias", bias, 4);
    const bool batch_fits = bias.dim(0) == 1 || bias.dim(0) == q.dim(0);
    const bool heads_fit = bias.dim(1) == 1 || bias.dim(1) == options.heads;
    SINOPIA_CHECK(batch_fits && heads_fit && bias.dim(2) == q.dim(1) && bias.dim(3) == k.dim(1),
                  InvalidArgument, "[attention] expected bias [1 or {},1 or {},{},{}], got {}", q.dim(0),
                  options.heads, q.dim(1), k.dim(1), to_string(bias.shape()));
  }
  Tensor y = empty_like(q);
  if (y.numel() > 0) kernels(q.device()).attention(q, k, v, bias, options, y);
  SINOPIA_CHECK(!wants_gradient(bias), Unsupported, "[attention] a bias has no gradient");
  return record("attention", y, std::array{&q, &k, &v}, [q, k, v, bias, options, y](const Tensor& dy) {
    Tensor dq = empty_like(q), dk = empty_like(k), dv = empty_like(v);
    Kernels& device = kernels(q.device());
    if (dy.numel() > 0) {
      device.attention_backward(q, k, v, bias, options, y, dy, dq, dk, dv);
    } else {  // no queries: nothing reaches the keys
      device.fill(dk, 0);
      device.fill(dv, 0);
    }
    return Gradients{dq, dk, dv};
  });
}

}  // namespace sinopia
