#include "train/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hone::train {

namespace {

constexpr double kWidth = 720, kHeight = 240;
constexpr double kLeft = 62, kRight = 12, kTop = 30, kBottom = 34;

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
  if (range.low > range.high) return {};
  if (range.low == range.high) {
    const double margin = range.low == 0 ? 1 : std::abs(range.low) * 0.1;
    return {range.low - margin, range.high + margin};
  }
  return range;
}

/// Round numbers across a range: steps of 1, 2 or 5 times a power of ten.
std::vector<double> ticks(const Range& range) {
  const double rough = (range.high - range.low) / 5;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0})
    if (step < rough) step = factor * power;
  std::vector<double> result;
  for (double at = std::ceil(range.low / step) * step; at <= range.high + step * 1e-9; at += step)
    result.push_back(std::abs(at) < step * 1e-9 ? 0 : at);
  return result;
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

std::string draw_chart(const std::string& title, const std::string& x_label,
                       const std::vector<Curve>& curves) {
  const Range x = range_of(curves, true);
  const Range y = range_of(curves, false);
  const auto at_x = [&](double value) { return kLeft + x.share(value) * (kWidth - kLeft - kRight); };
  const auto at_y = [&](double value) {
    return kHeight - kBottom - y.share(value) * (kHeight - kTop - kBottom);
  };
  std::string svg = open_svg(title, kHeight);
  for (const double t : ticks(y))
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text class=\"tick\" x=\"{}\" "
        "y=\"{:.1f}\" "
        "text-anchor=\"end\">{:.4g}</text>\n",
        kLeft, kWidth - kRight, at_y(t), at_y(t), kLeft - 6, at_y(t) + 4, t);
  for (const double t : ticks(x))
    svg += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.6g}</text>\n",
                       at_x(t), kHeight - kBottom + 16, t);
  svg += fmt::format("<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
                     kWidth - kRight, kHeight - 4, escape_html(x_label));
  double legend = kLeft;
  for (const auto& curve : curves) {
    const auto points = thin(curve.points, static_cast<std::size_t>(kWidth));
    if (curve.is_dots) {
      for (const auto& [px, py] : points)
        svg += fmt::format(
            "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"><title>{:.6g}: "
            "{:.5g}</title></circle>\n",
            curve.css_class, at_x(px), at_y(py), px, py);
    } else if (!points.empty()) {
      svg += fmt::format("<polyline class=\"{}\" points=\"", curve.css_class);
      for (const auto& [px, py] : points) svg += fmt::format("{:.1f},{:.1f} ", at_x(px), at_y(py));
      svg += "\"/>\n";
    }
    if (curves.size() > 1) {
      svg += fmt::format(
          "<rect class=\"{}\" x=\"{:.0f}\" y=\"10\" width=\"10\" height=\"10\"/><text class=\"tick\" "
          "x=\"{:.0f}\" y=\"19\">{}</text>\n",
          curve.css_class + " key", legend, legend + 15, escape_html(curve.name));
      legend += 40 + 7.0 * static_cast<double>(curve.name.size());
    }
  }
  return svg + "</svg></figure>\n";
}

std::string draw_heat_map(const std::string& title, const std::string& x_label, const std::string& row_label,
                          const std::vector<std::vector<double>>& rows, double most) {
  std::size_t columns = 1;
  for (const auto& row : rows) columns = std::max(columns, row.size());
  const double cell_width = (kWidth - kLeft - kRight) / static_cast<double>(columns);
  const double cell_height =
      std::clamp(240.0 / static_cast<double>(std::max<std::size_t>(1, rows.size())), 6.0, 22.0);
  const double height = kTop + cell_height * static_cast<double>(rows.size()) + kBottom;
  std::string svg = open_svg(title, height);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double y = kTop + cell_height * static_cast<double>(r);
    if (r % std::max<std::size_t>(1, rows.size() / 12) == 0)
      svg += fmt::format("<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{} {}</text>\n",
                         kLeft - 6, y + cell_height / 2 + 4, escape_html(row_label), r);
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      const double share = std::clamp(rows[r][c] / most, 0.0, 1.0);
      // From dark blue (nothing) over green (balanced at a third) to yellow (most).
      svg += fmt::format(
          "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" fill=\"hsl({:.0f} 70% "
          "{:.0f}%)\"><title>{} {}, {} {}: "
          "{:.2f} x mean</title></rect>\n",
          kLeft + cell_width * static_cast<double>(c), y, cell_width + 0.3, cell_height + 0.3,
          250 - 200 * share, 18 + 42 * share, escape_html(row_label), r, escape_html(x_label), c, rows[r][c]);
    }
  }
  svg += fmt::format("<text class=\"tick\" x=\"{}\" y=\"{:.0f}\" text-anchor=\"end\">{}</text>\n",
                     kWidth - kRight, height - 12, escape_html(x_label));
  return svg + "</svg></figure>\n";
}

}  // namespace hone::train
