// What is copied beside the weights: listed once, followed nowhere else.
#include "hub/other_files.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hub/checkpoint_writer.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::files_below;
using test::TemporaryDirectory;
using test::write_text;

std::map<std::string, std::string> copied(const OtherFiles& files, const fs::path& target) {
  auto writer = CheckpointWriter::fresh({}, target);
  writer.add_files(files);
  writer.publish();
  auto result = files_below(target);
  result.erase("model.safetensors");
  return result;
}

TEST(OtherFiles, FollowsNoLinkThatLeavesTheDirectory) {
  const TemporaryDirectory directory;
  const fs::path source = directory / "s";
  write_text(directory / "home/.ssh/id_rsa", "secret");
  write_text(directory / "home/vocab.json", "shared vocabulary");
  write_text(directory / "home/notes.txt", "notes");
  write_text(source / "config.json", "{}");
  write_text(source / "docs/a.md", "a");
  fs::create_directory_symlink("../home/.ssh", source / "data");
  fs::create_directory_symlink(directory / "home", source / "docs/home");
  fs::create_symlink("/etc/passwd", source / "tokenizer_config.json");
  fs::create_symlink("../home/.ssh/id_rsa", source / "merges.txt");
  fs::create_symlink("../home/notes.txt", source / "notes.txt");    // the same name, but no model's
  fs::create_symlink("../home/vocab.json", source / "vocab.json");  // put together of another's
  fs::create_symlink("config.json", source / "copy.json");
  fs::create_directory_symlink("docs", source / "more");
  fs::create_directory_symlink("..", source / "docs/up");  // a loop
  const auto files = OtherFiles::list(source);
  EXPECT_EQ(copied(files, directory / "m"),
            (std::map<std::string, std::string>{{"config.json", "{}"},
                                                {"copy.json", "{}"},
                                                {"docs/a.md", "a"},
                                                {"more/a.md", "a"},
                                                {"vocab.json", "shared vocabulary"}}));
  EXPECT_EQ(files.not_followed(),
            (std::vector<std::string>{
                "data -> ../home/.ssh", "docs/home -> " + (directory / "home").string(), "docs/up -> ..",
                "merges.txt -> ../home/.ssh/id_rsa", "more/home -> " + (directory / "home").string(),
                "more/up -> ..", "notes.txt -> ../home/notes.txt", "tokenizer_config.json -> /etc/passwd"}));
}

TEST(OtherFiles, FollowsTheLinksOfTheHubsCache) {
  const TemporaryDirectory directory;
  const fs::path repository = directory / "models--a--b";
  write_text(repository / "blobs/1234", "vocabulary");
  write_text(repository / "blobs/5678", "card");
  write_text(directory / "models--c--d/blobs/9", "another's");
  const fs::path snapshot = repository / "snapshots/abcdef";
  fs::create_directories(snapshot / "docs");
  fs::create_symlink("../../blobs/1234", snapshot / "vocab.json");
  fs::create_symlink("../../../blobs/5678", snapshot / "docs/README.md");
  fs::create_symlink("../../../models--c--d/blobs/9", snapshot / "x.txt");
  const auto files = OtherFiles::list(snapshot);
  EXPECT_EQ(copied(files, directory / "m"),
            (std::map<std::string, std::string>{{"docs/README.md", "card"}, {"vocab.json", "vocabulary"}}));
  EXPECT_EQ(files.not_followed(), std::vector<std::string>{"x.txt -> ../../../models--c--d/blobs/9"});
}

TEST(OtherFiles, OpensNeitherPipesNorSockets) {
  const TemporaryDirectory directory;
  write_text(directory / "s/config.json", "{}");
  ASSERT_EQ(::mkfifo((directory / "s/pipe.json").c_str(), 0600), 0);  // opening it would wait for ever
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string name = (directory / "s/socket").string();
  ASSERT_LT(name.size(), sizeof address.sun_path);
  name.copy(address.sun_path, name.size());
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const auto files = OtherFiles::list(directory / "s");
  EXPECT_EQ(files.not_followed(), (std::vector<std::string>{"pipe.json", "socket"}));
  EXPECT_EQ(copied(files, directory / "m"), (std::map<std::string, std::string>{{"config.json", "{}"}}));
  ::close(fd);
}

TEST(OtherFiles, CopiesWhatWasListedAndNothingElse) {
  const TemporaryDirectory directory;
  const std::string large(3 * PinnedBytes::kPiece + 17, 'x');
  write_text(directory / "s/tokenizer.json", large);
  write_text(directory / "s/config.json", "then");
  const auto files = OtherFiles::list(directory / "s");
  write_text(directory / "s/config.json", "later");
  write_text(directory / "s/later.txt", "later");
  fs::rename(directory / "s", directory / "moved");
  fs::create_directory(directory / "s");
  EXPECT_EQ(copied(files, directory / "m"),
            (std::map<std::string, std::string>{{"config.json", "then"}, {"tokenizer.json", large}}));
  fs::remove_all(directory / "moved");
  EXPECT_EQ(copied(files, directory / "m2").at("tokenizer.json"), large);
}

TEST(OtherFiles, NoticesAFileThatWasRewrittenInPlace) {
  const TemporaryDirectory directory;
  const fs::path file = directory / "s/tokenizer.json";
  std::string content(2 * PinnedBytes::kPiece, 'x');
  write_text(file, content);
  const auto files = OtherFiles::list(directory / "s");
  content[PinnedBytes::kPiece + 5] = 'y';
  write_text(file, content);
  EXPECT_CONTAINS(error_of([&] { copied(files, directory / "m"); }),
                  "s/tokenizer.json: its bytes are not those that were read");
  fs::resize_file(file, 100);
  EXPECT_CONTAINS(error_of([&] { copied(files, directory / "m"); }), "s/tokenizer.json: was cut short");
  EXPECT_FALSE(fs::exists(directory / "m"));
}

TEST(OtherFiles, NamesWhatCannotBeRead) {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "s");
  fs::create_symlink(directory / "absent", directory / "s/config.json");
  EXPECT_CONTAINS(error_of([&] { OtherFiles::list(directory / "s"); }), "s/config.json: is a broken link");
  EXPECT_CONTAINS(error_of([&] { OtherFiles::list(directory / "absent"); }), "absent: cannot be read");
}

TEST(OtherFiles, TakesOnlyTheModelsFilesBesideAConfigOfItsOwn) {
  const TemporaryDirectory directory;
  write_text(directory / "mine.json", "{}");
  write_text(directory / "config.json", "another");
  write_text(directory / "tokenizer.json", "t");
  write_text(directory / "keys.txt", "secret");
  write_text(directory / "sub/vocab.json", "v");
  EXPECT_EQ(copied(OtherFiles::of_config(directory / "mine.json"), directory / "m"),
            (std::map<std::string, std::string>{{"config.json", "{}"}, {"tokenizer.json", "t"}}));
}

}  // namespace
}  // namespace hone::hub
