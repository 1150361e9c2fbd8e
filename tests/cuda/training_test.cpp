#include "sinopia/autograd/tape.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/train/trainers/trained_network.h"
#include "sinopia/train/trainers/training_run.h"
#include "tests/cuda/on_gpu.h"
#include "tests/cuda/perturbed.h"
#include "tests/models/golden.h"
#include "tests/train/small_run.h"

namespace sinopia {
namespace {

using namespace testing;

class TrainingOnGpu : public OnGpu {
 protected:
  /// The gradients of all of a network's parameters, on the CPU, of a loss that `loss_of` makes with it.
  template <class Model, class Config, class Loss>
  static TensorMap gradients(const TensorMap& weights, const Config& config, const Placement& placement,
                             double scale, const Loss& loss_of) {
    TensorMap leaves;
    const auto model = trainable_network<Model>(weights, config, "golden", placement, leaves);
    const RecordGradients on;
    backward(loss_of(model) * scale);
    TensorMap result;
    for (const auto& [name, gradient] : take_gradients(leaves))
      result[name] = copy_to(gradient, Device{}) * (1 / scale);
    return result;
  }

  /// Of the norm of all gradients together.
  static double distance(const TensorMap& got, const TensorMap& want) {
    EXPECT_EQ(got.size(), want.size());
    double difference = 0, norm = 0;
    for (const auto& [name, expected] : want) {
      const std::vector<double> a = doubles(got.at(name)), b = doubles(expected);
      for (size_t i = 0; i < b.size(); ++i) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
      }
    }
    EXPECT_GT(norm, 0);
    return std::sqrt(difference / norm);
  }

  /// Compares with the CPU, in f32 within what its own tests keep to against PyTorch.
  template <class Model, class Config, class Loss>
  void expect_gradients(const Golden& golden, const Config& config, const Loss& loss_of) const {
    const TensorMap want = gradients<Model>(golden.weights(), config, {}, 1, loss_of);
    for (const DType dtype : kFloats) {
      const double scale = dtype == DType::F16 ? 1024 : 1;
      const TensorMap got = gradients<Model>(golden.weights(), config, {device(), dtype}, scale, loss_of);
      const double bound = dtype == DType::F32
                               ? 1e-4
                               : rounding_tolerance(golden.weights(), dtype, [&](const TensorMap& weights) {
                                   return distance(gradients<Model>(weights, config, {}, 1, loss_of), want);
                                 });
      EXPECT_LE(distance(got, want), bound) << to_string(dtype);
    }
  }
};

TEST_F(TrainingOnGpu, DenoisersHaveTheGradientsOfTheCpu) {
  const Golden golden("unet_sd1");
  expect_gradients<UNet>(golden, unet_config_from_json(golden.config()), [&](const UNet& unet) {
    const Tensor y = unet.forward(golden.in("sample"), golden.in("t"), golden.in("text"));
    return mean(square(y - golden.out("sample") * 0.5));
  });
}

TEST_F(TrainingOnGpu, AutoencodersHaveTheGradientsOfTheCpu) {
  const Golden golden("vae_attention");
  expect_gradients<Autoencoder>(
      golden, autoencoder_config_from_json(golden.config()), [&](const Autoencoder& vae) {
        const DiagonalGaussian latent = vae.encode(golden.in("picture"));
        return mean(square(vae.decode(latent.mean) * 0.5)) + mean(square(latent.logvar)) * 0.1;
      });
}

constexpr const char* kAutoencoder = R"(
model: autoencoder
steps: 3
autoencoder:
  config: vae.json
  discriminator_width: 8
  discriminator_layers: 1
  loss: {perceptual: 0, kl: 1.0e-3, feature_matching: 0.1, adversarial: 0.5, adversarial_from: 1}
optimizer: {rate: {peak: 2.0e-3}, clip: 1}
ema: {decay: 0.9}
report: {validation_every: 3, samples_every: 0}
)";

double loss_of(const TrainingResult& result) {
  for (const auto& [name, value] : result.validation)
    if (name == "validation/loss") return value;
  ADD_FAILURE() << "no loss";
  return 0;
}

// Steps in a wrong direction, or none, move the loss by more than this.
TEST_F(TrainingOnGpu, RunsEndWhereTheyDoOnTheCpu) {
  const SmallRun small;
  const auto expect_same_end = [&](const std::string& yaml, const std::string& name, double want,
                                   DType dtype) {
    const std::string place = fmt::format("device: cuda\nprecision: {}\n", to_string(dtype));
    const double got = loss_of(run_training(small.recipe(name + "-on-gpu", yaml + place)));
    EXPECT_NEAR(got, want, want * (dtype == DType::F32 ? 1e-4 : 2 * epsilon_of(dtype))) << name;
  };
  const std::string autoencoder = kAutoencoder, diffusion = std::string(kSmallDiffusion) + "steps: 3\n";
  const double error = loss_of(run_training(small.recipe("autoencoder", autoencoder + "device: cpu\n")));
  expect_same_end(autoencoder, "autoencoder", error, DType::F32);
  const double loss = loss_of(run_training(small.recipe("diffusion", diffusion + "device: cpu\n")));
  expect_same_end(diffusion, "diffusion", loss, DType::BF16);
}

TEST_F(TrainingOnGpu, RunsGoOnWithTheSameBits) {
  const SmallRun small;
  const std::string yaml = std::string(kAutoencoder) + "device: cuda\nprecision: f16\n";
  const TrainingResult expected = run_training(small.recipe("whole", yaml));
  TrainingRunOptions options;
  options.stop_at = 1;
  run_training(small.recipe("parts", yaml), options);
  EXPECT_EQ(run_training(small.recipe("parts", yaml)).validation, expected.validation);
}

}  // namespace
}  // namespace sinopia
