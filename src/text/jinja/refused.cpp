#include "text/jinja/refused.h"

#include <algorithm>
#include <array>

namespace hone::text::jinja {
namespace {

template <std::size_t N>
bool has(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr auto kRefusedFilters = std::to_array<std::string_view>(
    {"abs",         "attr",     "batch",     "center", "e",         "escape",   "filesizeformat", "float",
     "forceescape", "groupby",  "pprint",    "random", "reverse",   "round",    "slice",          "striptags",
     "sum",         "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"});

constexpr auto kRefusedTests =
    std::to_array<std::string_view>({"callable", "divisibleby", "escaped", "even", "filter", "float", "in",
                                     "integer", "lower", "odd", "sameas", "test", "upper"});

constexpr auto kRefusedTags = std::to_array<std::string_view>(
    {"autoescape", "block", "extends", "from", "import", "include", "print", "with"});

constexpr auto kRefusedOfLoop =
    std::to_array<std::string_view>({"changed", "cycle", "depth", "depth0", "revindex", "revindex0"});

constexpr auto kRefusedOfStrings = std::to_array<std::string_view>(
    {"casefold", "center",     "count",       "encode",       "expandtabs",   "find",      "format_map",
     "index",    "isalnum",    "isalpha",     "isascii",      "isdecimal",    "isdigit",   "isidentifier",
     "islower",  "isnumeric",  "isprintable", "isspace",      "istitle",      "isupper",   "join",
     "ljust",    "maketrans",  "partition",   "removeprefix", "removesuffix", "rfind",     "rindex",
     "rjust",    "rpartition", "rsplit",      "splitlines",   "swapcase",     "translate", "zfill"});
constexpr auto kRefusedOfLists = std::to_array<std::string_view>({"copy", "count", "index"});
constexpr auto kRefusedOfTuples = std::to_array<std::string_view>({"count", "index"});
constexpr auto kRefusedOfDicts = std::to_array<std::string_view>({"copy", "fromkeys"});
constexpr auto kRefusedOfRanges =
    std::to_array<std::string_view>({"count", "index", "start", "step", "stop"});
constexpr auto kRefusedOfViews = std::to_array<std::string_view>({"isdisjoint", "mapping"});
constexpr auto kRefusedOfNumbers = std::to_array<std::string_view>(
    {"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "fromhex",
     "hex", "imag", "is_integer", "numerator", "real", "to_bytes"});

}  // namespace

std::string refusal(std::string_view what, std::string_view name, std::string_view owner) {
  return fmt::format("the {} '{}'{}{} is not supported in chat templates", what, name,
                     owner.empty() ? "" : " of ", owner);
}

bool is_refused_filter(std::string_view name) {
  return has(kRefusedFilters, name);
}
bool is_refused_test(std::string_view name) {
  return has(kRefusedTests, name);
}
bool is_refused_tag(std::string_view name) {
  return has(kRefusedTags, name);
}
bool is_refused_of_loop(std::string_view name) {
  return has(kRefusedOfLoop, name);
}

void refuse_attribute(const Value& object, std::string_view name) {
  const auto refuse_if = [name](bool refused, std::string_view owners) {
    if (refused) raise(kPlain, "{}", refusal("attribute", name, owners));
  };
  switch (object.kind()) {
    case Kind::kString:
      return refuse_if(has(kRefusedOfStrings, name), "strings");
    case Kind::kList:
      return refuse_if(has(kRefusedOfLists, name), "lists");
    case Kind::kTuple:
      return refuse_if(has(kRefusedOfTuples, name), "tuples");
    case Kind::kDict:
      return refuse_if(has(kRefusedOfDicts, name), "dicts");
    case Kind::kRange:
      return refuse_if(has(kRefusedOfRanges, name), "ranges");
    case Kind::kView:
      return refuse_if(has(kRefusedOfViews, name), "dict views");
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kBigInt:
    case Kind::kFloat:
      return refuse_if(has(kRefusedOfNumbers, name), "numbers");
    default:
      return;
  }
}

}  // namespace hone::text::jinja
