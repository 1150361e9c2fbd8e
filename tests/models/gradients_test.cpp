#include <cmath>
#include <fstream>

#include <nlohmann/json.hpp>

#include "sinopia/autograd/tape.h"
#include "sinopia/models/clip/clip_text.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/ops/elementwise.h"
#include "tests/models/golden.h"

namespace sinopia {
namespace {

// Of a gradient's norm; more where PyTorch's own float32 is further away than half of it.
double tolerance(const nlohmann::json& network) {
  return std::max(1e-4, 2 * network.at("float32").get<double>());
}

const nlohmann::json& golden_gradients() {
  static const nlohmann::json all = [] {
    std::ifstream file(std::string(SINOPIA_TEST_DATA) + "/gradients/models.json");
    return nlohmann::json::parse(file);
  }();
  return all;
}

/// What reaches an output in tools/golden/gradients.py.
Tensor reaching(const Tensor& y) {
  Tensor dy = Tensor::empty(y.shape());
  for (int64_t i = 0; i < y.numel(); ++i)
    dy.data<float>()[i] = static_cast<float>(std::cos(1.3 * static_cast<double>(i) + 0.5));
  return dy;
}

/// Collects what a network's gradients are held to.
class Comparison {
 public:
  explicit Comparison(const char* name)
      : name_(name), golden_(name), given_(golden_.weights(), "golden"), parameters_(given_) {}

  const Golden& golden() const { return golden_; }
  Scope scope() { return Scope(parameters_); }
  Tensor input(const std::string& name) { return inputs_[name] = make_leaf(golden_.in(name)); }

  void expect_gradients() const {
    const nlohmann::json& reference = golden_gradients().at(name_);
    size_t compared = 0;
    for (const auto& [name, leaf] : parameters_.leaves()) {
      // What a result does not depend on has no gradient on either side.
      if (gradient_of(leaf) || reference.contains("w." + name))
        compared += compare("w." + name, leaf, reference);
    }
    for (const auto& [name, leaf] : inputs_) compared += compare("x." + name, leaf, reference);
    EXPECT_EQ(compared + 1, reference.size()) << "all but 'float32'";
  }

 private:
  static size_t compare(const std::string& name, const Tensor& leaf, const nlohmann::json& reference) {
    const Tensor gradient = gradient_of(leaf);
    EXPECT_TRUE(gradient) << name;
    EXPECT_TRUE(reference.contains(name)) << name;
    if (!gradient || !reference.contains(name)) return 0;
    double squares = 0, cosines = 0, sines = 0;
    for (int64_t i = 0; i < gradient.numel(); ++i) {
      const double g = static_cast<double>(gradient.data<float>()[i]), at = static_cast<double>(i);
      squares += g * g;
      cosines += g * std::cos(0.7 * at + 1);
      sines += g * std::sin(0.3 * at);
    }
    // Biases before a norm have none; what rounding leaves there is measured against 1.
    const double norm = reference.at(name).at(0), bound = tolerance(reference) * std::max(norm, 0.1);
    EXPECT_NEAR(std::sqrt(squares), norm, bound) << name;
    EXPECT_NEAR(cosines, reference.at(name).at(1), bound) << name;
    EXPECT_NEAR(sines, reference.at(name).at(2), bound) << name;
    return 1;
  }

  std::string name_;
  Golden golden_;
  CheckpointParameters given_;
  TrainableParameters parameters_;
  TensorMap inputs_;
};

class UNetGradients : public testing::TestWithParam<const char*> {};

TEST_P(UNetGradients, ArePyTorchs) {
  Comparison comparison(GetParam());
  const Golden& golden = comparison.golden();
  const UNet unet(comparison.scope(), unet_config_from_json(golden.config()));
  UNetConditions conditions;
  if (golden.has("labels")) conditions.class_labels = golden.in("labels");
  if (golden.has("time_ids")) conditions.time_ids = golden.in("time_ids");
  const Tensor sample = comparison.input("sample");
  if (golden.has("pooled")) conditions.text_embeds = comparison.input("pooled");
  const Tensor text = golden.has("text") ? comparison.input("text") : Tensor();
  const RecordGradients on;
  const Tensor y = unet.forward(sample, golden.in("t"), text, conditions);
  backward(y, reaching(y));
  comparison.expect_gradients();
}

INSTANTIATE_TEST_SUITE_P(Models, UNetGradients,
                         testing::Values("unet_sd1", "unet_sdxl", "unet_x4", "unet_plain"));

class AutoencoderGradients : public testing::TestWithParam<const char*> {};

TEST_P(AutoencoderGradients, ArePyTorchs) {
  Comparison comparison(GetParam());
  const Autoencoder vae(comparison.scope(), autoencoder_config_from_json(comparison.golden().config()));
  const Tensor picture = comparison.input("picture"), z = comparison.input("z");
  const RecordGradients on;
  const DiagonalGaussian latent = vae.encode(picture);
  const Tensor decoded = vae.decode(z);
  const auto reached = [](const Tensor& y) { return sum(y * reaching(y)); };
  backward(reached(latent.mean) + reached(latent.logvar) + reached(decoded));
  comparison.expect_gradients();
}

INSTANTIATE_TEST_SUITE_P(Models, AutoencoderGradients,
                         testing::Values("vae", "vae_no_quant", "vae_attention"));

// The straight-through estimator, and the codebook's loss of which alone the table has a gradient.
TEST(VqModelGradients, ArePyTorchs) {
  Comparison comparison("vq");
  const Autoencoder vae(comparison.scope(), autoencoder_config_from_json(comparison.golden().config()));
  const Tensor picture = comparison.input("picture"), z = comparison.input("z");
  const RecordGradients on;
  const Tensor latents = vae.encode(picture).mean, decoded = vae.decode(z);
  const Tensor e = vae.codebook()->entries(vae.codebook()->nearest(z));
  const Tensor loss = mean(square(without_gradient(e) - z)) + mean(square(e - without_gradient(z))) * 0.25;
  const auto reached = [](const Tensor& y) { return sum(y * reaching(y)); };
  backward(reached(latents) + reached(decoded) + loss);
  comparison.expect_gradients();
}

class ClipTextGradients : public testing::TestWithParam<const char*> {};

TEST_P(ClipTextGradients, ArePyTorchs) {
  Comparison comparison(GetParam());
  const ClipTextModel model(comparison.scope(), clip_text_config_from_json(comparison.golden().config()));
  const RecordGradients on;
  const ClipTextOutput out = model.forward(comparison.golden().in("ids"), {.pooled = true});
  const auto reached = [](const Tensor& y) { return sum(y * reaching(y)); };
  backward(reached(out.hidden) + reached(out.pooled));
  comparison.expect_gradients();
}

INSTANTIATE_TEST_SUITE_P(Models, ClipTextGradients, testing::Values("clip_l", "clip_g"));

}  // namespace
}  // namespace sinopia
