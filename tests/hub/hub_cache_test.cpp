// Names of the hub, found in the local cache.
#include "hub/hub_cache.h"

#include <array>
#include <cstdlib>
#include <optional>
#include <tuple>

#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::TemporaryDirectory;
using test::write_text;

class HubCache : public ::testing::Test {
 protected:
  HubCache() {
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      before_.emplace_back(name, value == nullptr ? std::nullopt : std::optional<std::string>(value));
      ::unsetenv(name);
    }
    ::setenv("HOME", home_.path().c_str(), 1);
  }
  ~HubCache() override {
    for (const auto& [name, value] : before_) {
      if (value) ::setenv(name, value->c_str(), 1);
      if (!value) ::unsetenv(name);
    }
  }
  /// A snapshot of a repository under `cache`; `ref` names it.
  static fs::path put(const fs::path& cache, const std::string& folder, const std::string& commit,
                      const std::string& ref = "main") {
    const fs::path snapshot = cache / folder / "snapshots" / commit;
    write_text(snapshot / "config.json", "{}");
    write_text(cache / folder / "refs" / ref, commit);
    return snapshot;
  }
  static constexpr std::array<const char*, 5> kVariables{"HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE",
                                                         "HF_HOME", "XDG_CACHE_HOME"};
  TemporaryDirectory home_;
  std::vector<std::pair<const char*, std::optional<std::string>>> before_;
};

TEST_F(HubCache, FindsSnapshotsWhereTheHubsOwnToolsKeepThem) {
  const auto by_default = put(home_ / ".cache/huggingface/hub", "models--a--b.c", "111");
  EXPECT_EQ(find_model("a/b.c"), by_default);
  EXPECT_EQ(resolve_model("a/b.c@main"), by_default);
  EXPECT_EQ(find_model("a/b.c@111"), by_default);
  const auto tagged = put(home_ / ".cache/huggingface/hub", "models--a--b.c", "222", "refs/pr/1");
  EXPECT_EQ(find_model("a/b.c@refs/pr/1"), tagged);
  EXPECT_EQ(find_model("gpt"), std::nullopt);
  const auto alone = put(home_ / ".cache/huggingface/hub", "models--gpt", "333");
  EXPECT_EQ(find_model("gpt"), alone);
  // In the order of huggingface_hub's constants.
  const std::vector<std::tuple<const char*, std::string, fs::path>> places{
      {"XDG_CACHE_HOME", (home_ / "x").string(), home_ / "x/huggingface/hub"},
      {"HF_HOME", "~/y", home_ / "y/hub"},
      {"HUGGINGFACE_HUB_CACHE", (home_ / "z").string(), home_ / "z"},
      {"HF_HUB_CACHE", (home_ / "w").string(), home_ / "w"}};
  for (const auto& [variable, value, cache] : places) {
    ::setenv(variable, value.c_str(), 1);
    EXPECT_EQ(find_model("a/b.c"), std::nullopt) << variable;
    const auto snapshot = put(cache, "models--a--b.c", "444");
    EXPECT_EQ(find_model("a/b.c"), snapshot) << variable;
  }
}

TEST_F(HubCache, TakesAPathThatIsThereFirst) {
  put(home_ / ".cache/huggingface/hub", "models--a--b", "111");
  const fs::path here = fs::current_path();
  fs::create_directories(home_ / "work/a/b");
  fs::current_path(home_ / "work");
  EXPECT_EQ(find_model("a/b"), fs::path("a/b"));
  fs::current_path(here);
}

TEST_F(HubCache, SaysWhatItLookedForAndHowToGetIt) {
  const std::string nothing = error_of([] { resolve_model("Qwen/Qwen3-0.6B"); });
  EXPECT_CONTAINS(nothing, "there is no directory Qwen/Qwen3-0.6B in ");
  EXPECT_CONTAINS(nothing,
                  ".cache/huggingface/hub has no models--Qwen--Qwen3-0.6B; `hf download Qwen/Qwen3-0.6B` ");
  put(home_ / ".cache/huggingface/hub", "models--a--b", "111");
  EXPECT_CONTAINS(error_of([] { resolve_model("a/b@v2"); }),
                  "no snapshot of revision v2 (it has main); `hf download a/b --revision v2` fetches it");
  write_text(home_ / ".cache/huggingface/hub/models--a--b/refs/main", "../../../../..\n");
  EXPECT_CONTAINS(error_of([] { resolve_model("a/b"); }), "refs/main: holds \"../../../../..\"");
  for (const char* path : {"./a/b", "../b", "a/b/c", "/a/b", "a/../b", "a/b@../x", "nothing"})
    EXPECT_EQ(resolve_model(path), fs::path(path)) << path;
}

}  // namespace
}  // namespace hone::hub
