#pragma once

#include <functional>
#include <stop_token>

#include <CLI/CLI.hpp>

namespace sinopia::cli {

/// What main runs once the whole command line has been read.
using Action = std::function<void()>;

// Each adds one subcommand, which sets `action` when it is chosen.
void add_generate(CLI::App& app, Action& action, std::stop_token stop);
void add_replay(CLI::App& app, Action& action, std::stop_token stop);
void add_inspect(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_init(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action, std::stop_token stop);
void add_evaluate(CLI::App& app, Action& action, std::stop_token stop);
void add_samplers(CLI::App& app, Action& action);

}  // namespace sinopia::cli
