// Every table that this processor runs, against the reference, and against itself on other numbers of
// threads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/fast_tables.h"

namespace hone::test {
namespace {

using kernels::CpuIsa;

std::vector<std::string> slot_names() {
  std::vector<std::string> names;
  kernels::for_each_slot([&](auto slot) { names.emplace_back(slot.name); });
  return names;
}

/// One slot, of every table.
class Kernels : public testing::TestWithParam<std::string> {};

TEST_P(Kernels, AgreeWithTheReferenceOnAnyNumberOfThreads) {
  const auto fast = fast_tables();
  const KernelTable& reference = kernels::cpu_kernels(CpuIsa::kReference);
  device::CpuStream one = make_stream(1), several[] = {make_stream(2), make_stream(3), make_stream(5)};
  const auto run = [&](const Case& c, const KernelTable& table, const std::string& name) {
    const Outputs outputs = c.run(table, one);
    for (Stream& stream : several)
      expect_equal(c.run(table, stream), outputs,
                   fmt::format("{}: {} on {} threads", name, c.name, stream.num_threads()));
    return outputs;
  };
  bool any = false;
  for (const Case& c : all_cases()) {
    if (c.slot != GetParam()) continue;
    any = true;
    const Outputs want = run(c, reference, "reference");
    for (const auto& [name, table] : fast) expect_near(run(c, table, name), want, name + ": " + c.name);
  }
  EXPECT_TRUE(any);
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, Kernels, testing::ValuesIn(slot_names()),
                         [](const auto& test) { return test.param; });

/// Sets HONE_CPU_ISA while it lives.
class IsaVariable {
 public:
  explicit IsaVariable(const char* value) {
    if (const char* old = std::getenv("HONE_CPU_ISA")) before_ = old;
    ::setenv("HONE_CPU_ISA", value, 1);
  }
  ~IsaVariable() {
    if (before_.empty())
      ::unsetenv("HONE_CPU_ISA");
    else
      ::setenv("HONE_CPU_ISA", before_.c_str(), 1);
  }

 private:
  std::string before_;
};

TEST(CpuIsaChoice, FollowsTheEnvironmentVariable) {
  const IsaVariable variable("reference");
  EXPECT_EQ(kernels::choose_cpu_isa(), CpuIsa::kReference);
}

TEST(CpuIsaChoice, NamesTheNearestWhereItIsUnknown) {
  const IsaVariable variable("avx513");
  try {
    kernels::choose_cpu_isa();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUser);
    EXPECT_NE(std::string(e.what()).find("did you mean 'avx512'"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace hone::test
