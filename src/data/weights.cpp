#include "data/weights.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/conversation.h"

namespace hone::data {

namespace {

constexpr double kLeastWeight{1e-12F}, kLargestWeight = 1e12;

}  // namespace

bool is_weight(double weight) {
  return weight == 0 || (weight >= kLeastWeight && weight <= kLargestWeight);
}

void check_weight(double weight, const std::string& what) {
  if (!is_weight(weight))
    fail("{} is {}; a weight in the loss is 0 (not learnt from) or between {:g} and {:g}", what, weight,
         kLeastWeight, kLargestWeight);
}

double weight_of(const Json& value, const std::string& what) {
  double weight = 0;
  if (value.is_number()) {
    weight = value.get<double>();
  } else if (value.is_string()) {
    const std::string text = one_line(value.get_ref<const std::string&>(), 60);
    const char* const begin = text.data() + std::min(text.size(), text.find_first_not_of(' '));
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, weight);
    if (error == std::errc::invalid_argument || stop != end)
      fail("{} is '{}', not a number: it says what is counted in the loss; rename what says something else",
           what, text);
    if (error != std::errc()) fail("{} is '{}', beyond the range of weights", what, text);
  } else {
    fail("{} is a {}, not a number: it says what is counted in the loss; rename what says something else",
         what, type_name(value));
  }
  check_weight(weight, what);
  return weight;
}

}  // namespace hone::data
