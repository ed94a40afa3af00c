// Broken templates and strange chats end in an error or a text, never in a crash or a hang. Random, but the
// same on every run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "text/chat_template.h"

namespace hone::text {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

/// Mutations of each template; HONE_FUZZ_ROUNDS asks for more.
int rounds() {
  const char* asked = std::getenv("HONE_FUZZ_ROUNDS");
  return asked == nullptr ? 300 : std::atoi(asked);
}

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> corpus) : corpus_(std::move(corpus)) {}

  std::string mutate(std::string source) {
    for (int i = 1 + below(4); i > 0 && !source.empty(); --i) {
      const auto at = static_cast<std::size_t>(below(static_cast<int>(source.size())));
      switch (below(6)) {
        case 0:
          source.erase(at, static_cast<std::size_t>(1 + below(20)));
          break;
        case 1:
          source.insert(at, kPieces[static_cast<std::size_t>(below(static_cast<int>(kPieces.size())))]);
          break;
        case 2:
          source[at] = static_cast<char>(below(127) + 1);
          break;
        case 3:
          source.insert(at, source.substr(at / 2, static_cast<std::size_t>(below(80))));
          break;
        case 4:
          source = source.substr(0, at);
          break;
        default:
          source.insert(at, slice_of_another());
      }
    }
    return source;
  }

 private:
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }
  std::string slice_of_another() {
    const std::string& other = corpus_[static_cast<std::size_t>(below(static_cast<int>(corpus_.size())))];
    return other.substr(static_cast<std::size_t>(below(static_cast<int>(other.size()))),
                        static_cast<std::size_t>(below(120)));
  }

  const std::vector<std::string> kPieces = {
      "{{",
      "}}",
      "{%",
      "%}",
      "{#",
      "#}",
      "-",
      "+",
      "'",
      "\"",
      "\\",
      "|",
      "(",
      ")",
      "[",
      "]",
      "{",
      "}",
      "~",
      "**",
      "//",
      "%",
      "..",
      ",",
      ":",
      "=",
      " is ",
      " not ",
      " in ",
      " if ",
      " else ",
      "none",
      "true",
      "loop",
      "loop.last",
      "messages",
      "caller()",
      "varargs",
      "kwargs",
      "self",
      "9999999999999999999",
      "1e309",
      "-1",
      "0",
      "[::-1]",
      "[1:]",
      "[-9:9:2]",
      "|tojson(indent=2)",
      "|sort",
      "|groupby('role')",
      "|map('upper')|list",
      "|indent(300)",
      "|batch(0)|list",
      "|slice(3)|list",
      "|format",
      "|truncate(1)",
      "|round(-400)",
      "|int(base=1)",
      ".format(1)",
      ".split('')",
      ".replace('','x')",
      ".zfill(99)",
      ".center(-3)",
      ".expandtabs(0)",
      "'%s %d' % 1",
      "'{:>9999}'.format(1)",
      "'{0.__class__}'.format(1)",
      "{% for a, b in messages recursive %}",
      "{% endfor %}",
      "{% set ns.x = ns %}",
      "{% macro f(a, b=f) %}",
      "{% endmacro %}",
      "{% call f() %}",
      "{% endcall %}",
      "{% generation %}",
      "{% endgeneration %}",
      "{% break %}",
      "{% raw %}",
      "{% endraw %}",
      "{% set x %}",
      "{% endset %}",
      "{% filter upper %}",
      "{% endfilter %}",
      "{% with %}",
      "{% endwith %}",
      "{% block b %}",
      "{% endblock %}",
      "\n",
      "\t",
      "\xC3\xA9",
      "\xF0\x9F\x99\x82",
  };
  std::vector<std::string> corpus_;
  std::mt19937 random_{20240703};
};

TEST(TemplateRobustness, MutatedTemplatesRenderOrFailButNeverCrash) {
  const fs::path folder = fs::path(HONE_TEST_DATA) / "templates";
  const Json inputs = parse_chat_json(read_file(folder / "inputs.json"), "inputs.json");
  std::vector<std::string> corpus;
  for (const auto& entry : fs::directory_iterator(folder / "field")) {
    corpus.push_back(parse_chat_json(read_file(entry.path()), "golden")["template"].get<std::string>());
  }
  std::sort(corpus.begin(), corpus.end());
  const Json micro = parse_chat_json(read_file(folder / "micro.json"), "golden");
  for (const Json& item : micro["cases"]) corpus.push_back(item["template"].get<std::string>());
  const Json& kwargs = micro["kwargs"];
  std::vector<const Json*> chats;
  for (const auto& [name, chat] : inputs["chats"].items()) chats.push_back(&chat);
  Mutator mutator(corpus);
  std::size_t rendered = 0;
  std::size_t refused = 0;
  for (std::size_t i = 0; i < corpus.size(); ++i) {
    const int mutations = corpus[i].size() > 300 ? rounds() : rounds() / 50;
    for (int round = 0; round < mutations; ++round) {
      const Json& chat = *chats[(i + static_cast<std::size_t>(round)) % chats.size()];
      ChatInput input;
      input.messages = &chat["messages"];
      if (chat.contains("tools")) input.tools = &chat["tools"];
      input.kwargs = &kwargs;
      const std::string source = mutator.mutate(corpus[i]);
      try {
        const Rendered result = ChatTemplate::compile(source, "t").render(input);
        std::size_t last = 0;
        for (const MessageSpan& span : result.sources) {
          ASSERT_TRUE(last <= span.begin && span.begin < span.end && span.end <= result.text.size())
              << source;
          last = span.end;
        }
        ++rendered;
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::kUser) << error.what();
        ASSERT_LE(std::string_view(error.what()).size(), 600U) << source;
        ++refused;
      }
    }
  }
  EXPECT_GT(rendered, 1000U);
  EXPECT_GT(refused, 1000U);
}

TEST(TemplateRobustness, DeeplyNestedInputsAreRefused) {
  const std::string deep = std::string(450, '[') + std::string(450, ']');
  const Json messages = parse_chat_json(R"([{"role": "user", "content": )" + deep + "}]", "deep");
  ChatInput input;
  input.messages = &messages;
  EXPECT_THROW(ChatTemplate::compile("{{ messages }}", "t").render(input), Error);
}

/// The error of a template over one short message.
std::string refusal(const std::string& source, const RenderLimits& limits = {}) {
  const Json messages = Json::array({{{"role", "user"}, {"content", "hé"}}});
  ChatInput input;
  input.messages = &messages;
  input.limits = limits;
  try {
    ChatTemplate::compile(source, "t").render(input);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

// Each of these would run for hours, or fill the memory, though every single value is within its own limits.
// Of the limits of a rendering a tenth and a quarter are enough to see that what they do is counted.
constexpr RenderLimits kLittle{.steps = 10'000'000, .held_bytes = std::size_t{256} << 20};

TEST(TemplateRobustness, OneBudgetOfStepsBoundsARendering) {
  const std::string shared_a =
      "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
      "{% set ns.b = [ns.b, ns.b] %}{% endfor %}";
  const std::string long_text = "{% set t = 'éèéèéèéè' * 2500000 %}";
  for (const std::string& source : {
           shared_a + "{{ ns.a == ns.b }}",
           shared_a + "{{ ns.a in [ns.b] }}",
           shared_a + "{{ [ns.a, ns.b] | sort | length }}",
           shared_a + "{{ ns.a < ns.b }}",
           std::string(
               "{% set ns = namespace(a=(1,), b=(1,)) %}{% for i in range(60) %}{% set ns.a = (ns.a, ns.a) %}"
               "{% endfor %}{{ {ns.a: 1} | length }}"),
           std::string(
               "{% set r = range(100000) %}{% for a in r %}{{ '' if r | map('string') | list }}{% endfor %}"),
           long_text + "{% for i in range(100000) %}{{ '' if 'x' in t }}{% endfor %}",
           long_text + "{% for i in range(100000) %}{{ '' if t.endswith('x') and t.startswith('x', 1000000) "
                       "}}{% endfor %}",
           long_text + "{% for i in range(100000) %}{{ '' if t[1000000] == 'x' }}{% endfor %}",
           long_text + "{% for i in range(100000) %}{{ '' if t == 'éèéèéèéè' * 2500000 }}{% endfor %}",
           std::string(
               "{% macro f(n) %}{{ f(n - 1) if n > 0 }}{{ f(n - 1) if n > 0 }}{% endmacro %}{{ f(60) }}"),
       })
    EXPECT_NE(refusal(source, kLittle).find("runs for too long (more than 10000000 steps)"),
              std::string::npos)
        << source << "\n"
        << refusal(source, kLittle);
  EXPECT_NE(refusal(shared_a + "{{ ns.a == ns.b }}").find("runs for too long (more than 100000000 steps)"),
            std::string::npos);
}

TEST(TemplateRobustness, OneBudgetOfMemoryBoundsARendering) {
  const std::string keeper = "{% set ns = namespace(all=[]) %}{% for i in range(100000) %}";
  for (const std::string& source : {
           keeper + "{% set ns.all = [ns.all, 'x' * 60000000] %}{% endfor %}",
           keeper + "{% set ns.all = [ns.all, [0] * 9000000] %}{% endfor %}",
           keeper + "{% set ns.all = [ns.all, range(100000) | list] %}{% endfor %}",
           std::string("{% macro f(n) %}{{ 'x' * 60000000 }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"),
           std::string("{% set x %}{% for i in range(100000) %}{{ 'x' * 1000000 }}{% endfor %}{% endset %}"),
       }) {
    const std::string error = refusal(source, kLittle);
    EXPECT_TRUE(error.find("MemoryError") != std::string::npos ||
                error.find("nest more than") != std::string::npos)
        << source << "\n"
        << error;
  }
  EXPECT_NE(refusal(keeper + "{% set ns.all = [ns.all, 'x' * 60000000] %}{% endfor %}").find("1024 MiB"),
            std::string::npos);
  // What is dropped is free again.
  EXPECT_EQ(refusal("{% for i in range(40) %}{% set x = 'x' * 10000000 %}{% endfor %}", kLittle), "");
}

}  // namespace
}  // namespace hone::text
