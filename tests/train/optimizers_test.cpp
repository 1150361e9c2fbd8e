#include <array>
#include <cmath>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/io/safetensors.h"
#include "sinopia/train/ema.h"
#include "sinopia/train/optimizers/gradients.h"
#include "tests/kind_of.h"
#include "tests/reference.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using testing::kind_of;
using testing::random_tensor;
using testing::same_bits;

const nlohmann::json& golden() {
  static const auto json = nlohmann::json::parse(std::ifstream(SINOPIA_TEST_DATA "/train/optimizers.json"));
  return json;
}

/// Tensors of a golden table, in the shapes of the parameters.
TensorMap tensors_of(const nlohmann::json& table) {
  TensorMap result;
  for (const auto& [name, values] : table.items()) {
    const std::vector<int64_t> dims = golden()["shapes"][name];
    result[name] = Tensor::from(Shape(dims), values.get<std::vector<float>>());
  }
  return result;
}

/// Every rounding is relative to the numbers of the tensor, and some results are differences of them.
void expect_golden(const TensorMap& got, const nlohmann::json& expected, double tolerance = 1e-6) {
  for (const auto& [name, values] : expected.items()) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(got.contains(name));
    const std::vector<double> numbers = values;
    double largest = 0;
    for (const double v : numbers) largest = std::max(largest, std::abs(v));
    testing::expect_close(got.find(name)->second, numbers, tolerance * largest, 0);
  }
}

TensorMap copied(const TensorMap& tensors) {
  TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    Tensor copy = empty_like(tensor);
    std::memcpy(copy.raw(), tensor.raw(), tensor.bytes());
    result[name] = copy;
  }
  return result;
}

void expect_same_bits(const TensorMap& a, const TensorMap& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_TRUE(same_bits(tensor, b.find(name)->second)) << name;
  }
}

void expect_reference(const char* name, const char* optimizer_name, const OptimizerOptions& options,
                      bool rates = true, double tolerance = 1e-6) {
  SCOPED_TRACE(name);
  TensorMap parameters = tensors_of(golden()["start"]);
  Optimizer optimizer = make_optimizer(optimizer_name, parameters, options);
  for (size_t i = 0; i < golden()["gradients"].size(); ++i) {
    const double rate = rates ? golden()["rates"][i].get<double>() : 77;
    optimizer.step(tensors_of(golden()["gradients"][i]), rate);
  }
  const auto& expected = golden()["cases"][name];
  expect_golden(parameters, expected["parameters"], tolerance);
  const TensorMap state = optimizer.state();
  expect_golden(state, expected["state"]);
  EXPECT_EQ(state.size(), expected["state"].size() + 1);
}

TEST(Optimizer, AdamwIsTorchs) {
  expect_reference("adamw", "adamw", {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0.1});
}

// An iteration multiplies a small singular value, and its rounding, by up to 3.4445: that of the first by 140
// in the end.
TEST(Optimizer, MuonIsTorchsInDouble) {
  expect_reference("muon", "muon", {.beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.2, .momentum = 0.9}, true,
                   140 * testing::kEpsilon);
}

TEST(Optimizer, MuonOrthogonalisesMatricesAlone) {
  const TensorMap parameters{{"conv_in.weight", random_tensor({8, 3, 3, 3}, 1)},
                             {"down.conv.weight", random_tensor({8, 3, 3, 3}, 2)},
                             {"embeddings.token_embedding.weight", random_tensor({40, 8}, 3)},
                             {"norm.weight", random_tensor({8}, 4)},
                             {"mid.to_q.weight", random_tensor({12, 8}, 5)},
                             {"mid.time_emb_proj.weight", random_tensor({8, 12}, 7)}};
  const TensorMap state = make_optimizer("muon", copied(parameters)).state();
  for (const auto& [name, tensor] : parameters) {
    const bool matrix = name.starts_with("down") || name == "mid.to_q.weight";
    EXPECT_EQ(state.contains(name + ".momentum_buffer"), matrix) << name;
    EXPECT_EQ(state.contains(name + ".exp_avg_sq"), !matrix) << name;
  }
}

// However unlike the gradient's singular values are, from the first step on those of the update are not: no
// combination of its rows is much longer or shorter than another.
TEST(Optimizer, MuonMovesAlikeInAllDirections) {
  for (const auto& [R, C] : {std::pair{6, 50}, {50, 6}, {151, 331}, {200, 130}}) {
    SCOPED_TRACE(R);
    Tensor gradient = random_tensor({R, C}, 6), w = Tensor::empty({R, C});
    for (int64_t i = 0; i < R * C; ++i)
      gradient.data<float>()[i] *= std::pow(0.01f, static_cast<float>(i / C) / static_cast<float>(R));
    cpu_kernels().fill(w, 0);
    make_optimizer("muon", {{"w", w}}).step({{"w", gradient}}, 1);
    const std::vector<double> moved = testing::doubles(w);
    const bool wide = R < C;
    const int64_t shorter = std::min(R, C), longer = std::max(R, C);
    for (unsigned seed = 10; seed < 30; ++seed) {
      const std::vector<double> v = testing::doubles(random_tensor({shorter}, seed));
      double length = 0, square = 0;
      for (const double x : v) length += x * x;
      for (int64_t j = 0; j < longer; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < shorter; ++i)
          sum += v[static_cast<size_t>(i)] * moved[static_cast<size_t>(wide ? i * C + j : j * C + i)];
        square += sum * sum;
      }
      const double stretch = std::sqrt(square / length) / (0.2 * std::sqrt(static_cast<double>(longer)));
      EXPECT_GT(stretch, 0.65);
      EXPECT_LT(stretch, 1.25);
    }
  }
}

TEST(Optimizer, LionIsThePapers) { expect_reference("lion", "lion", {.weight_decay = 0.3}); }

TEST(Optimizer, AdafactorIsTransformers) {
  expect_reference("adafactor_relative", "adafactor", {}, false);
  expect_reference("adafactor_warmup", "adafactor", {.beta1 = 0.9, .weight_decay = 0.5, .warmup_init = true},
                   false);
  expect_reference("adafactor_fixed", "adafactor",
                   {.beta1 = 0.8,
                    .weight_decay = 0.1,
                    .clip_threshold = 0.7,
                    .scale_parameter = false,
                    .relative_step = false});
  expect_reference("adafactor_flat", "adafactor", {.relative_step = false, .flatten_convolutions = true});
}

TEST(Optimizer, RegistryNamesAll) {
  ASSERT_EQ(optimizers().size(), 4u);
  for (const OptimizerInfo& info : optimizers()) EXPECT_NE(info.make({}), nullptr) << info.name;
  EXPECT_EQ(kind_of([] { make_optimizer("sgd", {}); }), ErrorKind::NotFound);
}

TensorMap some_parameters(unsigned seed) {
  return {{"a.bias", random_tensor({1}, seed)},
          {"conv.weight", random_tensor({5, 7, 3, 3}, seed + 1)},
          {"empty", random_tensor({0, 3}, seed + 2)},
          {"norm.weight", random_tensor({13}, seed + 3)},
          // Several strips of rows, and more than one piece of any loop.
          {"wide.weight", random_tensor({211, 331}, seed + 4)}};
}

struct Setting {
  const char* name;
  OptimizerOptions options;
};

std::vector<Setting> settings() {
  return {{"adamw", {}},
          {"lion", {.weight_decay = 0.1}},
          {"adafactor", {}},
          {"adafactor", {.beta1 = 0.9, .relative_step = false, .flatten_convolutions = true}},
          {"muon", {}}};
}

TEST(Optimizer, HasTheSameBitsForAnyNumberOfThreads) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    const auto run = [&](int threads) {
      set_thread_count(threads);
      const TensorMap parameters = some_parameters(3);
      Optimizer optimizer = make_optimizer(setting.name, parameters, setting.options);
      StepGuard guard(1);
      for (unsigned i = 0; i < 3; ++i) guard.step(optimizer, some_parameters(50 + i), 1e-2);
      TensorMap result = optimizer.state();
      for (const auto& [name, tensor] : parameters) result[name] = tensor;
      set_thread_count(0);
      return result;
    };
    const TensorMap expected = run(1);
    for (int threads : {2, 3, 7}) expect_same_bits(run(threads), expected);
  }
}

TEST(Optimizer, GoesOnFromAFileBitForBit) {
  const testing::TemporaryFolder folder;
  for (const DType dtype : {DType::F32, DType::BF16}) {
    for (const Setting& setting : settings()) {
      SCOPED_TRACE(setting.name);
      TensorMap parameters = some_parameters(3);
      for (auto& [name, tensor] : parameters) tensor = testing::stored_as(tensor, dtype);
      Optimizer optimizer = make_optimizer(setting.name, parameters, setting.options);
      for (unsigned i = 0; i < 3; ++i) optimizer.step(some_parameters(50 + i), 1e-2);
      write_safetensors(folder.path() / "state.safetensors", {optimizer.state(), {}});
      TensorMap again = copied(parameters);
      Optimizer restored = make_optimizer(setting.name, again, setting.options);
      restored.restore(read_safetensors(folder.path() / "state.safetensors").tensors);
      EXPECT_EQ(restored.steps(), 3);
      for (unsigned i = 3; i < 5; ++i) {
        optimizer.step(some_parameters(50 + i), 1e-2);
        restored.step(some_parameters(50 + i), 1e-2);
      }
      expect_same_bits(again, parameters);
      expect_same_bits(restored.state(), optimizer.state());
    }
  }
}

// Steps far below an ulp of bf16 add up in the master weight.
TEST(Optimizer, TrainsHalvesThroughAMasterWeight) {
  const Tensor start = testing::stored_as(random_tensor({17, 9}, 5), DType::BF16);
  TensorMap narrow = copied({{"w", start}}), plain{{"w", Tensor::empty({17, 9})}};
  cpu_kernels().convert(start, plain["w"]);
  Optimizer halves = make_optimizer("adamw", narrow), singles = make_optimizer("adamw", plain);
  for (int i = 0; i < 100; ++i) {
    const TensorMap gradient{{"w", random_tensor({17, 9}, 9, 1, 1)}};
    halves.step(gradient, 1e-4);
    singles.step(gradient, 1e-4);
  }
  EXPECT_TRUE(same_bits(halves.state()["w.master"], plain["w"]));
  EXPECT_TRUE(same_bits(testing::stored_as(plain["w"], DType::BF16), narrow["w"]));
  EXPECT_FALSE(same_bits(narrow["w"], start));
  EXPECT_EQ(halves.state_bytes(), 17u * 9 * 12 + 8);
  EXPECT_EQ(singles.state_bytes(), 17u * 9 * 8 + 8);
}

TEST(Optimizer, DecaysOnlyWhatIsSelected) {
  const TensorMap parameters = some_parameters(3), before = copied(parameters);
  TensorMap zeros;
  for (const auto& [name, tensor] : parameters)
    zeros[name] = Tensor::from(tensor.shape(), std::vector<float>(static_cast<size_t>(tensor.numel())));
  for (const char* name : {"adamw", "lion"}) {
    Optimizer optimizer =
        make_optimizer(name, parameters, {.weight_decay = 0.5, .decays = [](std::string_view parameter) {
                                            return !is_bias_or_norm(parameter);
                                          }});
    optimizer.step(zeros, 0.25);
  }
  for (const auto& [name, tensor] : parameters) {
    const double keep = is_bias_or_norm(name) ? 1 : 0.875 * 0.875;
    std::vector<double> expected = testing::doubles(before.find(name)->second);
    for (double& v : expected) v *= keep;
    testing::expect_close(tensor, expected, 0, 2 * testing::kEpsilon);
  }
  EXPECT_TRUE(is_bias_or_norm("down_blocks.0.resnets.1.conv1.bias"));
  EXPECT_TRUE(is_bias_or_norm("mid_block.attentions.0.norm.weight"));
  EXPECT_FALSE(is_bias_or_norm("conv_in.weight"));
}

TEST(Optimizer, RefusesWhatMakesNoSense) {
  using enum ErrorKind;
  const TensorMap parameters{{"w", random_tensor({3, 2}, 1)}};
  Optimizer optimizer = make_optimizer("adamw", parameters);
  const TensorMap before = copied(parameters);
  const auto step = [&](TensorMap gradients, double rate = 0.1) {
    return kind_of([&] { optimizer.step(gradients, rate); });
  };
  EXPECT_EQ(step({}), InvalidArgument);
  EXPECT_EQ(step({{"v", random_tensor({3, 2}, 1)}}), InvalidArgument);
  EXPECT_EQ(step({{"w", random_tensor({2, 3}, 1)}}), InvalidArgument);
  EXPECT_EQ(step({{"w", testing::stored_as(random_tensor({3, 2}, 1), DType::F16)}}), InvalidArgument);
  EXPECT_EQ(step({{"w", random_tensor({3, 2}, 1)}}, std::nan("")), InvalidArgument);
  expect_same_bits(parameters, before);
  EXPECT_EQ(optimizer.steps(), 0);
  const auto make = [&](const char* name, OptimizerOptions options) {
    return kind_of([&] { make_optimizer(name, parameters, options); });
  };
  EXPECT_EQ(make("adamw", {.beta1 = 1}), InvalidArgument);
  EXPECT_EQ(make("adamw", {.weight_decay = std::nan("")}), InvalidArgument);
  EXPECT_EQ(make("lion", {.eps = 1e-8}), InvalidArgument);
  EXPECT_EQ(make("muon", {.momentum = 1}), InvalidArgument);
  EXPECT_EQ(make("muon", {.beta2 = 1}), InvalidArgument);
  EXPECT_EQ(make("adafactor", {.beta2 = 0.9}), InvalidArgument);
  EXPECT_EQ(make("adafactor", {.relative_step = false, .warmup_init = true}), InvalidArgument);
  EXPECT_EQ(kind_of([] { make_optimizer("adamw", {{"w", Tensor()}}); }), InvalidArgument);
  TensorMap state = optimizer.state();
  state["w.exp_avg"] = random_tensor({2, 3}, 1);
  EXPECT_EQ(kind_of([&] { optimizer.restore(state); }), Corrupt);
  state = optimizer.state();
  state["step"] = Tensor::from({1}, std::vector<int64_t>{-1});
  EXPECT_EQ(kind_of([&] { optimizer.restore(state); }), Corrupt);
}

TEST(Gradients, HaveTorchsNormAndClipping) {
  const auto& clip = golden()["clip"];
  const TensorMap parameters = tensors_of(golden()["start"]),
                  gradients = tensors_of(golden()["gradients"][0]);
  const double norm = gradient_norm(gradients), max_norm = clip["max_norm"];
  EXPECT_NEAR(norm, clip["norm"].get<double>(), 1e-6 * norm);
  GradientBuffer clipped;
  clipped.add(gradients, static_cast<float>(clip_factor(norm, max_norm)));
  expect_golden(clipped.sums(), clip["gradients"]);
  EXPECT_EQ(clip_factor(norm, 0), 1);
  EXPECT_EQ(clip_factor(1, 2), 1);

  // Clipped within the step's pass or before it.
  TensorMap a = copied(parameters), b = copied(parameters);
  Optimizer folded = make_optimizer("adamw", a), before = make_optimizer("adamw", b);
  const StepGuard::Result result = StepGuard(max_norm).step(folded, gradients, 1e-2);
  EXPECT_EQ(result.norm, norm);
  before.step(clipped.sums(), 1e-2);
  expect_same_bits(a, b);
}

TEST(Gradients, NormIsASlowLoopsForAnyNumberOfThreads) {
  const TensorMap gradients = some_parameters(8);
  double sum = 0;
  for (const auto& [name, tensor] : gradients)
    for (const double v : testing::doubles(tensor)) sum += v * v;
  for (int threads : {1, 2, 3}) {
    set_thread_count(threads);
    static double first;
    const double norm = gradient_norm(gradients);
    if (threads == 1) first = norm;
    EXPECT_EQ(norm, first);
    EXPECT_NEAR(norm, std::sqrt(sum), 1e-12 * norm);
  }
  set_thread_count(0);
  // f32 cannot square these.
  EXPECT_NEAR(gradient_norm({{"w", Tensor::from({2}, std::vector<float>{3e30f, 4e30f})}}), 5e30, 1e24);
}

TEST(Gradients, AddUp) {
  const TensorMap a = some_parameters(1), b = some_parameters(2);
  GradientBuffer buffer;
  for (int round = 0; round < 2; ++round) {
    buffer.add(a, 0.5f);
    buffer.add(b, 0.25f);
    EXPECT_EQ(buffer.count(), 2);
    for (const auto& [name, tensor] : a) {
      std::vector<double> expected = testing::doubles(tensor);
      const std::vector<double> other = testing::doubles(b.find(name)->second);
      for (size_t i = 0; i < expected.size(); ++i) expected[i] = 0.5 * expected[i] + 0.25 * other[i];
      testing::expect_close(buffer.sums().find(name)->second, expected, 0x1p-22, 0);
    }
    EXPECT_EQ(kind_of([&] { buffer.add({{"other", random_tensor({2}, 1)}}); }), ErrorKind::InvalidArgument);
    buffer.clear();
  }
  buffer.add({{"other", random_tensor({2}, 1)}});
  EXPECT_EQ(buffer.sums().size(), 1u);
}

TEST(StepGuard, TakesSeveralNetworksTogetherOrNone) {
  const TensorMap whole = some_parameters(3), gradients = some_parameters(60);
  TensorMap first = copied(whole), second, first_gradients = gradients, second_gradients;
  // The same parameters as one network and as two.
  const auto half = std::next(first.begin(), static_cast<std::ptrdiff_t>(first.size() / 2));
  for (auto it = half; it != first.end(); ++it) {
    second.insert(*it);
    second_gradients.insert(*gradients.find(it->first));
  }
  for (const auto& [name, tensor] : second) {
    first.erase(name);
    first_gradients.erase(name);
  }
  Optimizer one = make_optimizer("adamw", whole), a = make_optimizer("adamw", first),
            b = make_optimizer("adamw", second);
  StepGuard guard(0.5), joint(0.5);
  const double norm = guard.step(one, gradients, 1e-2).norm;
  const std::array<StepGuard::Update, 2> updates{
      {{&a, &first_gradients, 1e-2}, {&b, &second_gradients, 1e-2}}};
  const StepGuard::Result result = joint.step(updates);
  EXPECT_TRUE(result.taken);
  EXPECT_NEAR(result.norm, norm, 1e-12 * norm);
  TensorMap both = first;
  both.insert(second.begin(), second.end());
  for (const auto& [name, tensor] : whole)
    testing::expect_close(both.at(name), testing::doubles(tensor), 0, 4 * testing::kEpsilon);

  const TensorMap before = copied(both);
  TensorMap bad = copied(second_gradients);
  bad.at("wide.weight").data<float>()[0] = std::nanf("");
  const std::array<StepGuard::Update, 2> broken{{{&a, &first_gradients, 1e-2}, {&b, &bad, 1e-2}}};
  EXPECT_FALSE(joint.step(broken).taken);
  expect_same_bits(both, before);
  EXPECT_EQ(a.steps(), 1);
  StepGuard restored(0.5);
  restored.restore(joint.skipped(), joint.skipped_in_a_row());
  EXPECT_EQ(restored.skipped(), 1);
  EXPECT_EQ(kind_of([&] { restored.restore(1, 2); }), ErrorKind::Corrupt);
}

TEST(LossScale, HalvesAfterWhatIsNotFiniteAndDoublesAfterLongPeace) {
  StepGuard guard;
  EXPECT_EQ(guard.loss_scale(), 1);
  EXPECT_EQ(guard.scale(), nullptr);
  guard.scale_losses();
  EXPECT_EQ(guard.loss_scale(), 65536);
  Tensor w = Tensor::from({1}, std::vector<float>{1});
  Optimizer optimizer = make_optimizer("adamw", {{"w", w}});
  const auto step = [&](float gradient) {
    return guard.step(optimizer, {{"w", Tensor::from({1}, std::vector<float>{gradient})}}, 1e-3).taken;
  };
  EXPECT_FALSE(step(INFINITY));
  EXPECT_EQ(guard.loss_scale(), 32768);
  EXPECT_FALSE(step(NAN));
  EXPECT_EQ(guard.loss_scale(), 16384);
  for (int i = 0; i < 1999; ++i) EXPECT_TRUE(step(0.5f));
  EXPECT_EQ(guard.loss_scale(), 16384);
  EXPECT_TRUE(step(0.5f));
  EXPECT_EQ(guard.loss_scale(), 32768);
  for (int i = 0; i < 1999; ++i) EXPECT_TRUE(step(0.5f));
  EXPECT_FALSE(step(NAN));
  EXPECT_EQ(guard.loss_scale(), 16384);
  for (int i = 0; i < 1999; ++i) EXPECT_TRUE(step(0.5f));
  EXPECT_EQ(guard.loss_scale(), 16384);  // counted anew

  LossScale other;
  other.restore(guard.scale()->value(), guard.scale()->steps_at_value());
  other.step(true);
  EXPECT_EQ(other.value(), 32768);
  for (const double broken : {0.0, -1.0, static_cast<double>(INFINITY), static_cast<double>(NAN)})
    EXPECT_EQ(kind_of([&] { other.restore(broken, 0); }), ErrorKind::Corrupt) << broken;
  EXPECT_EQ(kind_of([&] { other.restore(1, -1); }), ErrorKind::Corrupt);
}

TEST(StepGuard, SkipsAndCountsWhatIsNotFinite) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    const TensorMap parameters = some_parameters(3);
    Optimizer optimizer = make_optimizer(setting.name, parameters, setting.options);
    StepGuard guard(1);
    EXPECT_TRUE(guard.step(optimizer, some_parameters(60), 1e-2).taken);
    const TensorMap before = copied(parameters), state = copied(optimizer.state());
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      TensorMap gradients = some_parameters(61);
      EXPECT_TRUE(all_finite(gradients));
      gradients["wide.weight"].data<float>()[70000 - 211] = bad;
      EXPECT_FALSE(all_finite(gradients));
      EXPECT_FALSE(guard.step(optimizer, gradients, 1e-2).taken);
    }
    EXPECT_EQ(guard.skipped(), 2);
    EXPECT_EQ(guard.skipped_in_a_row(), 2);
    expect_same_bits(parameters, before);
    expect_same_bits(optimizer.state(), state);
    EXPECT_TRUE(guard.step(optimizer, some_parameters(62), 1e-2).taken);
    EXPECT_EQ(guard.skipped(), 2);
    EXPECT_EQ(guard.skipped_in_a_row(), 0);
  }
  EXPECT_EQ(kind_of([] { StepGuard(-1); }), ErrorKind::InvalidArgument);
}

TEST(Ema, IsDiffusers) {
  const std::pair<const char*, EmaOptions> cases[] = {
      {"plain", {}},
      {"warmup", {.decay = 0.7, .min_decay = 0.1, .warmup = true, .inv_gamma = 2, .power = 0.75}},
      {"late", {.decay = 0.2, .update_after_step = 3}}};
  for (const auto& [name, options] : cases) {
    SCOPED_TRACE(name);
    const auto& expected = golden()["ema"][name];
    GradientBuffer parameters;
    parameters.add(tensors_of(golden()["start"]));
    Ema ema(parameters.sums(), options);
    for (size_t i = 0; i < golden()["gradients"].size(); ++i) {
      parameters.add(tensors_of(golden()["gradients"][i]), -1);
      ema.update(parameters.sums());
      EXPECT_NEAR(ema.decay_at(static_cast<int64_t>(i) + 1), expected["decays"][i], 1e-15);
    }
    expect_golden(ema.averages(), expected["averages"]);
    for (const auto& [step, decay] : expected["far_decays"].items())
      EXPECT_NEAR(ema.decay_at(std::stoll(step)), decay.get<double>(), 1e-15);
  }
}

TEST(Ema, SwapsBackAndGoesOnBitForBit) {
  TensorMap parameters = some_parameters(3);
  parameters["half"] = testing::stored_as(random_tensor({3, 5}, 70), DType::F16);
  Ema ema(parameters, {.decay = 0.5, .min_decay = 0.5});
  for (unsigned i = 0; i < 3; ++i) {
    for (auto& [name, tensor] : parameters)
      tensor = testing::stored_as(random_tensor(tensor.shape(), 80 + i), tensor.dtype());
    ema.update(parameters);
  }
  const TensorMap before = copied(parameters), averages = copied(ema.averages());
  ema.swap(parameters);
  EXPECT_TRUE(same_bits(parameters["wide.weight"], averages.find("wide.weight")->second));
  EXPECT_TRUE(same_bits(parameters["half"], testing::stored_as(averages.find("half")->second, DType::F16)));
  EXPECT_EQ(kind_of([&] { ema.update(parameters); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { ema.state(); }), ErrorKind::InvalidArgument);
  ema.swap(parameters);
  expect_same_bits(parameters, before);
  expect_same_bits(ema.averages(), averages);

  const TensorMap state = copied(ema.state());
  Ema restored(before, {.decay = 0.5, .min_decay = 0.5});
  restored.restore(state);
  restored.update(before);
  ema.update(before);
  expect_same_bits(restored.state(), ema.state());
  EXPECT_EQ(kind_of([&] { restored.restore({}); }), ErrorKind::Corrupt);
  EXPECT_EQ(kind_of([&] { Ema({}, {.decay = 0.5, .min_decay = 0.6}); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
