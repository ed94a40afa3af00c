// Chat templates against what Transformers' Jinja environment made of them
// (tools/goldens/make_template_goldens.py).
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "text/chat_template.h"

namespace hone::text {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

const fs::path kFolder = fs::path(HONE_TEST_DATA) / "templates";

Json read_golden(const fs::path& path) {
  return parse_chat_json(read_file(path), path.string());
}

std::function<std::tm()> clock_of(const Json& golden) {
  std::tm now{};
  std::istringstream(golden.at("now").get<std::string>()) >> std::get_time(&now, "%Y-%m-%dT%H:%M:%S");
  now.tm_isdst = -1;
  const std::time_t unused = std::mktime(&now);  // fills in the days of the week and of the year
  (void)unused;
  return [now] { return now; };
}

/// Error types whose message is Jinja's own word, not Python's, and must appear in ours.
bool has_exact_message(const std::string& type) {
  static const std::set<std::string> kTypes = {"UndefinedError", "TemplateError", "SecurityError",
                                               "TemplateRuntimeError", "TemplateAssertionError"};
  return kTypes.contains(type);
}

/// Renders a case and compares; returns what differs, or "".
std::string compare(const Json& golden, const std::string& source, const ChatInput& input) {
  Rendered rendered;
  try {
    rendered = ChatTemplate::compile(source, "golden").render(input);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) return std::string("not the user's error: ") + error.what();
    if (!golden.contains("error")) return std::string("refused: ") + error.what();
    const std::string what = error.what();
    if (!what.starts_with("golden:")) return "no place: " + what;
    if (has_exact_message(golden["type"]) &&
        what.find(golden["error"].get<std::string>()) == std::string::npos) {
      return "expected error: " + golden["error"].get<std::string>() + "\n   our error: " + what;
    }
    if (golden["type"] == "TemplateSyntaxError" &&
        !what.starts_with(fmt::format("golden:{}:", golden["line"].get<int>()))) {
      return "expected line " + golden["line"].dump() + ": " + what;
    }
    return "";
  }
  if (golden.contains("error"))
    return "expected error: " + golden["error"].get<std::string>() + "\n  rendered: " + rendered.text;
  if (rendered.text != golden["text"])
    return "expected: " + golden["text"].dump() + "\n     got: " + Json(rendered.text).dump();
  std::vector<std::pair<std::size_t, std::size_t>> spans;
  for (const Json& span : golden.value("generation", Json::array())) {
    if (span[0] < span[1]) spans.emplace_back(span[0], span[1]);
  }
  return rendered.generation == spans ? "" : "generation spans: " + Json(rendered.generation).dump();
}

// refused.json names each case that hone refuses, as something that no template of the field uses.
TEST(TemplateGolden, EveryConstructRendersAsInTransformersOrIsListedAsRefused) {
  const Json golden = read_golden(kFolder / "micro.json");
  const Json refused = read_golden(kFolder / "refused.json");
  const Json messages = Json::array();
  ChatInput input;
  input.messages = &messages;
  input.kwargs = &golden.at("kwargs");
  input.clock = clock_of(golden);
  ASSERT_GT(golden["cases"].size(), 800U);
  std::set<std::string> met;
  for (const Json& item : golden["cases"]) {
    const auto source = item["template"].get<std::string>();
    if (!refused.contains(source)) {
      EXPECT_EQ(compare(item, source, input), "") << source;
      continue;
    }
    met.insert(source);
    const std::string wanted = refused[source].get<std::string>() + " is not supported in chat templates";
    try {
      const Rendered rendered = ChatTemplate::compile(source, "golden").render(input);
      ADD_FAILURE() << source << " is listed as refused and renders: " << rendered.text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(wanted), std::string::npos) << source << "\n" << error.what();
    }
  }
  EXPECT_EQ(met.size(), refused.size()) << "refused.json lists cases that micro.json has not";
}

// Wherever a name may stand: also where it is met only when the template runs.
TEST(TemplateGolden, WhatNoTemplateOfTheFieldUsesIsRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> uses{
      {"{{ [1, 2] | batch(1) | list }}", "the filter 'batch'"},
      {"{% if true %}{{ [1] | batch(2) }}{% endif %}", "the filter 'batch'"},
      {"{{ ['a b'] | map('urlencode') | list }}", "the filter 'urlencode'"},
      {"{% filter escape %}<{% endfilter %}", "the filter 'escape'"},
      {"{% set x | center %}a{% endset %}", "the filter 'center'"},
      {"{{ 1 is odd }}", "the test 'odd'"},
      {"{{ 'x' if 1 is divisibleby(3) }}", "the test 'divisibleby'"},
      {"{{ [1] | select('odd') | list }}", "the test 'odd'"},
      {"{{ [{'a': 1}] | rejectattr('a', 'in', [1]) | list }}", "the test 'in'"},
      {"{{ ','.join(['a']) }}", "the attribute 'join' of strings"},
      {"{{ 'a'['swapcase']() }}", "the attribute 'swapcase' of strings"},
      {"{{ 'a'.casefold is defined }}", "the attribute 'casefold' of strings"},
      {"{{ [1].index(1) }}", "the attribute 'index' of lists"},
      {"{{ (1,).count(1) }}", "the attribute 'count' of tuples"},
      {"{{ {}.copy() }}", "the attribute 'copy' of dicts"},
      {"{{ {}.keys().mapping }}", "the attribute 'mapping' of dict views"},
      {"{{ range(3).stop }}", "the attribute 'stop' of ranges"},
      {"{{ (1).real }}", "the attribute 'real' of numbers"},
      {"{{ (1.5).hex() }}", "the attribute 'hex' of numbers"},
      {"{% for i in [1] %}{{ loop.cycle(1) }}{% endfor %}", "the attribute 'cycle' of loops"},
      {"{% macro f() %}{% endmacro %}{{ f.name }}", "the attribute 'name' of macros"},
      {"{{ dict.fromkeys([1]) }}", "the attribute 'fromkeys' of dicts"},
      {"{% set c = cycler(1, 2) %}", "the function 'cycler'"},
      {"{% set j = joiner() %}", "the function 'joiner'"},
      {"{{ lipsum() }}", "the function 'lipsum'"},
      {"{% with a = 1 %}{% endwith %}", "the tag 'with'"},
      {"{% if false %}{% print 1 %}{% endif %}", "the tag 'print'"},
      {"{% for i in [] recursive %}{% endfor %}", "the marker 'recursive' of loops"},
      {"{{ '%-5.2f|' % 1 }}", "the directive '%-5.2f'"},
      {"{{ '%(a)03d' % {'a': 1} }}", "the directive '%(a)03d'"},
      {"{{ '{:>5}'.format(1) }}", "the format field '{:>5}'"},
      {"{{ '{0.real}'.format(1) }}", "the format field '{0.real}'"}};
  const Json messages = Json::array();
  ChatInput input;
  input.messages = &messages;
  for (const auto& [source, name] : uses) {
    try {
      ChatTemplate::compile(source, "t").render(input);
      ADD_FAILURE() << source;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(name + " is not supported in chat templates"),
                std::string::npos)
          << source << "\n"
          << error.what();
    }
  }
}

TEST(TemplateGolden, TheFieldsTemplatesRenderEveryChatAsInTransformers) {
  const Json inputs = read_golden(kFolder / "inputs.json");
  std::size_t templates = 0;
  for (const auto& entry : fs::directory_iterator(kFolder / "field")) {
    const Json golden = read_golden(entry.path());
    ++templates;
    for (const Json& item : golden["cases"]) {
      const Json& chat = inputs["chats"][item["chat"].get<std::string>()];
      Json kwargs = inputs["variants"][item["variant"].get<std::string>()];
      ChatInput input;
      input.messages = &chat["messages"];
      if (chat.contains("tools")) input.tools = &chat["tools"];
      if (chat.contains("documents")) input.documents = &chat["documents"];
      input.add_generation_prompt = kwargs.value("add_generation_prompt", false);
      kwargs.erase("add_generation_prompt");
      input.kwargs = &kwargs;
      input.special_tokens = inputs["special_tokens"].get<std::map<std::string, std::string>>();
      input.clock = clock_of(inputs);
      EXPECT_EQ(compare(item, golden["template"], input), "")
          << entry.path().stem() << " on " << item["chat"] << " (" << item["variant"] << ")";
    }
  }
  EXPECT_GE(templates, 20U);
}

}  // namespace
}  // namespace hone::text
