#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models.h"
#include "sinopia/backend/planned_memory.h"
#include "sinopia/nn/layers.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/nn/weight_streaming.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"
#include "sinopia/pipelines/memory_planning.h"
#include "sinopia/pipelines/sampling_choice.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"
#include "sinopia/tensor/allocator.h"
#include "tests/kind_of.h"

namespace sinopia::testing {
namespace {

constexpr size_t kAmple = size_t{100} << 30;

GenerationRequest request_of(int side, size_t max_memory) {
  GenerationRequest r;
  r.prompt = "a red fox";
  r.width = r.height = side;
  r.steps = 1;
  r.max_memory = max_memory;
  r.keep_latents = true;
  return r;
}

TEST(PlannedMemory, IsWhatTheWorkHolds) {
  const auto work = [] {
    Tensor x = Tensor::empty({300, 1000});
    Tensor y = x * 2.0f;
    x = {};
    EXPECT_TRUE(all_finite(y + y));
  };
  const size_t planned = planned_peak(work);
  EXPECT_EQ(planned, 2u * 300 * 1000 * 4);
  // The work is not done, and nothing of the plan is left.
  const MemoryStats before = allocator({}).stats();
  EXPECT_EQ(planned_peak(work), planned);
  EXPECT_EQ(allocator({}).stats().requests, before.requests);
  EXPECT_EQ((full({1}, 3) * 2.0f).values<float>()[0], 6);
  EXPECT_THROW(planned_peak([] { fail(ErrorKind::Backend, "stop"); }), Error);
  EXPECT_EQ((full({1}, 3) * 2.0f).values<float>()[0], 6);
}

TEST(MemoryPlan, FollowsTheTensors) {
  StableDiffusionPipeline sd1(model("tiny-sd1"));
  const GenerationResult result = sd1.generate(request_of(96, kAmple));
  const MemoryPlan& plan = result.memory;
  EXPECT_EQ(plan.tile, 0);
  EXPECT_FALSE(plan.stream_sampling || plan.stream_decoding);
  const size_t bytes = std::max(plan.sampling, plan.decoding);
  EXPECT_GT(bytes, result.peak_tensor_bytes);
  // What is on top of the tensors is for the program and for the kernels.
  EXPECT_LT(bytes, result.peak_tensor_bytes + (size_t{160} << 20));
}

TEST(FittingTiles, GetSmallerUntilAGpuHasRoom) {
  const Device gpu{DeviceType::Cuda, 0};
  GenerationRequest request;
  std::vector<int> tried;
  const auto needs_room = [&](int largest) {
    tried.clear();
    return [&tried, largest](int tile) {
      tried.push_back(tile);
      if (tile == 0 || tile > largest) fail(ErrorKind::OutOfMemory, "no room");
      return tile;
    };
  };
  EXPECT_EQ(with_fitting_tiles(gpu, request, 0, needs_room(32)), 32);
  EXPECT_EQ(tried, (std::vector<int>{0, 64, 48, 32}));
  EXPECT_EQ(with_fitting_tiles(gpu, request, 48, needs_room(100)), 48);
  EXPECT_EQ(tried, (std::vector<int>{48}));
  EXPECT_EQ(with_fitting_tiles(gpu, request, 48, needs_room(24)), 24);
  EXPECT_EQ(tried, (std::vector<int>{48, 32, 24}));
  EXPECT_EQ(kind_of([&] { with_fitting_tiles(gpu, request, 0, needs_room(23)); }), ErrorKind::OutOfMemory);
  EXPECT_EQ(tried, (std::vector<int>{0, 64, 48, 32, 24}));
  // Not on the CPU, where it was planned; not where tiles are unwanted; not for other errors.
  EXPECT_EQ(kind_of([&] { with_fitting_tiles({}, request, 0, needs_room(64)); }), ErrorKind::OutOfMemory);
  EXPECT_EQ(tried, (std::vector<int>{0}));
  request.vae_tiling = VaeTiling::Off;
  EXPECT_EQ(kind_of([&] { with_fitting_tiles(gpu, request, 0, needs_room(64)); }), ErrorKind::OutOfMemory);
  EXPECT_EQ(tried, (std::vector<int>{0}));
  request.vae_tiling = VaeTiling::Auto;
  const auto broken = [&](int tile) -> int {
    tried.push_back(tile);
    fail(ErrorKind::Backend, "broken");
  };
  EXPECT_EQ(kind_of([&] { with_fitting_tiles(gpu, request, 0, broken); }), ErrorKind::Backend);
}

TEST(MemoryPlan, TakesSmallerTilesAndThenRefuses) {
  const StableDiffusion networks = StableDiffusion::load(model("tiny-sd1"));
  TextEncoding text(networks.text_encoders()[0].model, networks.text_encoders()[0].padding_id);
  const SchedulerConfig scheduler = scheduler_config(networks.schedule());
  const NoiseSchedule schedule(scheduler.schedule);
  const SamplingPlan sampling = choose_plan("euler", "", scheduler, schedule, 1);
  Guidance guidance;
  guidance.positive = text.encode_positive("a red fox", 1, {});
  const GuidedDenoiser denoiser(networks.unet(), schedule, sampling, guidance, {});
  RandomParameters parameters(1);
  const Autoencoder vae(Scope(parameters), {.channels = {32, 32, 32, 32}});
  const std::string name = "tiny";
  const Networks all{networks.unet(),           vae,      nullptr,   nullptr, text,
                     networks.mapped_weights(), schedule, scheduler, name};
  const Shape latent{1, 160, 152, 4};
  const auto plan = [&](size_t limit, VaeTiling tiling, bool tiles = false) {
    GenerationRequest r;
    r.max_memory = limit;
    r.vae_tiling = tiling;
    return plan_memory(all, r, denoiser, latent, tiles);
  };
  const auto refuses = [&](size_t limit, VaeTiling tiling) {
    return kind_of([&] { plan(limit, tiling); }) == ErrorKind::OutOfMemory;
  };
  const MemoryPlan whole = plan(kAmple, VaeTiling::Auto);
  EXPECT_EQ(whole.tile, 0);
  EXPECT_EQ(plan(kAmple, VaeTiling::On, true).tile, 64);
  ASSERT_GT(whole.decoding, whole.sampling);
  const MemoryPlan tiled = plan(whole.decoding - 1, VaeTiling::Auto);
  EXPECT_EQ(tiled.tile, 64);
  EXPECT_LT(tiled.decoding, whole.decoding);
  EXPECT_TRUE(refuses(whole.decoding - 1, VaeTiling::Off));
  ASSERT_GT(tiled.decoding, tiled.sampling);
  EXPECT_EQ(plan(tiled.decoding - 1, VaeTiling::Auto).tile, 48);
  EXPECT_TRUE(refuses(whole.sampling - 1, VaeTiling::Auto));
}

TEST(MemoryPlan, NamesThePixelsThatDoNotFit) {
  StableDiffusionPipeline sd1(model("tiny-sd1"));
  GenerationRequest r = request_of(48, 1000);
  r.height = 40;
  try {
    sd1.generate(r);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::OutOfMemory);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("48x40 pixels"));
  }
}

TEST(WeightStreaming, GivesPagesBackOnlyWhileItIsOn) {
  alignas(64) static float values[16] = {};
  int drops = 0;
  const auto mapped = std::make_shared<Storage>(values, sizeof(values), Device{}, nullptr,
                                                [&](const void*, size_t) { ++drops; });
  CheckpointParameters parameters({{"weight", Tensor({4, 4}, DType::F32, mapped)}}, "one layer");
  const Linear layer(Scope(parameters), 4, 4, false);
  const Tensor x = full({1, 4}, 1);
  layer(x);
  EXPECT_EQ(drops, 0);
  const WeightStreaming on(true);
  layer(x);
  EXPECT_EQ(drops, 1);
}

TEST(WeightStreaming, ChangesNoBit) {
  const TemporaryFolder folder;
  StableDiffusionPipeline sd1(single_file("tiny-sd1", folder));
  const GenerationResult want = sd1.generate(request_of(64, 0));
  EXPECT_FALSE(WeightStreaming::is_on());
  {
    const WeightStreaming on(true), off(false);
    EXPECT_TRUE(WeightStreaming::is_on());
    const GenerationResult got = sd1.generate(request_of(64, 0));
    EXPECT_EQ(got.latents[0].to_vector<float>(), want.latents[0].to_vector<float>());
    EXPECT_EQ(got.images[0].pixels, want.images[0].pixels);
  }
  EXPECT_FALSE(WeightStreaming::is_on());
}

}  // namespace
}  // namespace sinopia::testing
