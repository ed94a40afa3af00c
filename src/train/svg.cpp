#include "train/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace hone::train {

namespace {

constexpr double kWidth = 720, kHeight = 270;
constexpr double kLeft = 66, kRight = 14, kTop = 34, kBottom = 40;
constexpr double kWide = 50;  // factors between values from which a logarithm shows more

struct Range {
  double low = 0, high = 1;
  double share(double value) const { return (value - low) / (high - low); }
};

Range range_of(const std::vector<Curve>& curves, bool of_x) {
  Range range{INFINITY, -INFINITY};
  for (const auto& curve : curves) {
    for (const auto& [x, y] : curve.points) {
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      range.low = std::min(range.low, of_x ? x : y);
      range.high = std::max(range.high, of_x ? x : y);
    }
  }
  return range.low > range.high ? Range{} : range;
}

/// A range that has a width.
Range widened(Range range) {
  if (range.low < range.high) return range;
  const double margin = range.low == 0 ? 1 : std::abs(range.low) * 0.1;
  return {range.low - margin, range.high + margin};
}

/// Round numbers across a range: steps of 1, 2 or 5 times a power of ten.
std::vector<double> ticks(const Range& range, double least_step = 0) {
  const double rough = std::max(least_step, (range.high - range.low) / 5);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0})
    if (step < rough * (1 - 1e-9)) step = factor * power;
  std::vector<double> result;
  for (double at = std::ceil(range.low / step) * step; at <= range.high + step * 1e-9; at += step)
    result.push_back(std::abs(at) < step * 1e-9 ? 0 : at);
  return result;
}

/// From values to heights: straight, or by their logarithm.
class Axis {
 public:
  Axis(const std::vector<Curve>& curves, Scale scale) {
    Range range = range_of(curves, false);
    if (scale == Scale::kFromZero && range.low > 0) range.low = 0;
    is_log_ = scale == Scale::kLogIfWide && range.low > 0 && range.high > kWide * range.low;
    range_ = is_log_ ? Range{std::log10(range.low), std::log10(range.high)} : widened(range);
  }
  double share(double value) const { return range_.share(is_log_ ? std::log10(value) : value); }
  std::vector<double> ticks() const {
    if (!is_log_) return train::ticks(range_);
    std::vector<double> result;
    // Powers of ten, with their doubles and fives between where there are few, every few where there are
    // many.
    const double decades = range_.high - range_.low;
    const int every = std::max(1, static_cast<int>(decades / 5));
    for (int power = static_cast<int>(std::floor(range_.low)); power <= range_.high; power += every)
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double at = factor * std::pow(10.0, power);
        if (factor > 1 && decades > 2.5) break;
        if (share(at) >= -1e-9 && share(at) <= 1 + 1e-9) result.push_back(at);
      }
    return result;
  }

 private:
  Range range_;
  bool is_log_ = false;
};

/// "12k", "0.0025", "2e-06".
std::string tick_text(double value) {
  if (std::abs(value) >= 10000) {
    constexpr std::string_view kUnits = "kMGT";
    std::size_t unit = 0;
    for (value /= 1000; std::abs(value) >= 1000 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
    return fmt::format("{:.4g}{}", value, kUnits[unit]);
  }
  return fmt::format("{:.4g}", value);
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y,
                     anchor, escape_html(text));
}

/// At most two points (least and greatest) for each of `buckets` stretches.
std::vector<std::pair<double, double>> thin(const std::vector<std::pair<double, double>>& points,
                                            std::size_t buckets) {
  std::vector<std::pair<double, double>> finite;
  for (const auto& p : points)
    if (std::isfinite(p.first) && std::isfinite(p.second)) finite.push_back(p);
  if (finite.size() <= 2 * buckets) return finite;
  std::vector<std::pair<double, double>> result;
  for (std::size_t b = 0; b < buckets; ++b) {
    const auto begin = finite.begin() + static_cast<std::ptrdiff_t>(b * finite.size() / buckets);
    const auto end = finite.begin() + static_cast<std::ptrdiff_t>((b + 1) * finite.size() / buckets);
    const auto by_y = [](const auto& a, const auto& c) { return a.second < c.second; };
    auto [least, greatest] = std::minmax_element(begin, end, by_y);
    if (greatest < least) std::swap(least, greatest);
    result.push_back(*least);
    if (least != greatest) result.push_back(*greatest);
  }
  return result;
}

std::string open_svg(const std::string& title, double height) {
  return fmt::format(
      "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
      escape_html(title), kWidth, height, escape_html(title));
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string draw_chart(const std::string& title, const std::string& x_label, const std::vector<Curve>& curves,
                       Scale scale) {
  const Range x = widened(range_of(curves, true));
  const Axis y(curves, scale);
  const auto at_x = [&](double value) { return kLeft + x.share(value) * (kWidth - kLeft - kRight); };
  const auto at_y = [&](double value) {
    return kHeight - kBottom - y.share(value) * (kHeight - kTop - kBottom);
  };
  std::string svg = open_svg(title, kHeight);
  for (const double t : y.ticks())
    svg += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft,
                       kWidth - kRight, at_y(t), at_y(t)) +
           text_at(kLeft - 7, at_y(t) + 4.5, "end", tick_text(t));
  for (const double t : ticks(x, 1))
    svg += text_at(at_x(t), kHeight - kBottom + 18, "middle", fmt::format("{:.9g}", t));
  svg += text_at(kWidth - kRight, kHeight - 5, "end", x_label);
  double legend = kLeft;
  for (const auto& curve : curves) {
    const auto points = thin(curve.points, static_cast<std::size_t>(kWidth));
    if (curve.is_dots || points.size() == 1) {
      for (const auto& [px, py] : points)
        svg += fmt::format(
            "<circle class=\"{} dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\"><title>{} {:.9g}: "
            "{:.5g}</title></circle>\n",
            curve.css_class, at_x(px), at_y(py), escape_html(x_label), px, py);
    } else if (!points.empty()) {
      svg += fmt::format("<polyline class=\"{}\" points=\"", curve.css_class);
      for (const auto& [px, py] : points) svg += fmt::format("{:.1f},{:.1f} ", at_x(px), at_y(py));
      svg += "\"/>\n";
    }
    if (curves.size() > 1) {
      svg += fmt::format("<rect class=\"{} key\" x=\"{:.0f}\" y=\"8\" width=\"11\" height=\"11\"/>",
                         curve.css_class, legend) +
             text_at(legend + 17, 18, "start", curve.name);
      legend += 48 + 7.5 * static_cast<double>(curve.name.size());
    }
  }
  return svg + "</svg></figure>\n";
}

namespace {

/// From dark blue (nothing) over green (balanced, at a third of `most`) to yellow (`most` or more).
std::string heat_colour(double share_of_mean, double most) {
  const double share = std::clamp(share_of_mean / most, 0.0, 1.0);
  return fmt::format("hsl({:.0f} 70% {:.0f}%)", 250 - 200 * share, 18 + 42 * share);
}

std::string heat_key(double most) {
  constexpr double kSwatch = 26;
  std::string svg;
  double x = kLeft;
  for (int i = 0; i <= 6; ++i, x += kSwatch)
    svg += fmt::format("<rect x=\"{}\" y=\"8\" width=\"{}\" height=\"11\" fill=\"{}\"/>", x, kSwatch + 0.3,
                       heat_colour(most * i / 6, most));
  return svg + text_at(kLeft - 7, 18, "end", "0") +
         text_at(x + 7, 18, "start", fmt::format("{:g} x mean or more", most));
}

}  // namespace

std::string draw_heat_map(const HeatMap& map) {
  std::size_t columns = 1;
  for (const auto& row : map.rows) columns = std::max(columns, row.size());
  const auto count = static_cast<double>(std::max<std::size_t>(1, map.rows.size()));
  const double cell_width = (kWidth - kLeft - kRight) / static_cast<double>(columns);
  const double cell_height = std::clamp((kHeight - kTop - kBottom) / count, 6.0, 40.0);
  const double bottom = kTop + cell_height * static_cast<double>(map.rows.size());
  std::string svg = open_svg(map.title, bottom + kBottom) + heat_key(map.most);
  const auto column_name = [&](std::size_t c) {
    return c < map.columns.size() ? fmt::format("{:.9g}", map.columns[c]) : std::to_string(c);
  };
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    const double y = kTop + cell_height * static_cast<double>(r);
    if (r % ((map.rows.size() + 15) / 16) == 0)
      svg += text_at(kLeft - 7, y + cell_height / 2 + 4.5, "end", fmt::format("{} {}", map.row_label, r));
    for (std::size_t c = 0; c < map.rows[r].size(); ++c)
      svg += fmt::format(
          "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" fill=\"{}\"><title>{} {}, {} "
          "{}: {:.2f} x mean</title></rect>\n",
          kLeft + cell_width * static_cast<double>(c), y, cell_width + 0.3, cell_height + 0.3,
          heat_colour(map.rows[r][c], map.most), escape_html(map.row_label), r, escape_html(map.x_label),
          column_name(c), map.rows[r][c]);
  }
  const std::size_t every = (columns + 15) / 16;
  for (std::size_t c = 0; c < columns; c += every)
    svg +=
        text_at(kLeft + cell_width * (static_cast<double>(c) + 0.5), bottom + 18, "middle", column_name(c));
  return svg + text_at(kWidth - kRight, bottom + kBottom - 5, "end", map.x_label) + "</svg></figure>\n";
}

}  // namespace hone::train
