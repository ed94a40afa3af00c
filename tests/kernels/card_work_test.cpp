// The model of a card's time: never faster than its data sheet, made of its parts, counted tile by tile.
#include "kernels/card_work.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"
#include "kernels/cuda/cuts.h"
#include "tests/kernels/cases.h"

namespace hone::test {
namespace {

using namespace kernels;  // the Args

Matrix matrix(std::int64_t rows, std::int64_t cols, DType dtype = DType::kBF16) {
  return {nullptr, dtype, rows, cols, cols};
}
MatmulArgs product(std::int64_t m, std::int64_t n, std::int64_t k, DType dtype = DType::kBF16) {
  MatmulArgs a{};
  a.a = matrix(m, k, dtype);
  a.b = matrix(n, k, dtype);
  a.c = matrix(m, n, dtype);
  a.transpose_b = true;
  return a;
}
ExpertsArgs experts(std::int64_t tokens, std::int64_t count, std::int64_t top_k) {
  ExpertsArgs a{};
  a.x = matrix(tokens, 2048);
  a.y = matrix(tokens, 2048, DType::kF32);
  a.experts = count;
  a.top_k = top_k;
  a.ffn = 768;
  return a;
}
template <typename Args>
WorkTime time_of(const Args& a, std::string_view card, const std::string& no_cublaslt = "") {
  const CardTarget target{.card = find_card(card), .no_cublaslt = no_cublaslt};
  return work_time(card_work(a, target), cost(a), target.card);
}
template <typename Args>
std::string_view path_of(const Args& a, std::string_view card, const std::string& no_cublaslt = "") {
  const CardTarget target{.card = find_card(card), .no_cublaslt = no_cublaslt};
  return main_path(card_work(a, target), target.card);
}

/// Of every case of the sweeps: on every card, with and without cuBLASLt.
template <typename Args>
void check_time(const Args& a) {
  for (const Card& card : known_cards())
    for (const std::string missing : {"", "none"}) {
      const CardTarget target{.card = card, .no_cublaslt = missing};
      const Work work = card_work(a, target);
      const WorkTime time = work_time(work, cost(a), card);
      const double least = least_seconds(cost(a), ceilings_of(card));
      for (const double part :
           {time.least, time.more_work, time.rounding, time.rate, time.launches, time.kernels})
        ASSERT_GE(part, 0) << slot_of<Args>().name << " on " << card.name;
      double seconds = 0;
      for (const Launch& launch : work) {
        EXPECT_GE(launch.done, launch.flops) << slot_of<Args>().name;
        seconds += seconds_of(launch, card);
      }
      ASSERT_NEAR(time.total(), seconds, 1e-9 * seconds) << slot_of<Args>().name << " on " << card.name;
      // Where something is done, all of its Cost is.
      double flops = 0;
      for (const Launch& launch : work) flops += launch.flops;
      if (flops > 0) {
        ASSERT_GE(time.total(), least) << slot_of<Args>().name << " on " << card.name;
      }
    }
}

TEST(CardWork, IsNeverFasterThanTheCardAndIsMadeOfItsParts) {
  KernelTable table = cpu_kernels(CpuIsa::kReference);
  for_each_slot(table, []<typename Args>(std::string_view, Kernel<Args>& slot) {
    slot = [](const Args& a, device::Stream& stream) {
      check_time(a);
      (cpu_kernels(choose_cpu_isa()).*slot_of<Args>().member)(a, stream);
    };
  });
  device::CpuStream stream = make_stream(2);
  for (const Case& c : all_cases()) {
    c.run(table, stream);
    if (HasFatalFailure()) FAIL() << c.name;
  }
}

TEST(CardWork, OfLargeProductsGrowsWithThem) {
  for (const Card& card : known_cards()) {
    const double once = time_of(product(8192, 8192, 8192), card.name).total();
    const double twice = time_of(product(16384, 8192, 8192), card.name).total();
    EXPECT_NEAR(twice / once, 2, 0.1) << card.name;
    const double routed = time_of(experts(4096, 128, 8), card.name).total();
    const double more = time_of(experts(32768, 128, 8), card.name).total();
    EXPECT_GT(more / routed, 5) << card.name << ": fuller tiles";
    EXPECT_LT(more / routed, 8) << card.name;
  }
}

TEST(CardWork, OfAFasterCardIsLess) {
  const auto seconds = [](std::string_view card) { return time_of(experts(4096, 128, 8), card).total(); };
  EXPECT_LT(seconds("H200"), seconds("H100-PCIe"));
  EXPECT_LT(seconds("H200"), seconds("A100"));
  EXPECT_LT(time_of(product(4096, 4096, 4096), "H200").total(),
            time_of(product(4096, 4096, 4096), "H200", "none").total());
}

/// 8,192^3 and the two projections of Qwen3-30B-A3B over 4,096 tokens, in ms.
TEST(CardWork, OfDenseProductsIsWhatWasMeasuredOnAnH200) {
  EXPECT_NEAR(1e3 * time_of(product(8192, 8192, 8192), "H200").total(), 1.394, 0.03);
  EXPECT_NEAR(1e3 * time_of(product(4096, 5120, 2048), "H200").total(), 0.130, 0.008);
  EXPECT_NEAR(1e3 * time_of(product(4096, 2048, 4096), "H200").total(), 0.101, 0.006);
}

TEST(CardWork, CountsTheTilesOfEachExpert) {
  // Every token goes to all four experts: 130 rows each, in two tiles of 128.
  const CardTarget h200{.card = find_card("H200"), .no_wgmma = "asked for"};
  const Work work = card_work(experts(130, 4, 4), h200);
  ASSERT_EQ(work.size(), 3u) << "gate and up, down, combine";
  EXPECT_EQ(work[0].path->name, "mma.sync tiles 128 x 128");
  EXPECT_DOUBLE_EQ(work[0].flops, 2.0 * 4 * 130 * 2048 * 1536);
  // 8 tiles of rows by 12 of columns: fewer than multiprocessors, each of which takes one.
  EXPECT_DOUBLE_EQ(work[0].done, 2.0 * 132 * 128 * 128 * (2048 + 64));
  // 8 by 16: as many as fit.
  EXPECT_DOUBLE_EQ(work[1].done, 2.0 * 132 * 128 * 128 * (768 + 64));
  // The sums of each expert take its rows in steps of 32.
  ExpertsGradArgs g{};
  g.forward = experts(130, 4, 4);
  g.dy = matrix(130, 2048);
  g.wants_ddown = true;
  g.ddown_dtype = DType::kBF16;
  const Work sums = card_work(g, h200);
  ASSERT_EQ(sums.size(), 2u);
  // A part of the squares' sum of each of 16 by 6 tiles of four experts.
  g.wants_ddown_squares = true;
  const Work with_squares = card_work(g, h200);
  ASSERT_EQ(with_squares.size(), 3u);
  EXPECT_DOUBLE_EQ(with_squares[2].bytes, 16.0 * 4 * 16 * 6);
  EXPECT_DOUBLE_EQ(with_squares[1].bytes, sums[1].bytes);
  g.wants_ddown_squares = false;
  EXPECT_DOUBLE_EQ(sums[1].flops, 2.0 * 4 * 130 * 2048 * 768);
  EXPECT_DOUBLE_EQ(sums[1].done, 2.0 * 4 * 2048 * 768 * (160 + 64));
  // By wgmma 130 rows are one tile of 144, by 12 of 128 lines; one tile a multiprocessor.
  const CardTarget by_wgmma{.card = find_card("H200")};
  const Work wgmma = card_work(experts(130, 4, 4), by_wgmma);
  ASSERT_EQ(wgmma.size(), 3u);
  EXPECT_EQ(wgmma[0].path->name, "wgmma tiles 128 x 256");
  EXPECT_DOUBLE_EQ(wgmma[0].flops, work[0].flops);
  EXPECT_DOUBLE_EQ(wgmma[0].done, 2.0 * 132 * 144 * 128 * (2048 + 128));
  // The sums are of 16 by 3 tiles of each of four experts: two times 132. While one is stored the next one is
  // multiplied, but where it is added to what is there, or in f32.
  EXPECT_DOUBLE_EQ(card_work(g, by_wgmma)[1].done, 2.0 * 264 * 128 * 256 * (144 + 64));
  g.accumulate_ddown = true;
  EXPECT_DOUBLE_EQ(card_work(g, by_wgmma)[1].done, 2.0 * 264 * 128 * 256 * (144 + 128));
  g.accumulate_ddown = false;
  g.ddown_dtype = DType::kF32;
  EXPECT_DOUBLE_EQ(card_work(g, by_wgmma)[1].done, 2.0 * 264 * 128 * 256 * (144 + 128));
  // Two blocks fetch what they have in common for each other: of 17 by 3 tiles of five experts 18 by 3 are
  // made.
  ExpertsGradArgs odd{};
  odd.forward = experts(130, 5, 5);
  odd.forward.x = matrix(130, 2176);
  odd.dy = matrix(130, 2176);
  odd.wants_ddown = true;
  odd.ddown_dtype = DType::kBF16;
  EXPECT_DOUBLE_EQ(card_work(odd, by_wgmma)[1].done, 2.0 * 396 * 128 * 256 * (144 + 64));
  ExpertsArgs narrow = experts(130, 4, 4);
  narrow.ffn = 764;
  EXPECT_EQ(card_work(narrow, by_wgmma)[0].path->name, "mma.sync tiles 128 x 128");
}

TEST(CardWork, OfOperandsInFp8IsByItsTensorCoresWhereThereAreSome) {
  const CardTarget h200{.card = find_card("H200")}, a100{.card = find_card("A100")};
  ExpertsArgs a = experts(130, 4, 4);
  a.fp8 = true;
  const Work work = card_work(a, h200);
  ASSERT_EQ(work.size(), 7u) << "both operands of two products are coded";
  EXPECT_EQ(work[2].path->name, "wgmma e4m3 128 x 128");
  EXPECT_EQ(work[2].dtype, DType::kF8E4M3);
  EXPECT_DOUBLE_EQ(work[2].flops, 2.0 * 4 * 130 * 2048 * 1536);
  // Tiles of up to 128 rows: 130 are two of 80, by 12 of 128 lines, of four experts.
  EXPECT_DOUBLE_EQ(work[2].done, 2.0 * 132 * 80 * 128 * (2048 + 256));
  EXPECT_DOUBLE_EQ(work[0].bytes, 130 * 2048 * 3) << "read in bf16, written in a byte";
  EXPECT_EQ(card_work(a, a100)[2].path->name, "mma.sync tiles 128 x 128");
  // gate's and up's columns, 760 each, are blocks of 128 by themselves: 12 of them
  ExpertsGradArgs g{};
  g.forward = experts(128, 1, 1);
  g.forward.ffn = 760;
  g.forward.fp8 = true;
  g.dy = g.dx = matrix(128, 2048);
  double of_dx = 0;
  for (const Launch& launch : card_work(g, h200))
    of_dx += launch.flops == 2.0 * 128 * 1520 * 2048 ? launch.done : 0;
  EXPECT_DOUBLE_EQ(of_dx, 2.0 * 132 * 128 * 128 * (12 * 128 + 256));
  // a linear layer's: forward and dx
  MatmulArgs forward = product(4096, 5120, 2048), dx = product(4096, 2048, 5120);
  forward.fp8 = dx.fp8 = true;
  dx.transpose_b = false;
  dx.b = matrix(5120, 2048);
  const auto seconds = [&](const MatmulArgs& product, const CardTarget& target) {
    double sum = 0;
    for (const Launch& launch : card_work(product, target)) sum += seconds_of(launch, target.card);
    return sum;
  };
  for (MatmulArgs* product : {&forward, &dx}) {
    EXPECT_EQ(card_work(*product, h200).size(), 3u);
    EXPECT_EQ(card_work(*product, h200).back().path->name, "wgmma e4m3 128 x 128");
    EXPECT_EQ(card_work(*product, a100).back().path->name, "cuBLASLt");
    const CardTarget portable{.card = find_card("H200"), .no_wgmma = "asked for"};
    EXPECT_LT(seconds(*product, h200), seconds(*product, portable));
  }
}

TEST(CardWork, KnowsThatABf16GradientOfTheHeadMakesLogitsTwiceWhereThatSavesMuchMemory) {
  const auto products = [&](std::int64_t rows, DType dtype, std::int64_t hidden = 2048) {
    LinearCrossEntropyArgs a{};
    a.head.hidden = a.gradients.dhidden = matrix(rows, hidden);
    a.head.weight = matrix(151936, hidden);
    a.gradients.wants_dweight = true;
    a.gradients.dweight_dtype = dtype;
    double flops = 0;
    for (const Launch& launch : card_work(a, {.card = find_card("H200")})) flops += launch.flops;
    return flops / (2.0 * static_cast<double>(rows * hidden) * 151936);
  };
  EXPECT_DOUBLE_EQ(products(8192, DType::kF32), 3);
  EXPECT_DOUBLE_EQ(products(4096, DType::kBF16), 3);
  EXPECT_DOUBLE_EQ(products(8192, DType::kBF16), 3);
  EXPECT_DOUBLE_EQ(products(8192, DType::kBF16, 4096), 4);
}

TEST(CardWork, SaysThePathsThatLargeCallsTake) {
  const auto stated = [](std::string_view slot, const CardTarget& target) {
    const auto paths = slot_paths(target);
    return *std::find_if(paths.begin(), paths.end(), [&](const SlotPath& path) { return path.slot == slot; });
  };
  AttentionArgs attention{};
  attention.q = matrix(4096, 4096);
  attention.k = attention.v = matrix(4096, 512);
  attention.out = attention.q;
  attention.sequences = 1;
  attention.heads = 32;
  attention.kv_heads = 4;
  attention.head_dim = 128;
  attention.pairs = attended_pairs(4096, 4096, 0);
  attention.max_queries = 4096;
  attention.are_square = true;
  AttentionGradArgs attention_grad{};
  attention_grad.forward = attention;
  attention_grad.dout = attention_grad.dq = attention.q;
  attention_grad.dk = attention_grad.dv = attention.k;
  for (const std::string missing : {"", "libcublasLt.so.13 not found"})
    for (const Card& card : known_cards()) {
      const CardTarget target{.card = card, .no_cublaslt = missing};
      EXPECT_EQ(path_of(product(4096, 4096, 4096), card.name, missing), stated("matmul", target).path);
      EXPECT_EQ(path_of(experts(4096, 128, 8), card.name, missing), stated("experts", target).path);
      EXPECT_EQ(path_of(attention, card.name, missing), stated("attention", target).path);
      EXPECT_EQ(path_of(attention_grad, card.name, missing), stated("attention_grad", target).path);
      EXPECT_EQ(stated("matmul", target).why_not, missing);
      const bool has_wgmma = stated("experts", target).why_not.find("no wgmma") == std::string::npos;
      EXPECT_EQ(has_wgmma, card.major == 9) << card.name;
      const bool has_cudnn = stated("attention", target).why_not.empty();
      EXPECT_EQ(has_cudnn, card.major == 9 || card.major == 10) << card.name;
    }
  // every slot, in its place
  const auto paths = slot_paths({.card = find_card("H200")});
  std::size_t i = 0;
  for_each_slot([&](auto slot) {
    ASSERT_LT(i, paths.size());
    EXPECT_EQ(paths[i].slot, slot.name);
    EXPECT_FALSE(paths[i].path.empty()) << slot.name;
    EXPECT_EQ(paths[i].faster.empty(), paths[i].why_not.empty()) << slot.name;
    ++i;
  });
  EXPECT_EQ(i, paths.size());
}

TEST(CardWork, SaysThePathsThatLargeCallsInFp8Take) {
  MatmulArgs dense = product(4096, 4096, 4096);
  dense.fp8 = true;
  ExpertsArgs routed = experts(4096, 128, 8);
  routed.fp8 = true;
  ExpertsGradArgs grad{};
  grad.forward = routed;
  grad.dy = grad.dx = routed.x;
  grad.wants_ddown = grad.wants_dgate_up = true;
  grad.ddown_dtype = grad.dgate_up_dtype = DType::kBF16;
  for (const std::string no_wgmma : {"", "asked for"})
    for (const std::string no_cublaslt : {"", "not found"})
      for (const Card& card : known_cards()) {
        const CardTarget target{.card = card, .no_cublaslt = no_cublaslt, .no_wgmma = no_wgmma};
        const auto paths = fp8_paths(target);
        ASSERT_EQ(paths.size(), 3U);
        const auto expect_stated = [&](const SlotPath& stated, const auto& args) {
          Work products;  // without what codes their operands
          for (const Launch& launch : card_work(args, target))
            if (launch.flops > 0) products.push_back(launch);
          EXPECT_EQ(stated.slot, slot_of<std::decay_t<decltype(args)>>().name);
          EXPECT_EQ(stated.path, main_path(products, card)) << stated.slot << " on " << card.name;
          EXPECT_EQ(stated.faster.empty(), stated.path == "wgmma e4m3 128 x 128") << card.name;
          EXPECT_EQ(stated.faster.empty(), stated.why_not.empty()) << card.name;
        };
        expect_stated(paths[0], dense);
        expect_stated(paths[1], routed);
        expect_stated(paths[2], grad);
        EXPECT_EQ(paths[1].faster.empty(), card.major == 9 && no_wgmma.empty()) << card.name;
      }
}

TEST(CardWork, AssumesSharesOfPeaksWithAReason) {
  for (const Path* path : all_paths()) {
    for (const Card& card : known_cards())
      for (const DType dtype : kBothDtypes) {
        EXPECT_GT(path->of_peak(card, dtype), 0.05) << path->name << " on " << card.name;
        EXPECT_LE(path->of_peak(card, dtype), 1) << path->name << " on " << card.name;
      }
    EXPECT_GE(path->of_memory, 0.5) << path->name;
    EXPECT_LE(path->of_memory, 1) << path->name;
    EXPECT_GT(path->launch_us, 0) << path->name;
    EXPECT_FALSE(path->why.empty()) << path->name;
  }
}

TEST(DrawnRows, AreThoseOfTokensThatChooseDifferentExperts) {
  const auto rows = drawn_rows(4096, 128, 8);
  ASSERT_EQ(rows.size(), 128u);
  EXPECT_EQ(std::accumulate(rows.begin(), rows.end(), std::int64_t{0}), 4096 * 8);
  // 256 each on average, of a binomial distribution with a deviation of 15.5: all within five of them
  for (const std::int64_t n : rows) {
    EXPECT_GT(n, 256 - 78);
    EXPECT_LT(n, 256 + 78);
  }
  EXPECT_LT(*std::min_element(rows.begin(), rows.end()), 240) << "drawn, not balanced";
  EXPECT_EQ(rows, drawn_rows(4096, 128, 8)) << "the same each time";
  EXPECT_EQ(drawn_rows(7, 3, 3), (std::vector<std::int64_t>{7, 7, 7})) << "no expert twice";
}

TEST(Cards, ArePlausible) {
  for (const Card& card : known_cards()) {
    const double clock = card.bf16_tflops * 1e12 / (card.multiprocessors * card.clock_flops);
    EXPECT_GT(clock, 1.3e9) << card.name;
    EXPECT_LT(clock, 2.6e9) << card.name;
    EXPECT_LE(card.mma_sync_flops, card.clock_flops) << card.name;
    EXPECT_GE(card.major, 8) << card.name;
    EXPECT_FALSE(card.source.empty()) << card.name;
  }
}

TEST(Cards, AreFoundByName) {
  EXPECT_EQ(find_card("h200").name, "H200");
  EXPECT_EQ(find_card("rtx 4090").name, "RTX-4090");
  EXPECT_EQ(nearest_card("NVIDIA H200", 9, 0).name, "H200");
  EXPECT_EQ(nearest_card("NVIDIA H100 PCIe", 9, 0).name, "H100-PCIe");
  EXPECT_EQ(nearest_card("NVIDIA H100 80GB HBM3", 9, 0).name, "H100");
  EXPECT_EQ(nearest_card("NVIDIA A100-SXM4-40GB", 8, 0).name, "A100-40GB");
  EXPECT_EQ(nearest_card("NVIDIA A100-SXM4-80GB", 8, 0).name, "A100");
  EXPECT_EQ(nearest_card("NVIDIA GeForce RTX 4090", 8, 9).name, "RTX-4090");
  EXPECT_EQ(nearest_card("NVIDIA RTX 6000 Ada Generation", 8, 9).name, "L40S") << "of its kind";
  try {
    find_card("H20O");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUser);
    EXPECT_NE(std::string(e.what()).find("did you mean 'H200'?; known: H200, H100, "), std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace hone::test
