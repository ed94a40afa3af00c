// Saving into a directory that holds other things: as Transformers' save_pretrained merges, but all at one
// instant.
#include <sys/stat.h>
#include <unistd.h>

#include "hub/checkpoint_writer.h"
#include "tests/hub/kill_at.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::files_below;
using test::names_in;
using test::read_text;
using test::TemporaryDirectory;
using test::write_text;
using Files = std::map<std::string, std::string>;

/// A fresh checkpoint of `shards` shards whose every byte is `fill`, merged into `target`.
std::vector<std::string> save(const fs::path& target, int shards, char fill, const Files& others = {}) {
  std::vector<NewTensor> tensors;
  for (int i = 0; i < shards; ++i)
    tensors.push_back({{fmt::format("t{}", i), find_stored_type("U8"), Shape{100}}, 0});
  const TemporaryDirectory source;
  for (const auto& [name, content] : others) write_text(source / name, content);
  auto writer = CheckpointWriter::fresh(tensors, target, IfExists::kMerge, 100);
  const std::string bytes(100, fill);
  for (const auto& tensor : tensors) writer.write(tensor.spec.name, std::as_bytes(std::span(bytes)));
  auto kept = writer.add_files(OtherFiles::list(source.path()));
  writer.publish();
  return kept;
}

/// The fill of the checkpoint in `directory` and its number of tensors, read as Transformers reads it: "aaa".
std::string fills(const fs::path& directory) {
  const auto checkpoint = Checkpoint::open(directory);
  std::string all;
  for (const auto& tensor : checkpoint.tensors()) {
    const auto bytes = checkpoint.bytes(tensor);
    for (const auto b : bytes) EXPECT_EQ(b, bytes[0]);
    all += static_cast<char>(bytes[0]);
  }
  return all;
}

/// What a stranger keeps in the directory.
void put_foreign(const fs::path& directory) {
  write_text(directory / "thesis.txt", "years of work");
  write_text(directory / ".git/HEAD", "ref: refs/heads/main");
  write_text(directory / "README.md", "mine");
  write_text(directory / "model-00001.safetensors", "not a shard's name");
  write_text(directory / "pytorch_model.bin", "other weights");
  write_text(directory / "sub/notes.txt", "x");
}

const Files kForeign{{"thesis.txt", "years of work"},
                     {".git/HEAD", "ref: refs/heads/main"},
                     {"README.md", "mine"},
                     {"model-00001.safetensors", "not a shard's name"},
                     {"pytorch_model.bin", "other weights"},
                     {"sub/notes.txt", "x"}};

void expect_foreign(const fs::path& directory) {
  const auto files = files_below(directory);
  for (const auto& [name, content] : kForeign) {
    ASSERT_TRUE(files.contains(name)) << name;
    EXPECT_EQ(files.at(name), content) << name;
  }
}

TEST(MergeSave, RemovesNothingForeignAndItsOwnStaleWeights) {
  for (const auto& [before, after] : {std::pair(1, 1), {1, 3}, {3, 1}, {3, 3}, {3, 2}, {2, 5}}) {
    const TemporaryDirectory directory;
    const fs::path target = directory / "m";
    put_foreign(target);
    save(target, before, 'a', {{"config.json", "old"}});
    const auto kept =
        save(target, after, 'b', {{"config.json", "new"}, {"README.md", "card"}, {"LICENSE", "L"}});
    EXPECT_EQ(fills(target), std::string(static_cast<std::size_t>(after), 'b')) << before << " to " << after;
    EXPECT_EQ(kept, std::vector<std::string>{"README.md"});
    EXPECT_EQ(read_text(target / "config.json"), "new");
    EXPECT_EQ(read_text(target / "LICENSE"), "L");
    expect_foreign(target);
    auto names = names_in(target);
    const auto is_weights = [](const std::string& n) {
      return n.starts_with("model") && n != "model-00001.safetensors";
    };
    EXPECT_EQ(std::count_if(names.begin(), names.end(), is_weights), after == 1 ? 1 : after + 1);
    EXPECT_EQ(std::count(names.begin(), names.end(), ".hone-save"), 0);
    EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{"m"});
    for (const auto& name : names) EXPECT_FALSE(fs::is_symlink(target / name)) << name;
  }
}

TEST(MergeSave, LeavesADirectoryInItsPlace) {
  const TemporaryDirectory directory;
  const fs::path target = directory / "m";
  fs::create_directory(
      target);  // empty, and still not replaced: it may be a mount or somebody's working directory
  struct stat before {};
  ASSERT_EQ(::stat(target.c_str(), &before), 0);
  const fs::path here = fs::current_path();
  fs::current_path(target);
  save(".", 2, 'a');
  save("../m/.", 1, 'b');
  EXPECT_EQ(names_in("."), std::vector<std::string>{"model.safetensors"});
  fs::current_path(here);
  struct stat after {};
  ASSERT_EQ(::stat(target.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  fs::create_directory_symlink("m", directory / "link");
  save(directory / "link", 1, 'c');
  EXPECT_TRUE(fs::is_symlink(directory / "link"));
  EXPECT_EQ(fills(target), "c");
  fs::create_directory_symlink(".", directory / "here");
  save(directory / "here/new", 1, 'd');
  EXPECT_EQ(fills(directory / "new"), "d");
}

TEST(MergeSave, ReplacesLinksAndNotWhatTheyLeadTo) {
  const TemporaryDirectory directory;
  write_text(directory / "blobs/config", "shared");
  write_text(directory / "m/x", "");
  fs::create_symlink("../blobs/config", directory / "m/config.json");
  fs::create_symlink("nowhere", directory / "m/generation_config.json");
  save(directory / "m", 1, 'a', {{"config.json", "new"}, {"generation_config.json", "g"}});
  EXPECT_FALSE(fs::is_symlink(directory / "m/config.json"));
  EXPECT_EQ(read_text(directory / "m/config.json"), "new");
  EXPECT_EQ(read_text(directory / "m/generation_config.json"), "g");
  EXPECT_EQ(read_text(directory / "blobs/config"), "shared");
}

TEST(MergeSave, RefusesWhatItCannotDoAndChangesNothing) {
  const TemporaryDirectory directory;
  const fs::path target = directory / "m";
  put_foreign(target);
  save(target, 2, 'a', {{"config.json", "old"}});
  const auto says = [&](const Files& others, const std::string& part) {
    const auto before = files_below(target);
    EXPECT_CONTAINS(error_of([&] { save(target, 1, 'b', others); }), part);
    EXPECT_EQ(files_below(target), before);
    EXPECT_EQ(fills(target), "aa");
    EXPECT_FALSE(fs::exists(target / ".hone-save"));
  };
  fs::create_directory(target / "generation_config.json");
  says({{"generation_config.json", "{}"}}, "m/generation_config.json: is not a file");
  ASSERT_EQ(::mkfifo((target / "vocab.json").c_str(), 0600), 0);
  says({{"vocab.json", "{}"}}, "m/vocab.json: is not a file");
  fs::create_directory_symlink("/tmp", target / "figures");
  says({{"figures/hone-merge-test.png", "x"}}, "m/figures: is a link");
  EXPECT_FALSE(fs::exists("/tmp/hone-merge-test.png"));
  write_text(target / "adapter_config.json", "{}");
  const auto before = files_below(target);  // which no reader takes: the adapter lies beside full weights
  EXPECT_CONTAINS(error_of([&] { save(target, 1, 'b'); }), "m: holds an adapter (adapter_config.json)");
  EXPECT_EQ(files_below(target), before);
  EXPECT_CONTAINS(error_of([&] { save(target / "thesis.txt", 1, 'b'); }), "exists and is not a directory");
}

TEST(MergeSave, NamesADirectoryItMayNotWrite) {
  if (::geteuid() != 0) GTEST_SKIP() << "drops root's rights, so it needs them";
  const TemporaryDirectory directory;
  put_foreign(directory / "m");
  fs::permissions(directory.path(), fs::perms(0755));
  ASSERT_EQ(::seteuid(65534), 0);
  std::string what;
  try {
    const StagedDirectory staged(directory / "m", IfExists::kMerge);
  } catch (const Error& error) {
    what = error.what();
  }
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_CONTAINS(what, "m: cannot create .hone-save in it: Permission denied");
}

TEST(MergeSave, KilledBeforeAnySystemCallReadsAsTheOldModelOrTheNew) {
  const Files old_files{{"config.json", "old"}, {"tokenizer.json", "old"}, {"figures/a.png", "old"}};
  const Files new_files{{"config.json", "new"},
                        {"tokenizer.json", "new"},
                        {"chat_template.jinja", "new"},
                        {"figures/b.png", "new"}};
  // In memory where that can be: some thousand files are synced.
  const fs::path disk = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ::testing::TempDir();
  const TemporaryDirectory templates(disk);
  for (const auto& [before, after] : {std::pair(3, 3), {1, 2}, {2, 1}}) {
    const fs::path start = templates / std::to_string(before);
    put_foreign(start / "m");
    save(start / "m", before, 'a', old_files);
    fs::create_directory(start / "shared");
    fs::rename(start / "m/tokenizer.json", start / "shared/tokenizer.json");
    fs::create_symlink("../shared/tokenizer.json", start / "m/tokenizer.json");
    int seen_old = 0;
    int seen_new = 0;
    for (int call = 0;; ++call) {
      const TemporaryDirectory directory(disk);
      fs::copy(start, directory.path(), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      const fs::path target = directory / "m";
      const auto was_killed =
          ::hone::test::kill_before_call(call, [&] { save(target, after, 'b', new_files); });
      if (!was_killed) GTEST_SKIP() << "this machine does not let a process trace its child";
      const auto check = [&](const char* when) {
        const std::string now = fills(target);
        const bool is_new = now == std::string(static_cast<std::size_t>(after), 'b');
        EXPECT_TRUE(is_new || now == std::string(static_cast<std::size_t>(before), 'a')) << now;
        const std::string side = is_new ? "new" : "old";
        for (const char* name : {"config.json", "tokenizer.json"})
          EXPECT_EQ(read_text(target / name), side) << name << " " << when << ", killed before call " << call;
        EXPECT_EQ(fs::exists(target / "chat_template.jinja"), is_new);
        EXPECT_EQ(fs::exists(target / "figures/b.png"), is_new);
        EXPECT_EQ(read_text(target / "figures/a.png"), "old");
        EXPECT_EQ(read_text(directory / "shared/tokenizer.json"), "old");
        for (const auto& [name, content] : kForeign) EXPECT_EQ(read_text(target / name), content) << name;
        return is_new;
      };
      const bool is_new = check("at once");
      StagedDirectory::clean_up(target);
      EXPECT_EQ(check("cleaned up"), is_new);
      EXPECT_FALSE(fs::exists(target / ".hone-save"));
      if (!is_new) {
        EXPECT_TRUE(fs::is_symlink(target / "tokenizer.json"));
        EXPECT_EQ(fs::read_symlink(target / "tokenizer.json"), "../shared/tokenizer.json");
      }
      save(target, after, 'b', new_files);
      EXPECT_TRUE(check("saved again"));
      expect_foreign(target);
      (is_new ? seen_new : seen_old) += 1;
      if (!*was_killed || HasFailure()) break;
    }
    EXPECT_GT(seen_old, 20);  // writing, and the links
    EXPECT_GT(seen_new, 10);  // the links again, and tidying up
  }
}

TEST(MergeSave, FollowsNoLinkOutOfTheDirectoryWhenItTidiesUp) {
  const TemporaryDirectory directory;
  const fs::path target = directory / "m";
  write_text(directory / "home/config.json", "secret");
  fs::create_directories(target);
  fs::create_directory_symlink("../home", target / ".hone-save");
  fs::create_symlink(".hone-save/now/config.json", target / "config.json");
  EXPECT_CONTAINS(error_of([&] { StagedDirectory::clean_up(target); }), ".hone-save: is not a directory");
  fs::remove(target / ".hone-save");
  fs::create_directory(target / ".hone-save");
  fs::create_directory_symlink("../../home", target / ".hone-save/new");
  fs::create_symlink("new", target / ".hone-save/now");
  StagedDirectory::clean_up(target);
  EXPECT_EQ(read_text(directory / "home/config.json"), "secret");
}

}  // namespace
}  // namespace hone::hub
