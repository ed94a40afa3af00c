#include "train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "base/console.h"
#include "base/file.h"
#include "train/step_record.h"
#include "train/svg.h"

namespace hone::train {

namespace {

using json = nlohmann::ordered_json;

std::vector<json> read_rows(const std::filesystem::path& path) {
  std::vector<json> rows;
  if (!std::filesystem::exists(path)) return rows;
  std::istringstream in(read_file(path));
  for (std::string line; std::getline(in, line);) {
    auto row = json::parse(line, nullptr, false);
    if (row.is_object()) rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<StepRecord> read_records(const std::filesystem::path& path) {
  std::vector<StepRecord> records;
  for (const auto& row : read_rows(path)) records.push_back(from_row(row));
  return records;
}

/// A figure against the step.
Curve curve_of(const std::vector<StepRecord>& records, double StepRecord::*figure, const std::string& name,
               const std::string& css_class) {
  Curve curve{.name = name, .css_class = css_class, .points = {}};
  for (const auto& record : records)
    if (record.step > 0) curve.points.emplace_back(static_cast<double>(record.step), record.*figure);
  return curve;
}

/// One curve of dots per evaluation set.
std::vector<Curve> evaluation_curves(const std::vector<StepRecord>& records) {
  std::vector<Curve> curves;
  for (const auto& record : records) {
    for (const auto& evaluation : record.evaluations) {
      const std::string name = evaluation.name.empty() ? "evaluation" : "evaluation of " + evaluation.name;
      auto curve = std::find_if(curves.begin(), curves.end(), [&](const Curve& c) { return c.name == name; });
      if (curve == curves.end())
        curve = curves.insert(curve, {.name = name, .css_class = "c", .points = {}, .is_dots = true});
      curve->points.emplace_back(static_cast<double>(record.step), evaluation.summary.loss);
    }
  }
  return curves;
}

/// The average over some 50th of the points around each, symmetric at the start (where a loss falls steeply):
/// the trend, without a lag.
Curve smooth(const Curve& curve, const std::string& css_class) {
  Curve result{.name = "average", .css_class = css_class, .points = {}};
  const std::size_t size = curve.points.size();
  std::vector<double> sums(size + 1, 0);
  for (std::size_t i = 0; i < size; ++i) sums[i + 1] = sums[i] + curve.points[i].second;
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t before = std::min(i, size / 100 + 1);
    const std::size_t after = std::min(before, size - 1 - i);
    result.points.emplace_back(curve.points[i].first, (sums[i + after + 1] - sums[i - before]) /
                                                          static_cast<double>(before + after + 1));
  }
  return result;
}

/// Loads as shares of a layer's mean, summed over all rows: one row per layer, one column per expert.
std::vector<std::vector<double>> expert_shares(const std::vector<json>& rows) {
  std::vector<std::vector<double>> sums;
  for (const auto& row : rows) {
    const auto counts = row.value("counts", std::vector<std::vector<double>>{});
    sums.resize(std::max(sums.size(), counts.size()));
    for (std::size_t layer = 0; layer < counts.size(); ++layer) {
      sums[layer].resize(std::max(sums[layer].size(), counts[layer].size()));
      for (std::size_t e = 0; e < counts[layer].size(); ++e) sums[layer][e] += counts[layer][e];
    }
  }
  for (auto& layer : sums) {
    const double total = std::accumulate(layer.begin(), layer.end(), 0.0);
    for (double& x : layer) x *= total > 0 ? static_cast<double>(layer.size()) / total : 0;
  }
  return sums;
}

/// The busiest expert's share of the mean: one row per layer, one column per row of experts.jsonl.
std::vector<std::vector<double>> imbalance_over_time(const std::vector<json>& rows) {
  std::vector<std::vector<double>> result;
  for (const auto& row : rows) {
    const auto shares = expert_shares({row});
    result.resize(std::max(result.size(), shares.size()));
    for (std::size_t layer = 0; layer < shares.size(); ++layer)
      result[layer].push_back(
          shares[layer].empty() ? 0 : *std::max_element(shares[layer].begin(), shares[layer].end()));
  }
  return result;
}

constexpr const char* kStyle = R"(<style>
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #6a7585; --paper: #ffffff; --line: #e3e7ec; --a: #2563c9; --b: #d9762b; --c: #2f9e5a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --quiet: #93a0b1; --paper: #14181e; --line: #2a323c; --a: #6ea0ff; --b: #f2a15f; --c: #5fd08a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1500px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; } .sub { color: var(--quiet); margin: 0 0 1.5rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin-bottom: 1.5rem; } .numbers b { display: block; font-size: 1.25rem; }
.numbers span { color: var(--quiet); font-size: .85rem; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 1rem; align-items: start; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: .6rem; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; display: block; } .grid { stroke: var(--line); } .tick { fill: var(--quiet); font-size: 13px; }
polyline { fill: none; stroke-width: 1.6; } .a { stroke: var(--a); } .b { stroke: var(--b); } .c { stroke: var(--c); fill: var(--c); }
.faint { stroke: var(--a); opacity: .35; } rect.key { fill: currentColor; stroke: none; } .a.key { fill: var(--a); } .b.key { fill: var(--b); }
.c.key { fill: var(--c); } .faint.key { fill: var(--a); } .dot { fill: currentColor; } .a.dot { fill: var(--a); } .c.dot { fill: var(--c); }
pre { border: 1px solid var(--line); border-radius: 8px; padding: 1rem; overflow-x: auto; font-size: 13px; } details { margin-top: 1.5rem; }
table { border-collapse: collapse; } td { border: 1px solid var(--line); padding: .3rem .6rem; vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
</style>
)";

std::string number(const std::string& value, const std::string& label) {
  return fmt::format("<div><b>{}</b><span>{}</span></div>\n", escape_html(value), escape_html(label));
}

std::string headline(const std::vector<StepRecord>& records) {
  std::vector<double> speeds;
  double seconds = 0;
  std::int64_t skipped = 0, untaught = 0;
  const EvaluationRecord* evaluation = nullptr;
  for (const auto& record : records) {
    if (!record.evaluations.empty()) evaluation = &record.evaluations.front();
    if (record.step == 0) continue;
    speeds.push_back(record.tokens_per_second);
    seconds += record.step_ms / 1e3;
    skipped += record.skipped ? 1 : 0;
    untaught += record.supervised == 0 ? 1 : 0;
  }
  if (speeds.empty()) return "<p>No step has ended yet.</p>\n";
  std::nth_element(speeds.begin(), speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2),
                   speeds.end());
  const StepRecord& last = records.back();
  std::string html = "<div class=\"numbers\">\n";
  html += number(with_commas(last.step), "steps");
  html += number(fmt::format("{:.4f}", last.loss), "last loss");
  if (evaluation != nullptr)
    html += number(fmt::format("{:.4f}", evaluation->summary.loss), "last eval loss");
  html += number(with_commas(last.total_tokens), "tokens");
  html += number(short_count(speeds[speeds.size() / 2]) + " tok/s", "median speed");
  html += number(duration(seconds), "training time");
  html += number(fmt::format("{:.0f} MiB", last.memory_mib), "resident peak");
  if (untaught > 0) html += number(with_commas(untaught), "steps without a token to learn from");
  if (skipped > 0) html += number(with_commas(skipped), "steps skipped: not finite");
  return html + "</div>\n";
}

/// What the model answered: after the last evaluation open, after earlier ones folded.
std::string sample_sections(const std::vector<json>& rows) {
  std::map<std::int64_t, std::string, std::greater<>> tables;  // by step, the latest first
  for (const auto& row : rows) {
    const auto cell = [&](const char* key) { return "<td>" + escape_html(row.value(key, "")) + "</td>"; };
    const bool is_named = row.contains("set");
    tables[row.value("step", std::int64_t{0})] += "<tr>" + (is_named ? cell("set") : "") + cell("prompt") +
                                                  cell("answer") + cell("reference") + "</tr>\n";
  }
  std::string html;
  for (const auto& [step, table] : tables)
    html += fmt::format(
        "<details{}><summary>Answers after step {}: prompt, answer, reference</summary>\n"
        "<table>{}</table></details>\n",
        html.empty() ? " open" : "", step, table);
  return html;
}

}  // namespace

void write_report(const RunDirectory& directory) {
  const auto records = read_records(directory.metrics());
  const auto experts = read_rows(directory.experts());
  const std::string name = std::filesystem::absolute(directory.path()).lexically_normal().filename().string();
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>hone: " + escape_html(name) +
      "</title>\n";
  html += kStyle;
  html += "</head><body>\n<h1>" + escape_html(name) + "</h1>\n<p class=\"sub\">a run of hone in " +
          escape_html(directory.path().string()) + "</p>\n" + headline(records) + "<div class=\"grid2\">\n";

  const Curve loss = curve_of(records, &StepRecord::lm_loss, "every step", "faint");
  std::vector<Curve> losses{loss, smooth(loss, "a")};
  for (auto& curve : evaluation_curves(records)) losses.push_back(std::move(curve));
  html += draw_chart("Loss", "step", losses, Scale::kLogIfWide);
  html += draw_chart("Learning rate", "step", {curve_of(records, &StepRecord::learning_rate, "lr", "a")},
                     Scale::kFromZero);
  html += draw_chart("Gradient norm, before clipping", "step",
                     {curve_of(records, &StepRecord::grad_norm, "grad_norm", "a")}, Scale::kLogIfWide);
  html += draw_chart("Throughput, tokens per second", "step",
                     {curve_of(records, &StepRecord::tokens_per_second, "tok_s", "a")}, Scale::kFromZero);
  const Curve aux = curve_of(records, &StepRecord::aux_loss, "aux_loss", "a");
  if (std::any_of(aux.points.begin(), aux.points.end(), [](const auto& p) { return p.second != 0; }))
    html += draw_chart("Auxiliary (load-balancing) loss", "step", {aux});
  if (!experts.empty()) {
    html += draw_heat_map({.title = "Load of every expert, whole run",
                           .x_label = "expert",
                           .row_label = "layer",
                           .rows = expert_shares(experts),
                           .columns = {},
                           .most = 3});
    std::vector<double> steps;
    for (const auto& row : experts) steps.push_back(row.value("step", 0.0));
    html += draw_heat_map({.title = "Load of the busiest expert, over time",
                           .x_label = "step",
                           .row_label = "layer",
                           .rows = imbalance_over_time(experts),
                           .columns = steps,
                           .most = 6});
  }
  html += "</div>\n" + sample_sections(read_rows(directory.samples()));
  html += "<details><summary>Recipe, with where each value came from</summary><pre>";
  if (std::filesystem::exists(directory.recipe())) html += escape_html(read_file(directory.recipe()));
  html += "</pre></details>\n</body></html>\n";
  write_file_atomically(directory.report(), html);
}

}  // namespace hone::train
