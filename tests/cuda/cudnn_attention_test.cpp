// Attention by cuDNN where the machine has it. (The table's cases are too small for the slot to ask it.)
#include <fmt/format.h>

#include "tests/cuda/cudnn_attention.h"

namespace hone::test {
namespace {

TEST_F(CudnnAttention, AgreesWithTheReference) {
  const AttentionShape shapes[] = {{{64}, {}, 1, 1, 64, 0},
                                   {{63, 1, 65}, {}, 2, 2, 64, 0},
                                   {{22, 21, 43}, {}, 6, 2, 40, 0},
                                   {{33, 127}, {}, 2, 1, 128, 0},
                                   {{31, 35}, {}, 2, 2, 256, 0},
                                   {{257}, {}, 1, 1, 16, 0},
                                   {{5, 5, 5, 5, 5, 5, 5, 5, 5}, {}, 8, 1, 32, 0},
                                   // windows: of the query alone, around a tile, longer than every sequence
                                   {{20, 3}, {}, 2, 1, 32, 1},
                                   {{140}, {}, 1, 1, 64, 64},
                                   {{150, 66}, {}, 2, 1, 32, 65},
                                   {{100}, {}, 2, 1, 128, 33},
                                   {{40, 9}, {}, 2, 1, 16, 40},
                                   {{40, 9}, {}, 2, 1, 16, 500},
                                   // keys that do not lie end to end
                                   {{30, 50, 7}, {0, 0, 0}, 4, 2, 64, 0},
                                   {{30, 50}, {0, 0}, 2, 2, 24, 16}};
  for (AttentionShape shape : shapes) {
    shape.aligned = true;
    for (const Case& c : attention_cases_of(shape)) {
      if (c.slot != "attention") continue;
      EXPECT_EQ(run(c), c.name.find("bf16") != std::string::npos) << c.name;
    }
  }
}

/// What is not the library's is left to our own kernel, whose cases these are.
TEST_F(CudnnAttention, LeavesTheRestAlone) {
  const AttentionShape shapes[] = {{{1, 0, 3}, {}, 2, 1, 32, 0},
                                   {{5}, {4}, 2, 1, 32, 0},
                                   {{9}, {}, 2, 1, 20, 0},
                                   {{9}, {}, 2, 1, 8, 0},
                                   {{17}, {}, 2, 1, 192, 0, 128},
                                   {{9}, {}, 2, 1, 64, 0, 0, 3},
                                   {{9}, {}, 2, 1, 64, 0, 0, 0, true},
                                   {{}, {}, 2, 1, 16, 0}};
  const auto leaves = [&](const AttentionShape& shape) {
    for (const Case& c : attention_cases_of(shape)) {
      if (c.slot == "attention") {
        EXPECT_FALSE(run(c)) << c.name;
      }
    }
  };
  for (AttentionShape shape : shapes) {
    shape.aligned = true;
    leaves(shape);
  }
  leaves({{9}, {}, 2, 1, 64, 0});  // rows at odd places
}

/// A softmax that one key wins, and inputs with outliers: the same bits each time.
TEST_F(CudnnAttention, FollowsPeakedScores) {
  for (const double size : {0.01, 30.0, 1e4}) {
    Arena arena, expected, again;
    const auto by_library = [&](Arena& of) {
      attend_by_cudnn(attention_of(of, {70, 3, 33}, 2, size), card());
      EXPECT_TRUE(attention_taken);
      return of.outputs();
    };
    const Outputs got = by_library(arena);
    kernels::cpu_kernels(kernels::CpuIsa::kReference)
        .attention(attention_of(expected, {70, 3, 33}, 2, size), host_);
    expect_near(got, expected.outputs(), fmt::format("inputs of {}", size));
    expect_equal(by_library(again), got, "again");
  }
}

}  // namespace
}  // namespace hone::test
