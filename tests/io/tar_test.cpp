#include "sinopia/io/tar.h"

#include <cstdlib>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/sha256.h"
#include "tests/io/memory_storage.h"
#include "tests/io/tar_builder.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using testing::kind_of;
using testing::TemporaryFolder;
using testing_io::make_tar;
using testing_io::make_tar_member;
using testing_io::memory_storage;
using testing_io::pax_record;

TarArchive parse(std::string_view bytes) { return TarArchive(memory_storage(bytes), "x.tar"); }

std::vector<std::string> names_of(const TarArchive& archive) {
  std::vector<std::string> names;
  for (const TarEntry& entry : archive.entries()) names.push_back(entry.name);
  return names;
}

std::optional<ErrorKind> kind_of_tar(const std::string& bytes) {
  return kind_of([&] { parse(bytes); });
}

std::string random_text(size_t bytes, unsigned seed) {
  std::mt19937 engine(seed);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(engine());
  return text;
}

TEST(Tar, ReadsMembersWhereTheyLie) {
  const std::string a = random_text(513, 1), b = random_text(512, 2);
  const TarArchive tar = parse(make_tar({{"d/", "", '5'},
                                         {"./d/b.png", b},
                                         {"a", a},
                                         {"link", "", '2'},
                                         {"hard", "", '1', "00000001000"},
                                         {"empty", ""},
                                         {"v7", "old", '\0', "", "", ""},
                                         {"name", "x", '0', "", "some/prefix"},
                                         {"gnu", "y", '0', "", "no prefix", "ustar  "},
                                         {"big", "z", '0', "\x80" + std::string(10, '\0') + "\x01"},
                                         {"spaces", "12", '0', "         2 \0"}}));
  EXPECT_THAT(names_of(tar),
              ElementsAre("a", "big", "d/b.png", "empty", "gnu", "some/prefix/name", "spaces", "v7"));
  EXPECT_EQ(tar.read(*tar.find("a")), a);
  EXPECT_EQ(tar.read(*tar.find("d/b.png")), b);
  EXPECT_EQ(tar.read(*tar.find("empty")), "");
  EXPECT_EQ(tar.read(*tar.find("v7")), "old");
  EXPECT_EQ(tar.read(*tar.find("big")), "z");
  EXPECT_EQ(tar.read(*tar.find("spaces")), "12");
  EXPECT_EQ(tar.find("d"), nullptr);
}

TEST(Tar, ReadsLongNamesAndSizesOfBothKinds) {
  const std::string gnu = "g/" + std::string(300, 'g'), pax = "p/" + std::string(200, 'p') + "\xC3\xA9";
  const TarArchive tar = parse(
      make_tar({{"././@LongLink", gnu + '\0', 'L'},
                {"cut", "1"},
                {"plain", "2"},
                {"pax", pax_record("mtime", "1.5") + pax_record("path", pax) + pax_record("size", "3"), 'x'},
                {"cut", "abc", '0', "00000000000"},
                {"after", "4"},
                {"global", pax_record("comment", "=x"), 'g'},
                {"last", "5"}}));
  EXPECT_THAT(names_of(tar), ElementsAre("after", gnu, "last", pax, "plain"));
  EXPECT_EQ(tar.read(*tar.find(gnu)), "1");
  EXPECT_EQ(tar.read(*tar.find(pax)), "abc");
  EXPECT_EQ(tar.read(*tar.find("after")), "4");
}

TEST(Tar, RefusesWhatIsBroken) {
  using enum ErrorKind;
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x", '0', "", "", "ustar", 1}})), Corrupt) << "checksum";
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x", '0', "00000001001"}})), std::nullopt) << "shorter than it says";
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x", '0', "77777777777"}})), Corrupt) << "past the end";
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x", '0', std::string(12, '\xff')}})), Corrupt) << "negative";
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x", '0', "\x80" + std::string(3, '\0') + std::string(8, '\xff')}})),
            Corrupt)
      << "2^64 - 1";
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x", '0', "00000000009"}})), Corrupt) << "not octal";
  for (const char* name : {"../a", "/a", "a/../../b", "a\\b"})
    EXPECT_EQ(kind_of_tar(make_tar({{name, "x"}})), Corrupt) << name;
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x"}, {"./a", "y"}})), Corrupt) << "twice";
  EXPECT_EQ(kind_of_tar(make_tar({{"p", pax_record("path", "../a"), 'x'}, {"a", "x"}})), Corrupt);
  EXPECT_EQ(kind_of_tar(make_tar({{"p", pax_record("size", "9999"), 'x'}, {"a", "x"}})), Corrupt);
  EXPECT_EQ(kind_of_tar(make_tar({{"p", pax_record("size", "-1"), 'x'}, {"a", "x"}})), Corrupt);
  for (const char* record :
       {"5 a=b\n", "99 a=b\n", "7 a=b\n", "7 aab\n\n", "0 ", "x", "18446744073709551615 a=b\n"})
    EXPECT_EQ(kind_of_tar(make_tar({{"p", record, 'x'}, {"a", "x"}})), Corrupt) << record;
  EXPECT_EQ(kind_of_tar(make_tar({{"p", pax_record("GNU.sparse.major", "1"), 'x'}, {"a", "x"}})),
            Unsupported);
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x", 'S'}})), Unsupported);
  EXPECT_EQ(kind_of_tar(make_tar({{"a", "x"}}) + make_tar({{"b", "x"}})), Corrupt) << "one after another";
  EXPECT_EQ(kind_of_tar(""), Corrupt);
  EXPECT_EQ(kind_of_tar(random_text(4096, 3)), Corrupt);
}

TEST(Tar, NoticesEveryCutBeforeItsEnd) {
  const std::string whole =
      make_tar({{"l", std::string(600, 'n') + '\0', 'L'}, {"a", random_text(700, 4)}, {"b", "x"}});
  for (size_t bytes = 0; bytes + 512 < whole.size(); bytes += bytes % 512 < 4 ? 1 : 127) {
    EXPECT_EQ(kind_of_tar(whole.substr(0, bytes)), ErrorKind::Corrupt) << bytes;
  }
  EXPECT_EQ(kind_of_tar(whole.substr(0, whole.size() - 512)), std::nullopt) << "one block of zeros is enough";
}

// Whatever single byte of a header is changed: an error, or nothing that leaves the archive.
TEST(Tar, StaysWithinTheArchiveWhateverAByteIs) {
  const std::string whole =
      make_tar({{"p", pax_record("path", "long/name"), 'x'}, {"a", random_text(30, 5)}});
  std::mt19937 engine(6);
  for (int i = 0; i < 4000; ++i) {
    std::string changed = whole;
    changed[engine() % 2048] = static_cast<char>(engine());
    try {
      const TarArchive tar = parse(changed);
      for (const TarEntry& entry : tar.entries())
        sha256({reinterpret_cast<const uint8_t*>(tar.read(entry).data()), entry.bytes});
    } catch (const Error&) {
    }
  }
}

TEST(Sha256, IsWhatTheStandardSays) {
  const auto hash = [](std::string_view text) { return sha256_hex_of_text(text); };
  EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  // hashlib's, at the lengths where the padding needs another block.
  EXPECT_EQ(hash(std::string(55, 'x')), "d5e285683cd4efc02d021a5c62014694958901005d6f71e89e0989fac77e4072");
  EXPECT_EQ(hash(std::string(56, 'x')), "04c26261370ee7541549d16dee320c723e3fd14671e66a099afe0a377c16888e");
  EXPECT_EQ(hash(std::string(63, 'x')), "75220b47218278e656f2013bb8f0c455a25eaf01e86c64924e9d48d89776d6f2");
  EXPECT_EQ(hash(std::string(64, 'x')), "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c");
  EXPECT_EQ(hash(std::string(65, 'x')), "9537c5fdf120482f7d58d25e9ed583f52c02b4e304ea814db1633ad565aed7e9");
}

}  // namespace
}  // namespace sinopia
