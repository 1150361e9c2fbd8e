// A picture from a prompt: text_to_image MODEL PROMPT OUTPUT.png
#include <cstdio>
#include <exception>

#include <sinopia/io/image.h>
#include <sinopia/pipelines/stable_diffusion_pipeline.h>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: text_to_image MODEL PROMPT OUTPUT.png\n");
    return 2;
  }
  try {
    sinopia::StableDiffusionPipeline pipeline(argv[1]);

    sinopia::GenerationRequest request;
    request.prompt = argv[2];
    request.sampler = "dpm++2m";
    request.seed = 42;
    request.on_progress = [](const sinopia::Progress& p) {
      std::fprintf(stderr, "%s %d/%d\n", to_string(p.stage), p.step, p.steps);
    };

    const sinopia::GenerationResult result = pipeline.generate(request);
    sinopia::write_image(argv[3], result.images.front());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
