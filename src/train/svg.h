// Drawings for the report: curves and heat maps as SVG text.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace hone::train {

/// A curve: points (x, y) in ascending x. Points that are not finite are left out.
struct Curve {
  std::string name;
  std::string css_class;  // which colour of the page's style sheet
  std::vector<std::pair<double, double>> points;
  bool is_dots = false;  // markers instead of a line
};

/// How the values of a chart are laid out: from the least to the greatest, from zero, or by their logarithm
/// where they are positive and span more than a factor of 50 (else from the least).
enum class Scale { kRange, kFromZero, kLogIfWide };

/// A chart with axes, ticks and a legend where there are several curves. Long curves are thinned to what the
/// width can show, keeping every stretch's least and greatest value.
std::string draw_chart(const std::string& title, const std::string& x_label, const std::vector<Curve>& curves,
                       Scale scale = Scale::kRange);

/// A heat map, one row per entry of `rows` (named `row_label` and its number); values are shares of the mean
/// (1 is balanced), coloured from 0 to `most`, with the colours explained above it. Cells tell their value
/// when pointed at. Columns are named by `columns`, or by their numbers where that is empty.
struct HeatMap {
  std::string title, x_label, row_label;
  std::vector<std::vector<double>> rows;
  std::vector<double> columns;
  double most = 3;
};
std::string draw_heat_map(const HeatMap& map);

/// The text with &, <, > and quotes made safe for HTML.
std::string escape_html(const std::string& text);

}  // namespace hone::train
