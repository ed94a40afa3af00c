// Every slot that there is a CUDA kernel of, over the cases of tests/kernels, against the reference, in
// the emulator.
#include <gtest/gtest.h>

#include "kernels/card_work.h"
#include "kernels/cuda/cuts.h"
#include "kernels/cuda/register.h"
#include "tests/cuda/card_cases.h"
#include "tests/cuda/card_memory.h"

namespace hone::test {
namespace {

using device::Purpose;

/// A kernel, which has to take the scratch memory that cuda_scratch_bytes says.
template <typename Args>
void run_counted(const Args& a, Stream& stream) {
  const auto taken = [&] {
    return static_cast<std::int64_t>(stream.allocator().ledger().current(Purpose::kWorkspace));
  };
  stream.release_workspaces();
  ASSERT_EQ(taken(), 0);
  (kernels::cuda_kernels().*kernels::slot_of<Args>().member)(a, stream);
  EXPECT_EQ(taken(), kernels::cuda_scratch_bytes(a));
}

const KernelTable& counted_kernels() {
  static const KernelTable kTable = [] {
    KernelTable table = kernels::cuda_kernels();
    kernels::for_each_slot(table, []<typename Args>(std::string_view, kernels::Kernel<Args>& kernel) {
      if (kernel != nullptr) kernel = run_counted<Args>;
    });
    return table;
  }();
  return kTable;
}

std::vector<std::string> slots_here() {
  std::vector<std::string> names;
  KernelTable table = kernels::cuda_kernels();
  kernels::for_each_slot(table, [&](std::string_view name, auto kernel) {
    if (kernel != nullptr) names.emplace_back(name);
  });
  return names;
}

class CudaKernels : public CardMemory, public testing::WithParamInterface<std::string> {
 protected:
  void agree_with_the_reference(const std::vector<Case>& all = card_cases()) {
    const bool has_e4m3 = kernels::target_of(card().device()).no_wgmma.empty();
    const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
    device::CpuStream host = make_stream(2);
    int cases = 0;
    for (const Case& c : all) {
      if (c.slot != GetParam()) continue;
      ++cases;
      const Outputs got = c.run(counted_kernels(), card());
      ASSERT_FALSE(HasFailure()) << c.name;  // a device that has caught something does no more
      Outputs want = c.run(reference, host);
      for (auto& output : want) output.tolerance += has_e4m3 ? c.by_e4m3 : 0;
      expect_near(got, want, c.name);
      if (cases % 8 == 0) expect_equal(c.run(counted_kernels(), card()), got, c.name + ", again");
    }
    EXPECT_GT(cases, 0);
  }
};

TEST_P(CudaKernels, AgreeWithTheReference) {
  agree_with_the_reference();
}

INSTANTIATE_TEST_SUITE_P(EverySlot, CudaKernels, testing::ValuesIn(slots_here()),
                         [](const auto& test) { return test.param; });

using CudaRandomRounding = CardMemory;
using CudaMoments = CardMemory;

/// bf16 masters: but for those whose sum has another last bit, of 65,000 one, all are rounded the same way as
/// on the host. By other random numbers a third would not be.
TEST_F(CudaRandomRounding, DrawsTheSameNumbers) {
  const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
  device::CpuStream host = make_stream(2);
  int cases = 0;
  for (const Case& c : card_cases()) {
    if (c.name.find("of 70001") == std::string::npos || c.name.find("bf16 master") == std::string::npos)
      continue;
    const Outputs got = c.run(counted_kernels(), card()), want = c.run(reference, host);
    const auto &a = got.front().values, &b = want.front().values;
    ASSERT_EQ(got.front().name, "master");
    int other = 0;
    for (std::size_t i = 0; i < a.size(); ++i) other += a[i] != b[i] ? 1 : 0;
    EXPECT_LE(other, 40) << c.name;
    ++cases;
  }
  EXPECT_GT(cases, 0);
}

/// Moments of eight bits: but for those that have another last bit and lie in the middle between two levels,
/// all have the host's codes.
TEST_F(CudaMoments, HaveTheSameCodes) {
  const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
  device::CpuStream host = make_stream(2);
  int cases = 0;
  for (const Case& c : card_cases()) {
    if (c.slot != "adamw" || c.name.find("of 70001") == std::string::npos ||
        c.name.find("8 bits") == std::string::npos)
      continue;
    const Outputs got = c.run(counted_kernels(), card()), want = c.run(reference, host);
    for (std::size_t k = 0; k < got.size(); ++k) {
      if (got[k].name.find("exp_avg") == std::string::npos) continue;
      int other = 0;
      for (std::size_t i = 0; i < got[k].bytes.size(); ++i) other += got[k].bytes[i] != want[k].bytes[i];
      // Numbers below 2^-126 have fewer bits.
      EXPECT_LE(other, c.name.find("hard scales") == std::string::npos ? 4 : 200)
          << c.name << ", " << got[k].name;
      ++cases;
    }
  }
  EXPECT_GT(cases, 0);
}

/// Slots that have kernels of their own for some cards: those for all cards, in the cases that the former
/// take (in the others CudaKernels has run the latter).
class PortableCudaKernels : public CudaKernels {
 protected:
  PortableCudaKernels() { ::setenv("HONE_CUDA_PATHS", "portable", 1); }
  ~PortableCudaKernels() override { ::unsetenv("HONE_CUDA_PATHS"); }

  static std::vector<Case> cases_of_hopper() {
    static bool is_taken;
    static const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
    using namespace kernels;
    KernelTable asks = reference;
    asks.matmul = [](const MatmulArgs& a, Stream& stream) {
      is_taken |= *cuda::e4m3_refusal(a) == '\0';
      reference.matmul(a, stream);
    };
    asks.experts = [](const ExpertsArgs& a, Stream& stream) {
      is_taken |= cuda::hopper_refusal(a).empty();
      reference.experts(a, stream);
    };
    asks.experts_grad = [](const ExpertsGradArgs& a, Stream& stream) {
      is_taken |= cuda::hopper_refusal(a).empty();
      reference.experts_grad(a, stream);
    };
    asks.attention_grad = [](const AttentionGradArgs& a, Stream& stream) {
      is_taken |= cuda::hopper_refusal(a).empty();
      reference.attention_grad(a, stream);
    };
    device::CpuStream host = make_stream(1);
    std::vector<Case> cases;
    for (const Case& c : card_cases()) {
      if (c.slot != GetParam()) continue;
      is_taken = false;
      c.run(asks, host);
      if (is_taken) cases.push_back(c);
    }
    return cases;
  }
};

TEST_P(PortableCudaKernels, AgreeWithTheReference) {
  agree_with_the_reference(cases_of_hopper());
}

INSTANTIATE_TEST_SUITE_P(EverySlot, PortableCudaKernels,
                         testing::Values("matmul", "experts", "experts_grad", "attention_grad"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hone::test
