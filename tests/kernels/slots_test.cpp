// What every slot of the kernel table owes, read from its declaration: a reference, a cost, arguments that
// are refused, cases in every combination of dtypes that it takes, the scratch memory that it says.
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "tests/kernels/cases.h"

namespace hone::test {
namespace {

using namespace kernels;  // the Args

/// The arguments of every case of the sweeps, as the slot got them (it accepted them while what they point to
/// was there).
template <typename Args>
std::vector<Args> seen;

/// Runs the sweeps once.
void collect() {
  static const bool kDone = [] {
    KernelTable table = cpu_kernels(CpuIsa::kReference);
    for_each_slot(table, []<typename Args>(std::string_view, Kernel<Args>& slot) {
      slot = [](const Args& a, device::Stream& stream) {
        EXPECT_NO_THROW(validate(a)) << slot_of<Args>().name;
        seen<Args>.push_back(a);
        (cpu_kernels(choose_cpu_isa()).*slot_of<Args>().member)(a, stream);
      };
    });
    device::CpuStream stream = make_stream(2);
    for (const Case& c : all_cases()) c.run(table, stream);
    return true;
  }();
  (void)kDone;
}

TEST(Slots, HaveAReferenceCasesAndACost) {
  collect();
  for_each_slot([]<typename Args>(Slot<Args> slot) {
    EXPECT_NE(cpu_kernels(CpuIsa::kReference).*slot.member, nullptr) << slot.name;
    EXPECT_FALSE(seen<Args>.empty()) << slot.name << " has no case";
    double bytes = 0;
    for (const Args& a : seen<Args>) bytes = std::max(bytes, cost(a).bytes);
    EXPECT_GT(bytes, 0) << slot.name;
  });
}

TEST(Slots, AreNamedOnceAndFoundByTheirArguments) {
  std::set<std::string_view> names;
  KernelTable table;
  for_each_slot([&]<typename Args>(Slot<Args> slot) {
    EXPECT_TRUE(names.insert(slot.name).second) << slot.name;
    EXPECT_EQ(slot_of<Args>().name, slot.name);
    EXPECT_EQ(&(table.*slot_of<Args>().member), &(table.*slot.member));
  });
  EXPECT_EQ(names.size(), sizeof(KernelTable) / sizeof(void*));
}

TEST(Slots, TakeAsMuchScratchMemoryAsTheySay) {
  KernelTable table = cpu_kernels(CpuIsa::kReference);
  for_each_slot(table, []<typename Args>(std::string_view, Kernel<Args>& slot) {
    slot = [](const Args& a, device::Stream&) {
      for (const int threads : {1, 3}) {
        device::CpuStream fresh = make_stream(threads);
        const auto& ledger = fresh.allocator().ledger();
        Args again = a;
        (cpu_kernels(choose_cpu_isa()).*slot_of<Args>().member)(again, fresh);
        const auto taken = static_cast<double>(ledger.current(device::Purpose::kWorkspace));
        // A last, smaller chunk of the head may cut its products otherwise: some KiB.
        EXPECT_NEAR(static_cast<double>(scratch_bytes(a, threads)), taken, 1e-3 * taken)
            << slot_of<Args>().name;
      }
    };
  });
  device::CpuStream stream = make_stream(2);
  for (const Case& c : all_cases()) {
    c.run(table, stream);
    if (testing::Test::HasFailure()) FAIL() << c.name;
  }
}

/// Every matrix and dtype of the arguments; a matrix that is left out has no dtype. One overload for each
/// slot.
struct Parts {
  std::vector<Matrix*> matrices;
  std::vector<DType*> dtypes;        // of what is no matrix
  std::vector<std::int64_t*> sizes;  // of which each is wrong when negative
};
Parts parts(MatmulArgs& a) {
  return {{&a.a, &a.b, &a.c, &a.residual}, {}, {}};
}
Parts parts(EmbeddingGradArgs& a) {
  return {{}, {&a.dout_dtype, &a.dtable_dtype}, {&a.rows, &a.hidden, &a.vocab}};
}
Parts parts(RmsNormArgs& a) {
  return {{&a.x, &a.residual, &a.y}, {&a.weight_dtype}, {}};
}
Parts parts(RmsNormGradArgs& a) {
  return {{&a.dy, &a.x, &a.dx}, {&a.weight_dtype, &a.dweight_dtype}, {}};
}
Parts parts(HeadNormRopeArgs& a) {
  Parts p{{&a.x, &a.y}, {}, {&a.heads, &a.head_dim, &a.rotary_dim, &a.rotary_begin}};
  if (a.has_weight) p.dtypes = {&a.weight_dtype};
  return p;
}
Parts parts(HeadNormRopeGradArgs& a) {
  Parts p{{&a.dy, &a.dx}, {}, {&a.heads, &a.head_dim, &a.rotary_dim, &a.rotary_begin}};
  if (a.has_weight) {
    p.matrices.push_back(&a.x);
    p.dtypes = {&a.weight_dtype, &a.dweight_dtype};
  }
  return p;
}
Parts parts(AttentionArgs& a) {
  return {{&a.q, &a.k, &a.v, &a.out},
          {},
          {&a.sequences, &a.heads, &a.kv_heads, &a.head_dim, &a.v_head_dim, &a.window}};
}
Parts parts(AttentionGradArgs& a) {
  Parts p = parts(a.forward);
  p.matrices.insert(p.matrices.end(), {&a.dout, &a.dq, &a.dk, &a.dv});
  return p;
}
Parts parts(MlaKeysValuesArgs& a) {
  return {{&a.kv, &a.k_pe, &a.k, &a.v}, {}, {&a.heads, &a.nope_dim, &a.rope_dim, &a.v_dim}};
}
Parts parts(MlaKeysValuesGradArgs& a) {
  return {{&a.dk, &a.dv, &a.dkv, &a.dk_pe}, {}, {&a.heads, &a.nope_dim, &a.rope_dim, &a.v_dim}};
}
Parts parts(ActivationArgs& a) {
  return {{&a.gate, &a.up, &a.y}, {}, {}};
}
Parts parts(ActivationGradArgs& a) {
  return {{&a.gate, &a.up, &a.dy, &a.dgate, &a.dup}, {}, {}};
}
Parts parts(RowGateArgs& a) {
  return {{&a.x, &a.gate, &a.residual, &a.y}, {}, {}};
}
Parts parts(RowGateGradArgs& a) {
  return {{&a.dy, &a.x, &a.gate, &a.dx, &a.dgate}, {}, {}};
}
Parts parts(CopyArgs& a) {
  return {{&a.x, &a.y}, {}, {}};
}
Parts parts(ClampArgs& a) {
  return {{&a.x, &a.y}, {}, {}};
}
Parts parts(ClampGradArgs& a) {
  return {{&a.dy, &a.x, &a.dx}, {}, {}};
}
Parts parts(TakeRowsArgs& a) {
  return {{&a.x, &a.y}, {}, {}};
}
Parts parts(PutRowsArgs& a) {
  return {{&a.dy, &a.dx}, {}, {}};
}
Parts parts(ColumnSumArgs& a) {
  return {{&a.x}, {&a.out_dtype}, {}};
}
Parts parts(RouterArgs& a) {
  return {{}, {}, {&a.tokens, &a.experts, &a.top_k, &a.rule.groups, &a.rule.top_groups}};
}
Parts parts(RouterGradArgs& a) {
  return {{}, {&a.dlogits_dtype}, {&a.tokens, &a.experts, &a.top_k, &a.rule.groups, &a.rule.top_groups}};
}
Parts parts(MoePlanArgs& a) {
  return {{}, {}, {&a.tokens, &a.experts, &a.top_k}};
}
Parts parts(ExpertsArgs& a) {
  return {{&a.x, &a.residual, &a.y}, {}, {&a.experts, &a.top_k, &a.ffn}};
}
Parts parts(ExpertsGradArgs& a) {
  Parts p{{&a.forward.x, &a.dy, &a.dx}, {}, {&a.forward.experts, &a.forward.top_k, &a.forward.ffn}};
  if (a.wants_dgate_up) p.dtypes.push_back(&a.dgate_up_dtype);
  if (a.wants_ddown) p.dtypes.push_back(&a.ddown_dtype);
  if (a.wants_dgate_up_bias) p.dtypes.push_back(&a.dgate_up_bias_dtype);
  if (a.wants_ddown_bias) p.dtypes.push_back(&a.ddown_bias_dtype);
  return p;
}
Parts parts(LoadBalancingArgs& a) {
  return {{}, {}, {&a.layers, &a.experts, &a.tokens}};
}
Parts parts(LinearCrossEntropyArgs& a) {
  Parts p{{&a.head.hidden, &a.head.weight, &a.gradients.dhidden}, {}, {}};
  if (a.gradients.wants_dweight) p.dtypes.push_back(&a.gradients.dweight_dtype);
  return p;
}
Parts parts(HeadStatisticsArgs& a) {
  return {{&a.head.hidden, &a.head.weight}, {}, {&a.vocab_begin}};
}
Parts parts(HeadGradArgs& a) {
  Parts p = parts(a.forward);
  p.matrices.push_back(&a.gradients.dhidden);
  if (a.gradients.wants_dweight) p.dtypes.push_back(&a.gradients.dweight_dtype);
  return p;
}
Parts parts(SumOfSquaresArgs& a) {
  return {{}, {&a.dtype}, {&a.n}};
}
Parts parts(FinishNormArgs&) {
  return {};  // scalars
}
Parts parts(NextStepArgs&) {
  return {};
}
Parts parts(AdamWArgs& a) {
  return {{}, {&a.grad_dtype, &a.master_dtype}, {&a.n}};
}
Parts parts(SgdArgs& a) {
  return {{}, {&a.grad_dtype, &a.master_dtype}, {&a.n}};
}

std::vector<DType*> dtypes_of(const Parts& p) {
  std::vector<DType*> all = p.dtypes;
  for (Matrix* m : p.matrices)
    if (m->given()) all.push_back(&m->dtype);
  return all;
}

template <typename Args>
bool is_refused(const Args& a) {
  try {
    validate(a);
    return false;
  } catch (const Error&) {
    return true;
  }
}

TEST(Slots, RefuseWrongDtypesAndShapes) {
  collect();
  for_each_slot([]<typename Args>(Slot<Args> slot) {
    for (const Args& good : seen<Args>) {
      EXPECT_FALSE(is_refused(good)) << slot.name;
      Args bad = good;
      const Parts p = parts(bad);
      for (DType* dtype : dtypes_of(p)) {
        const DType before = std::exchange(*dtype, DType::kI32);
        EXPECT_TRUE(is_refused(bad)) << slot.name << " takes integers";
        *dtype = before;
      }
      for (Matrix* m : p.matrices) {
        if (!m->given()) continue;
        for (std::int64_t* size : {&m->rows, &m->cols}) {
          const std::int64_t before = std::exchange(*size, -1);
          EXPECT_TRUE(is_refused(bad)) << slot.name << " takes a negative size";
          *size = before;
        }
        if (m->rows < 2) continue;
        const std::int64_t before = std::exchange(m->stride, m->cols - 1);
        EXPECT_TRUE(is_refused(bad)) << slot.name << " takes rows that overlap";
        m->stride = before;
      }
      for (std::int64_t* size : p.sizes) {
        const std::int64_t before = std::exchange(*size, -1);
        EXPECT_TRUE(is_refused(bad)) << slot.name << " takes a negative size";
        *size = before;
      }
      if (testing::Test::HasFailure()) return;
    }
  });
  FinishNormArgs norm;
  norm.max_norm = NAN;
  EXPECT_TRUE(is_refused(norm));
}

std::string described(const std::vector<DType*>& dtypes) {
  std::string text;
  for (const DType* dtype : dtypes) text += std::string(name_of(*dtype)) + " ";
  return text;
}

TEST(Slots, HaveACaseInEveryCombinationOfDtypesThatTheyTake) {
  collect();
  for_each_slot([]<typename Args>(Slot<Args> slot) {
    // The cases that have the most parts: what is left out has no dtype.
    std::size_t most = 0;
    for (Args a : seen<Args>) most = std::max(most, dtypes_of(parts(a)).size());
    std::set<std::string> covered;
    Args full{};
    for (Args a : seen<Args>) {
      const auto dtypes = dtypes_of(parts(a));
      if (dtypes.size() < most) continue;
      covered.insert(described(dtypes));
      full = a;
    }
    const auto dtypes = dtypes_of(parts(full));
    for (unsigned bits = 0; bits < 1U << dtypes.size(); ++bits) {
      for (std::size_t i = 0; i < dtypes.size(); ++i)
        *dtypes[i] = (bits >> i & 1U) != 0 ? DType::kBF16 : DType::kF32;
      for (Matrix* m : parts(full).matrices)
        m->data = nullptr;  // what is wider may not fit beside the others
      if (!is_refused(full)) {
        EXPECT_TRUE(covered.contains(described(dtypes))) << slot.name << ": no case of " << described(dtypes);
      }
    }
  });
}

}  // namespace
}  // namespace hone::test
