#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include "commands.h"
#include "interrupt.h"
#include "options.h"
#include "sinopia/base/error.h"
#include "sinopia/base/log.h"
#include "sinopia/pipelines/metadata.h"

namespace sinopia::cli {
namespace {

constexpr int kSuccess = 0, kFailure = 1, kUsage = 2;

int complain(int code, const std::string& message) {
  fmt::print(stderr, "sinopia: {}\n", message);
  return code;
}

// CLI11 would only say that a command is missing.
void check_command(const CLI::App& app, const std::string& name) {
  std::string known;
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == name) return;
    known += (known.empty() ? "" : ", ") + command->get_name();
  }
  throw UsageError(fmt::format("unknown command '{}'; known are {}", name, known));
}

int run(int argc, char** argv) {
  const Interrupt interrupt;
  set_log_sink([](LogLevel level, std::string_view message) {
    if (level == LogLevel::Warning) fmt::print(stderr, "sinopia: {}\n", message);
  });

  CLI::App app(
      "Pictures from latent diffusion models, and the training of such models.\nEach command has a help of "
      "its own: sinopia generate --help",
      "sinopia");
  app.set_version_flag("--version", fmt::format("sinopia {}", version()));
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  Action action;
  add_generate(app, action, interrupt.token());
  add_replay(app, action, interrupt.token());
  add_inspect(app, action);
  add_convert(app, action);
  add_init(app, action);
  add_train(app, action, interrupt.token());
  add_evaluate(app, action, interrupt.token());
  add_samplers(app, action);
  if (argc > 1 && argv[1][0] != '-') check_command(app, argv[1]);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& shown) {  // --help, --version
    return app.exit(shown);
  } catch (const CLI::ParseError& error) {
    return complain(kUsage, std::string(error.what()) + "\nRun 'sinopia --help' for the commands.");
  } catch (const UsageError& error) {
    return complain(kUsage, error.what());
  }
  action();
  if (std::fflush(stdout) != 0) return complain(kFailure, "cannot write to the standard output");
  return kSuccess;
}

}  // namespace
}  // namespace sinopia::cli

int main(int argc, char** argv) {
  using namespace sinopia;
  using namespace sinopia::cli;
  try {
    return run(argc, argv);
  } catch (const UsageError& error) {
    return complain(kUsage, error.what());
  } catch (const Error& error) {
    return complain(kFailure, error.kind() == ErrorKind::Cancelled ? "cancelled" : error.what());
  } catch (const std::bad_alloc&) {
    return complain(kFailure, "out of memory");
  } catch (const std::exception& error) {
    return complain(kFailure, error.what());
  }
}
