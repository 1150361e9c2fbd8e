#include <memory>

#include <fmt/format.h>

#include "commands.h"
#include "generation.h"
#include "options.h"
#include "sinopia/base/error.h"
#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/diffusion/sigma_schedules.h"
#include "sinopia/text/layout.h"

namespace sinopia::cli {
namespace {

// Calls set with a flag's text; what the library refuses there is a wrong command line.
template <class Set>
std::function<void(const std::string&)> checked(const std::string& flag, Set set) {
  return [flag, set](const std::string& text) {
    try {
      set(text);
    } catch (const Error& error) {
      throw UsageError(fmt::format("{}: {}", flag, error.what()));
    }
  };
}

template <class Find>
std::function<void(const std::string&)> registered(const std::string& flag, std::string& target, Find find) {
  return checked(flag, [&target, find](const std::string& name) { target = find(name).name; });
}

void add_savings_options(CLI::App& app, Savings& s) {
  app.add_option_function<std::string>(
         "--guidance-interval",
         checked("--guidance-interval",
                 [&s](const std::string& text) { s.guidance_interval = parse_guidance_interval(text); }),
         "guide only within these shares of the steps, 0 to 1 (0:1); saves half of the others' time")
      ->type_name("FROM:TO");
  add_number(app, "--adaptive-guidance", s.adaptive_guidance, 0, 1,
             "stop guiding once it hardly changes the prediction: cosine from X, such as 0.99 (never)");
  app.add_option_function<std::string>(
         "--deepcache",
         checked("--deepcache", [&s](const std::string& text) { s.deep_cache = parse_deep_cache(text); }),
         "the network's deep part only every N evaluations, DEPTH skips kept fresh (1:0)")
      ->type_name("N[:DEPTH]");
  add_number(app, "--token-merging", s.token_merging, 0, 1,
             "merge this share of the tokens in the finest self-attention, such as 0.5 (0)");
  app.add_flag("--taesd-decode", s.tiny_decoder, "decode with --taesd: a rough picture, quickly");
}

void add_request_options(CLI::App& app, GenerationRequest& r) {
  app.add_option("-p,--prompt", r.prompt, "what to paint")->type_name("TEXT");
  app.add_option("-n,--negative-prompt", r.negative_prompt, "what to avoid")->type_name("TEXT");
  app.add_option("--class", r.class_label, "name or number of a class, for models that have them")
      ->type_name("NAME");
  add_integer(app, "-W,--width", r.width, 8, 8192, "pixels, a multiple of 8 (the model's own size)");
  add_integer(app, "-H,--height", r.height, 8, 8192, "pixels, a multiple of 8 (the model's own size)");
  add_integer(app, "--steps", r.steps, 1, 1000, "steps (20)");
  add_number(app, "--cfg-scale", r.cfg_scale, 0, 100, "how strongly the prompt guides; 1 is not at all (7)");
  add_number(app, "--guidance-rescale", r.guidance_rescale, 0, 1,
             "against overexposure at high guidance (0)");
  add_seed(app, "-s,--seed", r.seed, "picture i of a batch uses seed + i; -1 for a random one (0)");
  add_integer(app, "-b,--batch-count", r.batch_count, 1, 10000, "pictures (1)");
  app.add_option_function<std::string>("--sampling-method",
                                       registered("--sampling-method", r.sampler, find_sampler),
                                       "sampler; 'sinopia samplers' lists them (the model's own)")
      ->type_name("NAME");
  app.add_option_function<std::string>("--scheduler",
                                       registered("--scheduler", r.scheduler, find_sigma_schedule),
                                       "sigma schedule; 'sinopia samplers' lists them (the model's own)")
      ->type_name("NAME");
  add_choice(
      app, "--rng", {"cpu", "cuda", "gpu"}, [&r](const std::string& name) { r.rng = parse_rng_kind(name); },
      "whose noise a seed stands for: cpu (diffusers, ComfyUI), cuda (AUTOMATIC1111)");
  add_integer(app, "--clip-skip", r.clip_skip, 0, 100, "1 the text encoder's last layer, 2 the one before");
  add_choice(
      app, "--emphasis", {"original", "no-norm", "comfy", "ignore"},
      [&r](const std::string& name) { r.emphasis = parse_emphasis_mode(name); },
      "what (text:1.2) does: original (AUTOMATIC1111), no-norm, comfy (ComfyUI), ignore");
  app.add_flag("--truncate", r.truncate, "as diffusers: plain prompts, cut after 75 tokens");
  add_number(app, "--strength", r.strength, 0, 1, "how much of --init-img is painted anew (0.75)");
  add_choice(
      app, "--mask-form", {"auto", "blend", "channels"},
      [&r](const std::string& name) {
        r.mask_form = name == "blend"      ? MaskForm::Blend
                      : name == "channels" ? MaskForm::Channels
                                           : MaskForm::Auto;
      },
      "auto, blend (any model), channels (inpainting models)");
  add_number(app, "--eta", r.eta, 0, 10, "noise of ddim and the ancestral samplers (their own)");
  add_number(app, "--s-churn", r.s_churn, 0, 100, "noise that euler, heun and dpm2 add (0)");
  add_number(app, "--s-noise", r.s_noise, 0, 10, "scale of all added noise (1)");
  add_seed(app, "--variation-seed", r.variation_seed, "a second seed to turn to");
  add_number(app, "--variation-strength", r.variation_strength, 0, 1, "how far to turn to it (0)");
}

}  // namespace

void add_generate(CLI::App& app, Action& action, std::stop_token stop) {
  auto* command = app.add_subcommand("generate", "paint pictures from a prompt");
  auto job = std::make_shared<GenerationJob>();
  add_request_options(*command, job->request);
  add_savings_options(*command, job->request.savings);
  add_job_options(*command, *job);
  auto boxes = std::make_shared<std::vector<LayoutBox>>();
  command
      ->add_option_function<std::vector<std::string>>(
          "--box",
          [boxes](const std::vector<std::string>& texts) {
            for (const std::string& text : texts)
              checked("--box",
                      [&](const std::string& box) { boxes->push_back(parse_layout_box(box)); })(text);
          },
          "something and where it is, for models trained with boxes: shares of the picture's sides; often")
      ->type_name("LABEL:LEFT,TOP,RIGHT,BOTTOM");
  command->get_option("--model")->required();
  command->callback([job, boxes, &action, stop] {
    job->request.prompt = layout_prompt(job->request.prompt, *boxes);
    for (const auto& [flag, value] :
         {std::pair("--width", job->request.width), std::pair("--height", job->request.height)})
      if (value % 8 != 0) throw UsageError(fmt::format("{}: expected a multiple of 8, got {}", flag, value));
    if (!job->mask.empty() && job->init_image.empty()) throw UsageError("--mask needs --init-img");
    if (job->request.savings.tiny_decoder && job->load.taesd.empty())
      throw UsageError("--taesd-decode needs --taesd");
    action = [job, stop] { run_job(*job, stop); };
  });
}

}  // namespace sinopia::cli
