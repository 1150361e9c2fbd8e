#include "bench/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/io/file.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia::bench {
namespace {

using Json = nlohmann::json;
using sinopia::testing::kind_of;
using sinopia::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Json row(const std::string& name, double seconds, double flops = 1e9, double peak = 1e11) {
  return {
      {"family", "conv"}, {"name", name}, {"flops", flops}, {"peak", peak}, {"seconds", {{"ours", seconds}}}};
}

Json report(std::initializer_list<Json> rows, int threads = 2, double copy = 1e10) {
  return {{"commit", "abc"}, {"threads", threads}, {"copy_bytes", copy}, {"cases", Json::array_t(rows)}};
}

/// How many are slower, and what was printed.
std::pair<int, std::string> compare_with(const Json& now, const Json& before) {
  const TemporaryFolder folder;
  write_file(folder / "old.json", before.dump());
  ::testing::internal::CaptureStdout();
  const int slower = compare(now, folder / "old.json");
  std::fflush(stdout);
  return {slower, ::testing::internal::GetCapturedStdout()};
}

std::string line_of(const std::string& text, const std::string& name) {
  const size_t at = text.find(name);
  return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
}

TEST(Compare, TellsWhatBecameSlower) {
  const auto [slower, text] =
      compare_with(report({row("same", 1.05), row("slow", 1.2), row("fast", 0.5), row("new", 3)}),
                   report({row("same", 1), row("slow", 1), row("fast", 1), row("gone", 1)}));
  EXPECT_EQ(slower, 1);
  EXPECT_THAT(text, HasSubstr("Since commit abc"));
  EXPECT_THAT(line_of(text, "slow"), AllOf(HasSubstr("0.83x"), HasSubstr("SLOWER")));
  EXPECT_THAT(line_of(text, "fast"), AllOf(HasSubstr("2.00x"), HasSubstr("faster")));
  EXPECT_THAT(line_of(text, "same"), AllOf(HasSubstr("0.95x"), Not(HasSubstr("SLOWER"))));
  EXPECT_THAT(line_of(text, "new"), HasSubstr("new"));
  EXPECT_THAT(text, Not(HasSubstr("gone")));
  EXPECT_THAT(text, HasSubstr("1 of 4 slower"));
}

// Products are held to the multiply-adds of their own run, the rest to the copy.
TEST(Compare, AMachineThatWasSlowerAsAWholeDoesNotCount) {
  const Json before = report({row("product", 1), row("copy", 1, 0)});
  EXPECT_EQ(compare_with(report({row("product", 2, 1e9, 5e10), row("copy", 2, 0)}, 2, 5e9), before).first, 0);
  EXPECT_EQ(compare_with(report({row("product", 2), row("copy", 2, 0)}), before).first, 2);
}

TEST(Compare, RefusesWhatIsNoReport) {
  const TemporaryFolder folder;
  const Json now = report({row("a", 1)});
  EXPECT_EQ(kind_of([&] { compare(now, folder / "none"); }), ErrorKind::NotFound);
  for (const char* text : {"", "[]", "{\"cases\": []}", "{\"threads\": 2", "{\"threads\": 2, \"cases\": 3}",
                           "{\"threads\": 2, \"cases\": [{}], \"copy_bytes\": 1}",
                           "{\"threads\": 2, \"cases\": [{\"family\": 1}]}"}) {
    write_file(folder / "old", std::string_view(text));
    EXPECT_EQ(kind_of([&] { compare(now, folder / "old"); }), ErrorKind::InvalidArgument) << text;
  }
  write_file(folder / "old", report({row("a", 1)}, 1).dump());
  EXPECT_EQ(kind_of([&] { compare(now, folder / "old"); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia::bench
