#include "sinopia/train/autoencoder_objective.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "sinopia/autograd/tape.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/shape.h"
#include "sinopia/tensor/allocator.h"
#include "sinopia/train/optimizers/gradients.h"
#include "tests/models/golden.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;
using nlohmann::json;

const TensorFile& golden() {
  static const TensorFile file =
      read_safetensors(std::string(SINOPIA_TEST_DATA) + "/train/autoencoder_training.safetensors");
  return file;
}

/// The same with a codebook; its pictures and discriminator are those of golden().
const TensorFile& vq_golden() {
  static const TensorFile file =
      read_safetensors(std::string(SINOPIA_TEST_DATA) + "/train/vq_training.safetensors");
  return file;
}

TensorMap part(const TensorFile& file, const std::string& prefix) {
  TensorMap result;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) result[name.substr(prefix.size())] = tensor;
  }
  return result;
}

Tensor of_step(const std::string& name, int64_t step) {
  const Tensor all = to_dtype(golden().tensors.at(name), DType::F32);
  const auto dims = all.shape().dims();
  return all.slice(step, step + 1).reshape(Shape(std::vector<int64_t>(dims.begin() + 1, dims.end())));
}

/// VGG16 with the weights of vgg16_weight() in tools/golden/autoencoder_training.py.
class HashedVgg16 final : public ParameterSource {
 public:
  Tensor take(const std::string&, const Shape& shape, const Initialiser&) override {
    const double fan_in = shape.rank() > 1 ? static_cast<double>(shape.numel() / shape.dim(0)) : 0;
    const double scale = shape.rank() > 1 ? std::sqrt(6 / fan_in) : 0.05;
    std::vector<float> values;
    for (uint32_t i = 0; i < shape.numel(); ++i) {
      uint32_t h = i * 2654435761u + index_ * 40503u;
      h = (h ^ (h >> 15)) * 2246822507u;
      h = (h ^ (h >> 13)) * 3266489909u;
      values.push_back(static_cast<float>(scale * (static_cast<double>(h ^ (h >> 16)) * 0x1p-31 - 1)));
    }
    ++index_;
    return Tensor::from(shape, values);
  }
  bool has(const std::string&) const override { return true; }

 private:
  uint32_t index_ = 0;
};

const Lpips& lpips() {
  static const Lpips model = [] {
    HashedVgg16 weights;
    return Lpips(Scope(weights));
  }();
  return model;
}

TEST(Lpips, IsThePackages) {
  const Tensor got = lpips().forward(of_step("pictures", 0), of_step("pictures", 1));
  expect_close(got, doubles(golden().tensors.at("lpips")), 0, 2e-6);
  const Tensor same = of_step("pictures", 2);
  for (const double v : doubles(lpips().forward(same, same))) EXPECT_EQ(v, 0);
}

TEST(Lpips, RefusesWhatDoesNotFit) {
  const Tensor x = zeros({1, 32, 32, 3});
  EXPECT_THROW(lpips().forward(x, zeros({1, 32, 31, 3})), Error);
  EXPECT_THROW(lpips().forward(zeros({1, 15, 32, 3}), zeros({1, 15, 32, 3})), Error);
  EXPECT_THROW(lpips().forward(zeros({1, 32, 32, 4}), zeros({1, 32, 32, 4})), Error);
}

// A black picture has no features at some pixels: their slopes are 0, not NaN.
TEST(Lpips, HasAGradientWhereThereIsNoFeature) {
  class Silent final : public ParameterSource {
   public:
    Tensor take(const std::string& name, const Shape& shape, const Initialiser&) override {
      return full(shape, name.ends_with("bias") ? -1.0f : 1e-3f);
    }
    bool has(const std::string&) const override { return true; }
  } weights;
  const Lpips silent{Scope(weights)};
  const Tensor x = make_leaf(zeros({1, 16, 16, 3}));
  const RecordGradients on;
  backward(silent.forward(x, full({1, 16, 16, 3}, 0.5f)));
  for (const double v : doubles(gradient_of(x))) EXPECT_EQ(v, 0);
}

/// A network's leaves and what steps them.
struct Trained {
  explicit Trained(TensorMap parameters)
      : leaves(std::move(parameters)),
        optimizer(make_optimizer("adamw", leaves, {.beta1 = 0.5, .beta2 = 0.9, .weight_decay = 0.0})) {}
  void step() { optimizer.step(take_gradients(leaves), 1e-4); }
  double norm() const { return gradient_norm(leaves); }

  TensorMap leaves;
  Optimizer optimizer;
};

class AutoencoderTraining : public ::testing::TestWithParam<const char*> {};

TEST_P(AutoencoderTraining, IsPyTorchs) {
  const std::string name = GetParam();
  const TensorFile& file = name.starts_with("vq") ? vq_golden() : golden();
  const json c = json::parse(file.metadata.at("cases")).at(name);
  const json shape = json::parse(golden().metadata.at("discriminator"));
  CheckpointParameters vae_file(part(file, "vae."), "vae"),
      discriminator_file(part(golden(), "discriminator."), "discriminator");
  TrainableParameters vae_parameters(vae_file), discriminator_parameters(discriminator_file);
  const Autoencoder vae(Scope(vae_parameters), autoencoder_config_from_json(file.metadata.at("vae")));
  const PatchDiscriminator discriminator(
      Scope(discriminator_parameters),
      {.in_channels = shape.at("input_nc"), .width = shape.at("ndf"), .layers = shape.at("n_layers")});
  vae_file.finish();
  discriminator_file.finish();
  Trained first(vae_parameters.leaves()), second(discriminator_parameters.leaves());
  AutoencoderObjective objective({.l1 = c.at("l1"),
                                  .l2 = c.at("l2"),
                                  .perceptual = c.at("perceptual"),
                                  .feature_matching = c.at("feature_matching"),
                                  .logvar = c.at("logvar"),
                                  .kl = c.value("kl", 0.0),
                                  .codebook = c.value("codebook", 0.0),
                                  .commitment = c.value("beta", 0.0),
                                  .legacy_commitment = c.value("legacy", true),
                                  .adversarial = c.at("adversarial"),
                                  .adversarial_from = c.at("start")},
                                 &discriminator, &lpips());

  const auto expect = [&](const char* loss, int64_t step, double got) {
    // What the other bottleneck has is 0.
    const auto values = file.tensors.find(name + "." + loss);
    const double want =
        values == file.tensors.end() ? 0 : values->second.values<double>()[static_cast<size_t>(step)];
    EXPECT_NEAR(got, want, 1e-4 * std::abs(want)) << loss << " at step " << step;
  };
  for (int64_t step = 0; step < file.tensors.at(name + ".total").numel(); ++step) {
    const Tensor pictures = of_step("pictures", step);
    const AutoencoderLosses losses = objective.autoencoder_pass(vae, pictures, of_step("noise", step), step);
    expect("total", step, losses.total);
    expect("reconstruction", step, losses.reconstruction);
    expect("perceptual", step, losses.perceptual);
    expect("kl", step, losses.kl);
    expect("codebook", step, losses.codebook);
    expect("perplexity", step, losses.perplexity);
    expect("used", step, losses.used);
    expect("generator", step, losses.generator);
    expect("balance", step, losses.balance);
    for (const auto& [parameter, leaf] : second.leaves)
      EXPECT_FALSE(gradient_of(leaf)) << "the discriminator is frozen";
    first.step();
    if (!objective.discriminates(step)) {
      expect("discriminator", step, 0);
      continue;
    }
    expect("discriminator", step, objective.discriminator_pass(pictures).total);
    second.step();
  }
  EXPECT_NEAR(first.norm() / file.tensors.at(name + ".norm").values<double>()[0], 1, 1e-6);
  EXPECT_NEAR(second.norm() / file.tensors.at(name + ".discriminator_norm").values<double>()[0], 1, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Cases, AutoencoderTraining,
                         ::testing::Values("latent_diffusion", "without_vgg", "vq", "vq_without_vgg"));

TEST(AutoencoderObjective, CheckpointsTakeLessMemoryForTheSameGradients) {
  AutoencoderConfig config;
  config.channels = {16, 16, 16};
  config.norm_num_groups = 4;
  config.layers_per_block = 3;
  CheckpointParameters fresh(fresh_tensors<Autoencoder>(config, 3), "vae");
  TrainableParameters parameters(fresh);
  const Autoencoder vae(Scope(parameters), config);
  const Tensor pictures = random_tensor({2, 64, 48, 3}, 1), noise = random_tensor({2, 16, 12, 4}, 2);
  AutoencoderObjective objective({.perceptual = 0, .adversarial = 0}, nullptr, nullptr);
  const auto pass = [&](bool checkpoints, std::map<std::string, Tensor>& gradients) {
    objective.checkpoint_activations(checkpoints);
    allocator({}).reset_peak();
    const size_t before = allocator({}).stats().in_use;
    const double loss = objective.autoencoder_pass(vae, pictures, noise, 0).total;
    const size_t peak = allocator({}).stats().peak - before;
    for (const auto& [name, leaf] : parameters.leaves()) {
      gradients[name] = gradient_of(leaf);
      clear_gradient(leaf);
    }
    return std::pair(loss, peak);
  };
  std::map<std::string, Tensor> plain, saved;
  const auto [want, all] = pass(false, plain);
  const auto [got, less] = pass(true, saved);
  EXPECT_EQ(got, want);
  EXPECT_LT(less, 0.6 * static_cast<double>(all));
  for (const auto& [name, gradient] : plain)
    EXPECT_LT(relative_error(saved.at(name), gradient), 1e-6) << name;
}

TEST(AutoencoderObjective, RefusesWeightsWithoutTheirNetwork) {
  EXPECT_THROW(AutoencoderObjective({}, nullptr, &lpips()), Error);
  EXPECT_THROW(AutoencoderObjective({.adversarial = 0}, nullptr, nullptr), Error);
  EXPECT_THROW(AutoencoderObjective({.l1 = -1, .perceptual = 0, .adversarial = 0}, nullptr, nullptr), Error);
  EXPECT_NO_THROW(AutoencoderObjective({.perceptual = 0, .adversarial = 0}, nullptr, nullptr));
}

}  // namespace
}  // namespace sinopia
