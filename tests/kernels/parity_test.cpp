// Every table that this processor runs, against the reference, and against itself on other numbers of
// threads.
#include <gtest/gtest.h>

#include <cstdlib>
#include <tuple>

#include "base/error.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/emulated_amx.h"

namespace hone::test {
namespace {

using kernels::CpuIsa;

constexpr const char* kEmulatedAmx = "emulated_amx";

std::vector<std::string> tables_here() {
  std::vector<std::string> tables;
  for (const CpuIsa isa : kernels::available_cpu_isas()) tables.emplace_back(kernels::name_of(isa));
  if (can_emulate_amx()) tables.emplace_back(kEmulatedAmx);
  return tables;
}

KernelTable table_named(const std::string& name) {
  if (name == kEmulatedAmx) return emulated_amx_kernels();
  for (const CpuIsa isa : kernels::available_cpu_isas())
    if (name == kernels::name_of(isa)) return kernels::cpu_kernels(isa);
  return kernels::cpu_kernels(CpuIsa::kReference);
}

std::vector<std::string> slot_names() {
  std::vector<std::string> names;
  kernels::for_each_slot([&](auto slot) { names.emplace_back(slot.name); });
  return names;
}

/// One slot of one table.
class Kernels : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  const KernelTable& table() const { return table_; }
  std::vector<Case> cases() const {
    std::vector<Case> cases = all_cases();
    std::erase_if(cases, [](const Case& c) { return c.slot != std::get<1>(GetParam()); });
    EXPECT_FALSE(cases.empty());
    return cases;
  }

 private:
  const KernelTable table_ = table_named(std::get<0>(GetParam()));
};

TEST_P(Kernels, AgreesWithTheReference) {
  const KernelTable& reference = kernels::cpu_kernels(CpuIsa::kReference);
  Stream stream = make_stream(2);
  for (const Case& c : cases()) expect_near(c.run(table(), stream), c.run(reference, stream), c.name);
}

TEST_P(Kernels, GivesTheSameBitsOnAnyNumberOfThreads) {
  Stream one = make_stream(1);
  const std::vector<Case> all = cases();
  std::vector<Outputs> want;
  for (const Case& c : all) want.push_back(c.run(table(), one));
  for (const int threads : {2, 3, 5}) {
    Stream stream = make_stream(threads);
    for (std::size_t i = 0; i < all.size(); ++i)
      expect_equal(all[i].run(table(), stream), want[i],
                   all[i].name + " on " + std::to_string(threads) + " threads");
  }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, Kernels,
                         testing::Combine(testing::ValuesIn(tables_here()), testing::ValuesIn(slot_names())),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::get<1>(test.param);
                         });

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
