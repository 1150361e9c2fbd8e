#include <fmt/format.h>

#include "commands.h"
#include "sinopia/diffusion/samplers/registry.h"
#include "sinopia/diffusion/sigma_schedules.h"

namespace sinopia::cli {

void add_samplers(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("samplers", "list the samplers and sigma schedules");
  command->callback([&action] {
    action = [] {
      fmt::print("Samplers (--sampling-method):\n");
      for (const SamplerInfo& row : samplers()) fmt::print("  {:<18} {}\n", row.name, row.description);
      fmt::print("\nSigma schedules (--scheduler):\n");
      for (const SigmaScheduleInfo& row : sigma_schedules())
        fmt::print("  {:<22} {}\n", row.name, row.description);
    };
  });
}

}  // namespace sinopia::cli
