#include "model/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/error.h"

namespace hone::model {

namespace {

constexpr std::uint32_t kMostSteps = 100'000;

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct NamePattern::Compiled {
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code{nullptr, pcre2_code_free};
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match{nullptr, pcre2_match_data_free};
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits{nullptr,
                                                                                   pcre2_match_context_free};
};

NamePattern::NamePattern(const std::string& pattern) : text_(pattern) {
  int error = 0;
  PCRE2_SIZE at = 0;
  auto compiled = std::make_shared<Compiled>();
  compiled->code.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), 0, &error, &at, nullptr));
  if (!compiled->code)
    fail("pattern '{}' is not a regular expression: {} at character {}", pattern, message_of(error), at + 1);
  compiled->match.reset(pcre2_match_data_create_from_pattern(compiled->code.get(), nullptr));
  compiled->limits.reset(pcre2_match_context_create(nullptr));
  HONE_CHECK(compiled->match && compiled->limits, "PCRE2 has no memory");
  pcre2_set_match_limit(compiled->limits.get(), kMostSteps);
  compiled_ = std::move(compiled);
}

bool NamePattern::found_in(std::string_view name) const {
  const int found = pcre2_match(compiled_->code.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(),
                                0, 0, compiled_->match.get(), compiled_->limits.get());
  if (found < 0 && found != PCRE2_ERROR_NOMATCH)
    fail("pattern '{}' cannot be searched for in {}: {}", text_, name, message_of(found));
  return found >= 0;
}

}  // namespace hone::model
