#include "sinopia/train/data/captioned_pictures.h"

#include <filesystem>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/sha256.h"
#include "tests/io/tar_builder.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kind_of;
using testing::TemporaryFolder;
using testing_io::make_tar;

std::vector<uint8_t> picture_bytes(int width, int height, unsigned seed,
                                   ImageFormat format = ImageFormat::Png) {
  Image image = make_image(width, height, 3);
  std::mt19937 engine(seed);
  for (uint8_t& p : image.pixels) p = static_cast<uint8_t>(engine());
  return encode_image(image, format);
}

std::string text_of(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

void put(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  write_file(path, text);
}

std::vector<std::string> names_of(const CaptionedPictures& set) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < set.size(); ++i) names.push_back(set[i].name);
  return names;
}

TEST(CaptionedPictures, OfAFolder) {
  const TemporaryFolder folder;
  put(folder / "b.png", text_of(picture_bytes(5, 3, 1)));
  put(folder / "b.txt", "\xEF\xBB\xBFone\r\n\n  two \xE4\xB8\x80\n");
  put(folder / "a/z.JPEG", text_of(picture_bytes(7, 2, 2, ImageFormat::Jpeg)));
  put(folder / "a/z.txt", "z");
  put(folder / "a/b/c.d.webp", text_of(picture_bytes(1, 4, 3, ImageFormat::Webp)));
  put(folder / "a/b/c.d.txt", "cd");
  put(folder / "notes.txt", "no picture");
  put(folder / "b.map.png", text_of(picture_bytes(9, 8, 4)));
  const auto set = CaptionedPictures::from_folder(folder.path());
  EXPECT_THAT(names_of(set), ElementsAre("a/b/c.d.webp", "a/z.JPEG", "b.png"));
  EXPECT_THAT(set[0].captions, ElementsAre("cd"));
  EXPECT_THAT(set[2].captions, ElementsAre("one", "two \xE4\xB8\x80"));
  EXPECT_EQ(set.picture(1).width, 7);
  EXPECT_FALSE(set[0].has_semantic_map);
  EXPECT_TRUE(set[2].has_semantic_map);
  EXPECT_EQ(set.semantic_map(2).width, 9);
  EXPECT_EQ(set.picture(2).width, 5);
  EXPECT_EQ(kind_of([&] { set.semantic_map(0); }), ErrorKind::NotFound);
  EXPECT_EQ(set.size_of(1), (PictureSize{2, 7}));
  EXPECT_EQ(set.picture(2).pixels, decode_image(picture_bytes(5, 3, 1)).pixels);
  EXPECT_EQ(set.content_hash(2), sha256_hex(picture_bytes(5, 3, 1)));
}

TEST(CaptionedPictures, HaveBoxes) {
  const TemporaryFolder folder;
  const auto read = [&](std::string_view boxes) {
    put(folder / "a.jsonl",
        "\n{\"file\": \"a.png\", \"text\": \"x\", \"boxes\": " + std::string(boxes) + "}");
    return CaptionedPictures::from_json_lines(folder / "a.jsonl")[0].boxes;
  };
  EXPECT_THAT(read(R"([["dog", 0.25, 0, 1, 0.5], [7, 0, 0.125, 0.5, 1]])"),
              ElementsAre(LayoutBox{"dog", 0.25, 0, 1, 0.5}, LayoutBox{"7", 0, 0.125, 0.5, 1}));
  EXPECT_THAT(read("[]"), ElementsAre());
  EXPECT_THAT(read("null"), ElementsAre());
  for (const char* broken :
       {"1", "{}", "[1]", R"([["a", 0, 0, 1]])", R"([["a", 0, 0, 1, 1, 1]])", R"([["a", 0, 0, "1", 1]])",
        "[[0.5, 0, 0, 1, 1]]", R"([["a", 0.5, 0, 0.5, 1]])", R"([["a", 0, 0.75, 1, 0.5]])",
        R"([["a", -0.1, 0, 1, 1]])", R"([["a", 0, -0.1, 1, 1]])", R"([["a", 0, 0, 1.1, 1]])",
        R"([["a", 0, 0, 1, 1.1]])"}) {
    try {
      read(broken);
      ADD_FAILURE() << broken;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Corrupt) << broken;
      EXPECT_THAT(error.what(), HasSubstr("a.jsonl line 2")) << broken;
    }
  }
}

TEST(CaptionedPictures, OfAFolderNeedCaptions) {
  const TemporaryFolder folder;
  EXPECT_EQ(kind_of([&] { CaptionedPictures::from_folder(folder.path()); }), ErrorKind::NotFound);
  EXPECT_EQ(kind_of([&] { CaptionedPictures::from_folder(folder / "none"); }), ErrorKind::NotFound);
  put(folder / "a.png", text_of(picture_bytes(2, 2, 1)));
  for (const char* blank : {"", " \n\r\n"}) {
    try {
      CaptionedPictures::from_folder(folder.path());
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::NotFound);
      EXPECT_THAT(error.what(), HasSubstr("a.png"));
    }
    const auto set = CaptionedPictures::from_folder(folder.path(), {.allow_missing_captions = true});
    EXPECT_THAT(set[0].captions, ElementsAre(""));
    put(folder / "a.txt", blank);
  }
  put(folder / "a.txt", "\xFF");
  EXPECT_EQ(kind_of([&] { CaptionedPictures::from_folder(folder.path()); }), ErrorKind::Corrupt);
}

TEST(CaptionedPictures, NameABrokenPicture) {
  const TemporaryFolder folder;
  const std::string whole = text_of(picture_bytes(9, 9, 1));
  put(folder / "cut.png", std::string_view(whole).substr(0, whole.size() / 2));
  put(folder / "cut.txt", "x");
  const auto set = CaptionedPictures::from_folder(folder.path());
  try {
    EXPECT_EQ(set.size_of(0), (PictureSize{9, 9}));
    set.picture(0);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Corrupt);
    EXPECT_THAT(error.what(), HasSubstr("cut.png"));
  }
  EXPECT_EQ(kind_of([&] { set.picture(1); }), ErrorKind::InvalidArgument);
}

TEST(CaptionedPictures, OfJsonLines) {
  const TemporaryFolder folder;
  put(folder / "p/1.png", text_of(picture_bytes(3, 3, 1)));
  put(folder / "metadata.jsonl",
      R"({"file": "p/2.png", "captions": {"en": ["two", "deux"], "zh": ["\u4e8c"]}, "split": "train", "mirror": false, "x": [1]}

{"file_name": "p/./1.png", "text": "one", "class": 7, "split": "validation"}
{"image": "p/3.png", "caption": ["three", "drei"], "class": "c"})");
  const auto set = CaptionedPictures::open(folder.path());
  EXPECT_THAT(names_of(set), ElementsAre("p/1.png", "p/2.png", "p/3.png"));
  EXPECT_THAT(set[0].captions, ElementsAre("one"));
  EXPECT_EQ(set[0].label, "7");
  EXPECT_EQ(set[0].split, "validation");
  EXPECT_TRUE(set[0].mirror);
  EXPECT_THAT(set[1].captions, ElementsAre("two", "deux"));
  EXPECT_FALSE(set[1].mirror);
  EXPECT_THAT(set[2].captions, ElementsAre("three", "drei"));
  EXPECT_EQ(set[2].label, "c");
  EXPECT_EQ(set.picture(0).width, 3);
  EXPECT_EQ(kind_of([&] { set.picture(1); }), ErrorKind::NotFound);

  const fs::path file = folder / "metadata.jsonl";
  EXPECT_THAT(names_of(CaptionedPictures::open(file, {.split = "train"})), ElementsAre("p/2.png"));
  const auto all = CaptionedPictures::open(file, {.split = "train", .language = ""});
  EXPECT_THAT(all[0].captions, ElementsAre("two", "deux", "\xE4\xBA\x8C"));
  EXPECT_EQ(kind_of([&] { CaptionedPictures::open(file, {.split = "test"}); }), ErrorKind::NotFound);
  EXPECT_THAT(names_of(CaptionedPictures::open(file, {.language = "de"})), ElementsAre("p/1.png", "p/3.png"));
}

TEST(CaptionedPictures, OfJsonLinesRefuseWhatIsBroken) {
  const TemporaryFolder folder;
  const fs::path file = folder / "x.jsonl";
  const auto kind_for = [&](std::string_view text) {
    put(file, text);
    return kind_of([&] { CaptionedPictures::from_json_lines(file); });
  };
  using enum ErrorKind;
  for (const char* line :
       {"{", "[]", "{\"text\": \"x\"}", "{\"file\": 1, \"text\": \"x\"}", "{\"file\": \"a\", \"text\": 1}",
        "{\"file\": \"a\", \"text\": [1]}", "{\"file\": \"../a\", \"text\": \"x\"}",
        "{\"file\": \"a/../../b\", \"text\": \"x\"}", "{\"file\": \"/a\", \"text\": \"x\"}",
        "{\"file\": \"a\", \"text\": \"x\", \"semantic_map\": \"../b\"}",
        "{\"file\": \"a\", \"text\": \"x\", \"semantic_map\": 1}", "{\"file\": \"\", \"text\": \"x\"}",
        "{\"file\": \"a\", \"text\": \"x\", \"class\": 1.5}",
        "{\"file\": \"a\", \"text\": \"x\", \"mirror\": 1}", "{\"file\": \"a\", \"captions\": {\"en\": 1}}",
        "{\"file\": \"a\", \"text\": \"x\"}\n{\"file\": \"b/../a\", \"text\": \"x\"}"}) {
    EXPECT_EQ(kind_for(line), Corrupt) << line;
  }
  EXPECT_EQ(kind_for("{\"file\": \"a\"}"), NotFound);
  EXPECT_EQ(kind_for("{\"file\": \"a\", \"text\": []}"), NotFound);
  EXPECT_EQ(kind_for("\n \n"), NotFound);
  put(folder / "maps/m.png", text_of(picture_bytes(3, 2, 1)));
  put(file, "{\"file\": \"a\", \"text\": \"x\", \"semantic_map\": \"maps/m.png\"}");
  EXPECT_EQ(CaptionedPictures::from_json_lines(file).semantic_map(0).width, 3);
  put(file, "{\"file\": \"ok\", \"text\": \"x\"}\n\n{\"file\": 1}");
  try {
    CaptionedPictures::from_json_lines(file);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("x.jsonl line 3"));
  }
}

TEST(CaptionedPictures, OfShards) {
  const TemporaryFolder folder;
  const auto a = picture_bytes(4, 5, 1), b = picture_bytes(6, 2, 2), c = picture_bytes(1, 1, 3);
  put(folder / "s-1.tar", make_tar({{"k.png", text_of(c)}, {"k.txt", "c"}}));
  put(folder / "s-0.tar", make_tar({{"d.x/b.json", R"({"captions": {"en": ["b"]}, "split": "train"})"},
                                    {"d.x/b.jpg", text_of(b)},
                                    {"a.png", text_of(a)},
                                    {"a.txt", "a\nA"},
                                    {"a.json", R"({"class": 3})"},
                                    {"a.seg.npy", "other"},
                                    {"a.map.png", text_of(c)},
                                    {"alone.txt", "no picture"}}));
  const auto set = CaptionedPictures::open(folder.path());
  EXPECT_THAT(names_of(set), ElementsAre("s-0.tar/a.png", "s-0.tar/d.x/b.jpg", "s-1.tar/k.png"));
  EXPECT_THAT(set[0].captions, ElementsAre("a", "A"));
  EXPECT_EQ(set[0].label, "3");
  EXPECT_EQ(set.semantic_map(0).pixels, decode_image(c).pixels);
  EXPECT_FALSE(set[1].has_semantic_map);
  EXPECT_THAT(set[1].captions, ElementsAre("b"));
  EXPECT_EQ(set[1].split, "train");
  EXPECT_EQ(set.content_hash(0), sha256_hex(a));
  EXPECT_EQ(set.content_hash(1), sha256_hex(b));
  EXPECT_EQ(set.picture(2).pixels, decode_image(c).pixels);
  EXPECT_EQ(CaptionedPictures::open(folder / "s-1.tar").size(), 1);
  // What a picture's bytes lie in stays when the list is gone.
  const PictureBytes kept = CaptionedPictures::open(folder / "s-1.tar").bytes(0);
  EXPECT_EQ(sha256_hex(kept.bytes), sha256_hex(c));
}

TEST(CaptionedPictures, OfShardsRefuseWhatIsBroken) {
  const TemporaryFolder folder;
  const auto kind_for = [&](std::string_view tar) {
    put(folder / "x.tar", tar);
    return kind_of([&] { CaptionedPictures::from_shards({folder / "x.tar"}); });
  };
  using enum ErrorKind;
  const std::string picture = text_of(picture_bytes(2, 2, 1));
  EXPECT_EQ(kind_for(make_tar({{"a.png", picture}})), NotFound) << "no caption";
  EXPECT_EQ(kind_for(make_tar({{"a.txt", "x"}})), NotFound) << "no picture";
  EXPECT_EQ(kind_for(make_tar({{"a.png", picture}, {"a.jpg", picture}, {"a.txt", "x"}})), Corrupt);
  EXPECT_EQ(kind_for(make_tar({{"a.png", picture}, {"a.json", "{"}})), Corrupt);
  EXPECT_EQ(kind_for(make_tar({{"a.png", picture}, {"a.txt", "\xFF"}})), Corrupt);
  EXPECT_EQ(kind_for(make_tar({{"a.png", picture}, {"a.txt", "x"}}).substr(0, 1500)), Corrupt);
  put(folder / "y.tar", make_tar({{"a.png", picture}, {"a.txt", "x"}}));
  EXPECT_EQ(kind_of([&] { CaptionedPictures::from_shards({folder / "y.tar", folder / "y.tar"}); }), Corrupt);
  EXPECT_EQ(kind_of([&] { CaptionedPictures::open(folder / "z.tar"); }), NotFound);
}

}  // namespace
}  // namespace sinopia
