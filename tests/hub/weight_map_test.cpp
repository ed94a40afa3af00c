// Weight maps: every way in which a stored tensor may lie in a parameter, held to a plain formula of indices;
// whole, in regions, both ways.
#include "hub/weight_map.h"

#include <functional>
#include <numeric>

#include "hub/weight_rules.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::files_below;
using test::is_internal_error;
using test::TemporaryDirectory;

using Index = std::vector<std::int64_t>;

/// Where an element of a parameter is stored.
struct Place {
  std::string key;
  Index at;
};

struct Case {
  std::string name;
  std::vector<WantedParameter> parameters;
  std::vector<std::pair<std::string, Shape>> stored;
  std::function<void(WeightRules&)> declare;
  std::function<Place(const std::string& parameter, const Index& at)> place;
};

std::int64_t flat(const Shape& shape, const Index& at) {
  std::int64_t i = 0;
  for (std::size_t d = 0; d < at.size(); ++d) i = i * shape.dims()[d] + at[d];
  return i;
}

/// Calls f(index) for every element of a region, in row-major order.
template <typename F>
void for_each_index(const Region& region, F&& f) {
  const std::int64_t n =
      std::accumulate(region.size.begin(), region.size.end(), std::int64_t{1}, std::multiplies<>());
  for (std::int64_t i = 0; i < n; ++i) {
    Index at(region.size.size());
    std::int64_t rest = i;
    for (std::size_t d = at.size(); d-- > 0; rest /= region.size[d])
      at[d] = region.begin[d] + rest % region.size[d];
    f(at);
  }
}

/// Cuts a shape into boxes, each dimension at odd places.
std::vector<Region> cut(const Shape& shape, const std::vector<std::int64_t>& pieces) {
  std::vector<Region> regions{{}};
  for (std::size_t d = 0; d < shape.dims().size(); ++d) {
    std::vector<Region> next;
    const std::int64_t n = shape.dims()[d];
    const std::int64_t step = std::max<std::int64_t>(1, (n + pieces[d] - 1) / pieces[d]);
    for (const auto& region : regions)
      for (std::int64_t begin = 0; begin < n; begin += step) {
        next.push_back(region);
        next.back().begin.push_back(begin);
        next.back().size.push_back(std::min(step, n - begin));
      }
    regions = std::move(next);
  }
  return regions;
}

std::vector<Case> cases() {
  std::vector<Case> list;
  const auto transposed = [](std::int64_t e, std::int64_t r, std::int64_t c) {
    return Case{fmt::format("Transposed{}x{}x{}", e, r, c),
                {{"w", {e, r, c}}},
                {{"w", {e, c, r}}},
                [](WeightRules& rules) {
                  rules.stored("w", {{{"w", {{.dim = 0}, {.dim = 2}, {.dim = 1}}}}});
                },
                [](const std::string&, const Index& at) {
                  return Place{"w", {at[0], at[2], at[1]}};
                }};
  };
  list.push_back(transposed(1, 1, 1));
  list.push_back(transposed(3, 5, 7));
  list.push_back(transposed(2, 131, 259));    // planes of 131 elements and more
  list.push_back(transposed(1, 3, 200'001));  // rows of more than a plane
  list.push_back(transposed(1, 200'001, 2));
  const auto interleaved = [](std::int64_t e, std::int64_t ffn, std::int64_t hidden, std::int64_t parts) {
    return Case{fmt::format("Interleaved{}of{}", parts, ffn),
                {{"w", {e, parts * ffn, hidden}}, {"b", {e, parts * ffn}}},
                {{"w", {e, hidden, parts * ffn}}, {"b", {e, parts * ffn}}},
                [=](WeightRules& rules) {
                  rules.stored("w", {{{"w", {{.dim = 0}, {.dim = 2}, {.dim = 1, .interleaved = parts}}}}});
                  rules.stored("b", {{{"b", {{.dim = 0}, {.dim = 1, .interleaved = parts}}}}});
                },
                [=](const std::string& p, const Index& at) {
                  const std::int64_t i = at[1] % ffn * parts + at[1] / ffn;
                  return p == "w" ? Place{"w", {at[0], at[2], i}} : Place{"b", {at[0], i}};
                }};
  };
  list.push_back(interleaved(3, 5, 7, 2));
  list.push_back(interleaved(2, 9'001, 3, 2));
  list.push_back(interleaved(2, 33, 65, 3));
  list.push_back(
      {"StackedAndJoined",
       {{"w", {3, 10, 4}}},
       {{"x.0.up", {5, 4}},
        {"x.1.up", {5, 4}},
        {"x.2.up", {5, 4}},
        {"x.0.gate", {5, 4}},
        {"x.1.gate", {5, 4}},
        {"x.2.gate", {5, 4}}},
       [](WeightRules& rules) {
         rules.expert_stack("w", {"x.{e}.gate", "x.{e}.up"}, "fused");
       },
       [](const std::string&, const Index& at) {
         return Place{fmt::format("x.{}.{}", at[0], at[1] < 5 ? "gate" : "up"), {at[1] % 5, at[2]}};
       }});
  list.push_back({"StackedLastAndTransposed",
                  {{"w", {5, 7, 3}}},
                  {{"x.0", {7, 5}}, {"x.1", {7, 5}}, {"x.2", {7, 5}}},
                  [](WeightRules& rules) {
                    rules.stored("w", {{{.key = "x.{e}", .dims = {{.dim = 1}, {.dim = 0}}, .stacked = 2}}});
                  },
                  [](const std::string&, const Index& at) {
                    return Place{fmt::format("x.{}", at[2]), {at[1], at[0]}};
                  }});
  const auto split = [](int dim) {
    return Case{dim == 0 ? "SplitRows" : "SplitColumns",
                {{"q", dim == 0 ? Shape{6, 5} : Shape{5, 6}},
                 {"k", dim == 0 ? Shape{3, 5} : Shape{5, 3}},
                 {"v", dim == 0 ? Shape{4, 5} : Shape{5, 4}}},
                {{"qkv", dim == 0 ? Shape{13, 5} : Shape{5, 13}}},
                [=](WeightRules& rules) {
                  const std::vector<std::pair<std::string, std::int64_t>> parts{{"q", 0}, {"k", 6}, {"v", 9}};
                  for (const auto& [name, begin] : parts) {
                    Stored s{.key = "qkv", .dims = {{.dim = 0}, {.dim = 1}}, .stacked = -1};
                    s.dims[static_cast<std::size_t>(dim)].begin = begin;
                    s.dims[static_cast<std::size_t>(dim)].extent = 13;
                    rules.stored(name, {{s}});
                  }
                },
                [=](const std::string& p, const Index& at) {
                  Index stored = at;
                  stored[static_cast<std::size_t>(dim)] += p == "q" ? 0 : p == "k" ? 6 : 9;
                  return Place{"qkv", stored};
                }};
  };
  list.push_back(split(0));
  list.push_back(split(1));
  return list;
}

class WeightMaps : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    std::vector<NewTensor> tensors;
    for (const auto& [key, shape] : GetParam().stored)
      tensors.push_back({{key, find_stored_type("F32"), shape}});
    auto writer = CheckpointWriter::fresh(tensors, directory_ / "m");
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      std::vector<float> values(static_cast<std::size_t>(tensors[t].spec.shape.numel()));
      std::iota(values.begin(), values.end(), static_cast<float>(1'000'000 * t));
      first_[tensors[t].spec.name] = values.front();
      writer.write(tensors[t].spec.name, std::as_bytes(std::span(values)));
    }
    writer.publish();
    WeightRules rules;
    GetParam().declare(rules);
    plan_ = rules.plan(Checkpoint::open(directory_ / "m"), GetParam().parameters);
  }

  float expected(const std::string& parameter, const Index& at) const {
    const Place place = GetParam().place(parameter, at);
    for (const auto& [key, shape] : GetParam().stored)
      if (key == place.key) return first_.at(key) + static_cast<float>(flat(shape, place.at));
    return -1;
  }
  /// The parameter's values in a region, by the formula.
  std::vector<float> by_formula(const WantedParameter& p, const Region& region) const {
    std::vector<float> values;
    for_each_index(region, [&](const Index& at) { values.push_back(expected(p.name, at)); });
    return values;
  }
  static Region all(const WantedParameter& p) { return {Index(p.shape.dims().size(), 0), p.shape.dims()}; }
  static std::vector<Region> regions(const WantedParameter& p) { return cut(p.shape, {3, 4, 3}); }

  TemporaryDirectory directory_;
  std::map<std::string, float> first_;
  WeightPlan plan_;
};

TEST_P(WeightMaps, LoadsWhatTheFormulaSays) {
  std::vector<std::vector<float>> values;
  std::vector<std::vector<double>> doubles;
  for (const auto& p : GetParam().parameters) {
    values.emplace_back(static_cast<std::size_t>(p.shape.numel()), -1.0F);
    doubles.emplace_back(values.back().size(), -1.0);
  }
  plan_.load(team(), [&](std::size_t p) {
    return Destination{.data = doubles[p].data(), .dtype = DType::kF64, .master = values[p].data()};
  });
  for (std::size_t p = 0; p < values.size(); ++p) {
    const auto& wanted = GetParam().parameters[p];
    const auto formula = by_formula(wanted, all(wanted));
    EXPECT_EQ(values[p], formula) << wanted.name;
    EXPECT_EQ(doubles[p], std::vector<double>(formula.begin(), formula.end())) << wanted.name;
    std::vector<BFloat16> halves(formula.size());
    plan_.load_parameter(team(), p, {halves.data(), DType::kBF16});
    for (std::size_t i = 0; i < halves.size(); ++i)
      ASSERT_EQ(halves[i].bits, BFloat16(formula[i]).bits) << wanted.name << " " << i;
  }
}

TEST_P(WeightMaps, LoadsEveryRegionAlone) {
  for (std::size_t p = 0; p < GetParam().parameters.size(); ++p) {
    const auto& wanted = GetParam().parameters[p];
    for (const auto& region : regions(wanted)) {
      const auto formula = by_formula(wanted, region);
      std::vector<float> values(formula.size() + 1, -1.0F);
      plan_.load_parameter(team(), p, {.data = values.data(), .dtype = DType::kF32, .region = region});
      EXPECT_EQ(values.back(), -1.0F) << "behind the region";
      values.pop_back();
      EXPECT_EQ(values, formula) << wanted.name;
    }
  }
}

TEST_P(WeightMaps, SavesWhatWasReadWholeAndInRegionsAndUntouched) {
  std::vector<std::vector<float>> values;
  for (const auto& p : GetParam().parameters) values.push_back(by_formula(p, all(p)));
  std::vector<std::vector<float>> loaded = values;
  plan_.load(team(), [&](std::size_t p) { return Destination{loaded[p].data(), DType::kF32}; });
  const auto before = files_below(directory_ / "m");
  {
    auto writer = plan_.writer(directory_ / "whole");
    plan_.save(team(), writer, [&](std::size_t p) { return Source{values[p].data(), DType::kF32}; });
    writer.publish();
    EXPECT_EQ(files_below(directory_ / "whole"), before);
  }
  {
    auto writer = plan_.writer(directory_ / "untouched");
    plan_.save(team(), writer, [&](std::size_t p) -> std::optional<Source> {
      if (p == 0) return std::nullopt;
      return Source{values[p].data(), DType::kF32};
    });
    writer.publish();
    EXPECT_EQ(files_below(directory_ / "untouched"), before);
  }
  auto writer = plan_.writer(directory_ / "regions");
  std::vector<float> part;
  const auto source = [&](std::size_t p, const Region& region) {
    part = by_formula(GetParam().parameters[p], region);
    return Source{part.data(), DType::kF32, region};
  };
  plan_.save(team(), writer,
             [&](std::size_t p) { return source(p, regions(GetParam().parameters[p]).back()); });
  for (std::size_t p = 0; p < values.size(); ++p) {
    auto rest = regions(GetParam().parameters[p]);
    rest.pop_back();
    for (const auto& region : rest) plan_.save_parameter(team(), writer, p, source(p, region));
  }
  writer.publish();
  EXPECT_EQ(files_below(directory_ / "regions"), before);
}

INSTANTIATE_TEST_SUITE_P(Every, WeightMaps, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(WeightMap, RefusesWhatIsNoMap) {
  using Axes = std::vector<WeightMap::Axis>;
  const Shape shape{4, 6};
  const auto refused = [&](Axes axes, Index origin) {
    return is_internal_error([&] { (void)WeightMap(shape, std::move(axes), std::move(origin)); });
  };
  EXPECT_FALSE(refused({{4, 0, 4, 0, 1}, {3, 0, 3, 1, 2}, {2, 0, 2, 1, 1}}, {0, 0}));
  EXPECT_TRUE(refused({{4, 0, 4, 0, 1}, {3, 0, 3, 1, 1}, {2, 0, 2, 1, 1}}, {0, 0})) << "an element twice";
  EXPECT_TRUE(refused({{4, 0, 4, 0, 1}, {6, 0, 6, 1, 1}}, {0, 1})) << "beyond the end";
  EXPECT_TRUE(refused({{4, 0, 4, 0, 1}, {6, 3, 4, 1, 1}}, {0, 0})) << "beyond the axis";
  EXPECT_TRUE(refused({{4, 0, 4, 2, 1}}, {0, 0})) << "along no dimension";
  EXPECT_TRUE(refused({{4, 0, 4, 0, 1}}, {0})) << "an origin of another rank";
  EXPECT_TRUE(is_internal_error([&] {
    (void)WeightMap::whole(shape).restricted({.begin = {0, 3}, .size = {4, 4}});
  }));
}

TEST(WeightMap, ReadsNoMoreOfAFileThanARegionNeeds) {
  // 2 MiB: the first rows, then the last ones; the other MiB may be cut off while the file is open.
  const TemporaryDirectory directory;
  const Shape shape{512, 1024};
  auto writer = CheckpointWriter::fresh({{{"w", find_stored_type("F32"), shape}}}, directory / "m");
  std::vector<float> values(static_cast<std::size_t>(shape.numel()), 1.0F);
  writer.write("w", std::as_bytes(std::span(values)));
  writer.publish();
  const auto plan = WeightRules().plan(Checkpoint::open(directory / "m"), {{"w", shape}});
  const fs::path file = fs::path(directory / "m") / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - (std::uint64_t{1} << 20));
  std::vector<float> part(256 * 1024);
  plan.load_parameter(team(), 0,
                      {.data = part.data(), .dtype = DType::kF32, .region = {{0, 0}, {256, 1024}}});
  EXPECT_EQ(part, std::vector<float>(part.size(), 1.0F));
  EXPECT_THROW(plan.load_parameter(
                   team(), 0, {.data = part.data(), .dtype = DType::kF32, .region = {{1, 0}, {256, 1024}}}),
               Error);
}

}  // namespace
}  // namespace hone::hub
