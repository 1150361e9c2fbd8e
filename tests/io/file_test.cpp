#include "sinopia/io/file.h"

#include <cstring>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sinopia/base/error.h"
#include "tests/file_size_limit.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using testing::FileSizeLimit;
using testing::kind_of;
using testing::TemporaryFolder;

size_t entries(const std::filesystem::path& folder) {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

TEST(File, MapsWhatWasWritten) {
  const TemporaryFolder folder;
  std::string text(100'003, 'x');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  write_file(folder / "a", text);
  const auto mapped = map_file(folder / "a");
  ASSERT_EQ(mapped->bytes(), text.size());
  EXPECT_TRUE(mapped->is_mapped());
  EXPECT_EQ(std::memcmp(mapped->data(), text.data(), text.size()), 0);
  mapped->drop_pages(5000, 60'000);
  EXPECT_EQ(std::memcmp(mapped->data(), text.data(), text.size()), 0) << "dropped pages are read again";
}

TEST(File, MapsAnEmptyFile) {
  const TemporaryFolder folder;
  write_file(folder / "empty", std::string_view());
  EXPECT_EQ(map_file(folder / "empty")->bytes(), 0u);
  EXPECT_EQ(read_text_file(folder / "empty", 10), "");
}

TEST(File, RefusesWhatIsNotAFile) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(kind_of([&] { map_file(folder.path()); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { map_file(folder / "fifo"); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { map_file("/dev/zero"); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { read_text_file("/dev/zero", 100); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { map_file(folder / "missing"); }), ErrorKind::NotFound);
  EXPECT_EQ(kind_of([&] { AtomicFile file(folder.path()); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { AtomicFile file(folder / "fifo"); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { AtomicFile file(folder / "no" / "folder"); }), ErrorKind::NotFound);
}

TEST(File, ReadsNoMoreThanAllowed) {
  const TemporaryFolder folder;
  write_file(folder / "a", std::string_view("\xEF\xBB\xBFhello"));
  EXPECT_EQ(read_text_file(folder / "a", 8), "hello");
  EXPECT_EQ(read_file(folder / "a", 8).size(), 8u);
  EXPECT_EQ(kind_of([&] { read_text_file(folder / "a", 7); }), ErrorKind::Corrupt);
}

TEST(AtomicFile, WhatAKilledProcessLeftIsRemoved) {
  const TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(folder / "loss.png");
    file.write("half");
    ::_exit(0);  // without its destructor
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ASSERT_EQ(entries(folder.path()), 1u);
  const char* const others[] = {"loss.png", ".hidden",   "a.abcdef", ".abcdef",
                                "..abcdef", ".a.abc-ef", ".a.abcde"};
  for (const char* other : others) write_file(folder / other, std::string_view("kept"));
  std::filesystem::create_directory(folder / ".b.abcdef");
  remove_unfinished(folder.path());
  for (const char* other : others) EXPECT_TRUE(std::filesystem::exists(folder / other)) << other;
  EXPECT_EQ(entries(folder.path()), std::size(others) + 1);
  remove_unfinished(folder / "missing");
}

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  write_file(folder / "a", std::string_view("old"));
  {
    AtomicFile file(folder / "a");
    file.write("new and longer");
    EXPECT_EQ(read_text_file(folder / "a", 100), "old");
  }
  EXPECT_EQ(read_text_file(folder / "a", 100), "old");
  EXPECT_EQ(entries(folder.path()), 1u) << "an abandoned temporary is removed";
  AtomicFile file(folder / "a");
  file.write("new");
  file.commit();
  EXPECT_EQ(read_text_file(folder / "a", 100), "new");
  EXPECT_EQ(entries(folder.path()), 1u);
  EXPECT_EQ(kind_of([&] { file.write("more"); }), ErrorKind::InvalidArgument);
}

TEST(AtomicFile, KeepsRights) {
  const TemporaryFolder folder;
  write_file(folder / "a", std::string_view("x"));
  ASSERT_EQ(::chmod((folder / "a").c_str(), 0640), 0);
  write_file(folder / "a", std::string_view("y"));
  struct stat status {};
  ASSERT_EQ(::stat((folder / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST(AtomicFile, AFailedWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  write_file(folder / "a", std::string_view("old"));
  const auto kind = [&] {
    const FileSizeLimit limit(10'000);
    return kind_of([&] { write_file(folder / "a", std::string(50'000, 'n')); });
  }();
  EXPECT_EQ(kind, ErrorKind::Backend);
  EXPECT_EQ(read_text_file(folder / "a", 100), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(MakeFolder, MakesWhatIsMissing) {
  const TemporaryFolder folder;
  make_folder(folder / "a" / "b");
  write_file(folder / "a" / "b" / "c", std::string_view("text"));
  make_folder(folder / "a" / "b");
  EXPECT_EQ(read_text_file(folder / "a" / "b" / "c", 100), "text");
  EXPECT_EQ(kind_of([&] { make_folder(folder / "a" / "b" / "c"); }), ErrorKind::Backend);
  EXPECT_EQ(kind_of([&] { make_folder(folder / "a" / "b" / "c" / "d"); }), ErrorKind::Backend);
}

TEST(AppendedFile, GoesOnWhereItWas) {
  const TemporaryFolder folder;
  AppendedFile(folder / "log").append("one ");
  AppendedFile again(folder / "log");
  again.append("two ");
  EXPECT_EQ(read_text_file(folder / "log", 100), "one two ");
  again.append("");
  again.append("three");
  EXPECT_EQ(read_text_file(folder / "log", 100), "one two three");
  EXPECT_EQ(kind_of([&] { AppendedFile(folder.path()); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { AppendedFile(folder / "no" / "log"); }), ErrorKind::NotFound);
}

TEST(AppendedFile, TakesBackWhatWasCut) {
  const TemporaryFolder folder;
  AppendedFile log(folder / "log");
  log.append("whole ");
  {
    const FileSizeLimit limit(10);
    EXPECT_EQ(kind_of([&] { log.append("too long"); }), ErrorKind::Backend);
  }
  log.append("again");
  EXPECT_EQ(read_text_file(folder / "log", 100), "whole again");
}

}  // namespace
}  // namespace sinopia
