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

/// A chart with axes, ticks and a legend where there are several curves. Long curves are thinned to what the
/// width can show, keeping every stretch's least and greatest value.
std::string draw_chart(const std::string& title, const std::string& x_label,
                       const std::vector<Curve>& curves);

/// A heat map, one row per entry of `rows`; values are shares of the mean (1 is balanced), coloured from 0 to
/// `most`. Cells tell their value when pointed at.
std::string draw_heat_map(const std::string& title, const std::string& x_label, const std::string& row_label,
                          const std::vector<std::vector<double>>& rows, double most);

/// The text with &, <, > and quotes made safe for HTML.
std::string escape_html(const std::string& text);

}  // namespace hone::train
