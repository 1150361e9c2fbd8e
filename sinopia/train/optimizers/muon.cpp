#include <algorithm>
#include <array>
#include <cmath>

#include "sinopia/train/optimizers/optimizer.h"

namespace sinopia {
namespace {

/// Tables, the layers that touch pixels, latents or words, and those that see one vector a picture, whose
/// gradient has no more singular values than a batch has pictures, are left to AdamW.
bool is_left_to_adamw(std::string_view name) {
  constexpr std::string_view kParts[] = {"embeddings.", "class_embedding.", "quantize.",     "conv_in.",
                                         "conv_out.",   "time_emb",         "add_embedding."};
  return std::ranges::any_of(kParts, [&](std::string_view part) { return name.find(part) != name.npos; });
}

/// All [1,..,..]: alpha * a * b.
Tensor product(const Tensor& a, const Tensor& b, Transpose transpose, float alpha) {
  Tensor y = Tensor::empty(
      {1, a.dim(transpose == Transpose::Left ? 2 : 1), b.dim(transpose == Transpose::Right ? 1 : 2)},
      DType::F32, a.device());
  kernels(a.device()).matmul(a, b, transpose, alpha, y);
  return y;
}

/// Rows [begin,end) of x [1,R,C].
Tensor rows_of(const Tensor& x, int64_t begin, int64_t end) {
  const int64_t C = x.dim(2);
  return x.reshape({x.dim(1), C}).slice(begin, end).reshape({1, end - begin, C});
}

/// alpha * a b^T of a, b [1,R,C] whose product is symmetric: three of its quarters are computed.
Tensor symmetric_product(const Tensor& a, const Tensor& b, float alpha) {
  constexpr int64_t kWorthwhile = 128;
  const int64_t R = a.dim(1), half = R / 2;
  if (R < kWorthwhile) return product(a, b, Transpose::Right, alpha);
  Kernels& k = kernels(a.device());
  const auto empty = [&](int64_t rows, int64_t columns) {
    return Tensor::empty({1, rows, columns}, DType::F32, a.device());
  };
  const Tensor top = product(rows_of(a, 0, half), b, Transpose::Right, alpha);
  const Tensor corner = product(rows_of(a, half, R), rows_of(b, half, R), Transpose::Right, alpha);
  Tensor right = empty(half, R - half), left = empty(R - half, half), bottom = empty(R - half, R),
         y = empty(R, R);
  k.narrow(top, 2, half, right);
  k.permute(right, std::array{0, 2, 1}, left);
  k.concat(std::array{left, corner}, 2, bottom);
  k.concat(std::array{top, bottom}, 1, y);
  return y;
}

/// x [1,R,C], of norm 1, becomes the matrix of its singular vectors, with singular values from 0.7 to 1.2.
/// Each iteration takes x to p(x x^T) x, p(A) = a + b A + c A^2; here the polynomials are multiplied first,
/// as matrices of the shorter side, which saves most of the work of a wide x: P = alpha + D. All of them are
/// symmetric and commute.
void orthogonalise(Tensor& x) {
  constexpr float a = 3.4445f, b = -4.775f, c = 2.0315f;
  constexpr int kIterations = 5;
  Kernels& k = kernels(x.device());
  const bool tall = x.dim(1) > x.dim(2);
  Tensor A = tall ? product(x, x, Transpose::Left, 1) : symmetric_product(x, x, 1), D;
  float alpha = 1;
  for (int i = 0; i < kIterations; ++i) {
    Tensor B = symmetric_product(A, A, c);
    k.add_scaled(A, b, B);
    if (i + 1 < kIterations) {  // A becomes Q A Q of Q = a + B
      Tensor QA = symmetric_product(B, A, 1);
      k.add_scaled(A, a, QA);
      A = symmetric_product(B, QA, 1);
      k.add_scaled(QA, a, A);
    }
    if (D) {
      Tensor QD = symmetric_product(B, D, 1);
      k.add_scaled(D, a, QD);
      k.add_scaled(B, alpha, QD);
      D = QD;
    } else {
      D = B;
    }
    alpha *= a;
  }
  Tensor y = tall ? product(x, D, Transpose::None, 1) : product(D, x, Transpose::None, 1);
  k.add_scaled(x, alpha, y);
  x = y;
}

class Muon final : public UpdateRule {
 public:
  Muon(double momentum, const AdamwConstants& constants, double weight_decay)
      : momentum_(momentum), constants_(constants), weight_decay_(weight_decay) {}

  double weight_decay() const override { return weight_decay_; }

  std::vector<std::pair<std::string, Shape>> state_of(std::string_view name,
                                                      const Shape& shape) const override {
    if (shape.rank() < 2 || shape.numel() == 0 || is_left_to_adamw(name))
      return {{"exp_avg", shape}, {"exp_avg_sq", shape}};
    return {{"momentum_buffer", shape}};
  }

  void update(const OptimizerStep& step, const Tensor& gradient, Tensor& w, std::span<Tensor> state,
              Tensor& stored) const override {
    Kernels& k = kernels(w.device());
    if (state.size() == 2) {
      k.adamw(step, constants_, gradient, w, state[0], state[1], stored);
      return;
    }
    constexpr double kLeastNorm = 1e-7;
    Tensor& mean = state[0];
    const auto follow = static_cast<float>(1 - momentum_);
    Tensor direction = Tensor::empty(w.shape(), DType::F32, w.device());
    k.affine(gradient, static_cast<float>(step.gradient_scale), 0, direction);
    k.blend(direction, follow, mean);
    k.blend(mean, static_cast<float>(momentum_), direction);
    k.affine(direction, static_cast<float>(1 / std::max(std::sqrt(k.sum_of_squares(direction)), kLeastNorm)),
             0, direction);
    const int64_t rows = w.dim(0), columns = w.numel() / rows;  // [O,I*KH*KW]
    direction = direction.reshape({1, rows, columns});
    orthogonalise(direction);
    const double rate =
        step.learning_rate * kAdamsSize * std::sqrt(static_cast<double>(std::max(rows, columns)));
    k.affine(w, static_cast<float>(1 - step.learning_rate * step.weight_decay), 0, w);
    k.add_scaled(direction, static_cast<float>(-rate), w);
    if (stored) k.convert(w, stored);
  }

 private:
  /// The root mean square of AdamW's updates, nearly, so that one learning rate does for both.
  static constexpr double kAdamsSize = 0.2;

  double momentum_;
  AdamwConstants constants_;
  double weight_decay_;
};

}  // namespace

std::unique_ptr<UpdateRule> make_muon(const OptimizerOptions& options) {
  const double weight_decay = options.weight_decay.value_or(0.1), momentum = options.momentum.value_or(0.95);
  SINOPIA_CHECK(momentum >= 0 && momentum < 1, InvalidArgument, "[muon] expected a momentum in [0,1), got {}",
                momentum);
  const AdamwConstants constants = adamw_constants(options, "muon", weight_decay);
  return std::make_unique<Muon>(momentum, constants, weight_decay);
}

}  // namespace sinopia
