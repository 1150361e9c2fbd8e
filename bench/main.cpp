#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <random>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "bench/bench.h"
#include "bench/compare.h"
#include "sinopia/base/half.h"
#include "sinopia/base/threads.h"

namespace sinopia::bench {
namespace {

bool by_cpu_time = false;

}  // namespace

double now() {
  timespec time;
  clock_gettime(by_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double element(const Tensor& x, int64_t i) {
  if (x.dtype() == DType::F16) return to_float(x.data<Half>()[i]);
  if (x.dtype() == DType::BF16) return to_float(x.data<BFloat16>()[i]);
  return x.data<float>()[i];
}

namespace {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

/// Throws unless 64 elements of y, corners among them, are what the plain loops say.
void verify(const Case& c, const Prepared& p, const Contender& contender) {
  const Tensor& y = contender.y;
  std::mt19937_64 engine(7);
  for (int i = 0; i < 64; ++i) {
    const int64_t at = i == 0 ? 0 : i == 1 ? y.numel() - 1 : static_cast<int64_t>(engine() % y.numel());
    const Prepared::Value expected = p.reference(at);
    const double error = std::abs(y.data<float>()[at] - expected.value);
    SINOPIA_CHECK(error <= p.tolerance * expected.magnitude + 1e-30, Backend,
                  "[bench] {}: {} expected {} at {}, got {}; not timed", c.name, contender.name,
                  expected.value, at, y.data<float>()[at]);
  }
}

struct Options {
  std::string filter, json, older;
  int threads = 0, repeat = 0;
  bool cpu_time = false;
};

nlohmann::json measure(const Case& c, const Options& options) {
  const Prepared p = c.prepare();
  for (const Contender& contender : p.contenders) {
    contender.run();
    verify(c, p, contender);
  }
  // In turns, so that whatever else the machine does meets all alike; the peak too.
  std::vector<std::vector<double>> seconds(p.contenders.size());
  std::vector<double> peaks;
  const double start = now();
  const int least = options.repeat > 0 ? options.repeat : 5, most = options.repeat > 0 ? options.repeat : 101;
  for (int i = 0; i < most && (i < least || now() - start < 1.5); ++i) {
    for (size_t j = 0; j < p.contenders.size(); ++j) {
      const double before = now();
      p.contenders[j].run();
      seconds[j].push_back(now() - before);
    }
    peaks.push_back(measure_fma_flops());
  }
  nlohmann::json row{{"family", c.family}, {"name", c.name},        {"flops", c.flops},
                     {"bytes", c.bytes},   {"peak", median(peaks)}, {"repeats", peaks.size()}};
  for (size_t j = 0; j < p.contenders.size(); ++j) row["seconds"][p.contenders[j].name] = median(seconds[j]);
  return row;
}

void print(const nlohmann::json& row, double copy) {
  const nlohmann::json& seconds = row["seconds"];
  const double ours = seconds["ours"], flops = row["flops"], bytes = row["bytes"], peak = row["peak"];
  std::string line = fmt::format("{:<12} {:<46} {:9.3f} ms", row["family"].get<std::string>(),
                                 row["name"].get<std::string>(), ours * 1e3);
  line += flops > 0 ? fmt::format(" {:7.1f} GFLOP/s {:4.0f}%", flops / ours / 1e9, 100 * flops / ours / peak)
                    : std::string(22, ' ');
  line += fmt::format(" {:6.1f} GB/s {:4.0f}%", bytes / ours / 1e9, 100 * bytes / ours / copy);
  for (const auto& [name, value] : seconds.items()) {
    if (name != "ours") line += fmt::format("  {} {:.2f}x", name, value.get<double>() / ours);
  }
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

int run(const Options& options) {
  by_cpu_time = options.cpu_time;
  set_thread_count(options.cpu_time ? 1 : options.threads);
  omp_set_num_threads(thread_count());
  std::vector<Case> cases;
  add_convolutions(cases);
  add_linears(cases);
  add_attentions(cases);
  add_memory_bound(cases);
  add_optimizers(cases);

  double peak = 0;
  for (int i = 0; i < 20; ++i) peak = std::max(peak, measure_fma_flops());
  const double copy = measure_copy_bytes();
  fmt::print("{}, {} threads, commit {}: {:.1f} GFLOP/s multiply-add, {:.1f} GB/s copy\n", processor(),
             thread_count(), SINOPIA_COMMIT, peak / 1e9, copy / 1e9);
  fmt::print(
      "Medians. % of the multiply-adds measured in turns with the case, % of the copy; other libraries: "
      "their "
      "time / ours.\n");
  nlohmann::json report{{"commit", SINOPIA_COMMIT},  {"machine", processor()},
                        {"threads", thread_count()}, {"peak_flops", peak},
                        {"copy_bytes", copy},        {"cases", nlohmann::json::array()}};
  for (const Case& c : cases) {
    if ((c.family + " " + c.name).find(options.filter) == std::string::npos) continue;
    report["cases"].push_back(measure(c, options));
    print(report["cases"].back(), copy);
  }
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << report.dump(2) << "\n";
    SINOPIA_CHECK(file.flush(), Backend, "[bench] cannot write {}", options.json);
  }
  constexpr int kSlower = 2;
  return !options.older.empty() && compare(report, options.older) > 0 ? kSlower : 0;
}

}  // namespace
}  // namespace sinopia::bench

int main(int argc, char** argv) {
  CLI::App app("Times the CPU kernels on the shapes of real models, after checking their results");
  sinopia::bench::Options options;
  app.add_option("--filter", options.filter, "only cases whose family and name contain this");
  app.add_option("--threads", options.threads, "0: all cores");
  app.add_option("--repeat", options.repeat, "runs of each case; 0: what fits into about a second");
  app.add_option("--json", options.json, "also write the numbers to this file");
  app.add_option("--compare", options.older,
                 "a report of --json from before: say what became slower since; exit code 2 if something did")
      ->check(CLI::ExistingFile);
  app.add_flag("--cpu-time", options.cpu_time,
               "one thread, timed by what it ran: for a machine that others use");
  CLI11_PARSE(app, argc, argv);
  try {
    return sinopia::bench::run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
