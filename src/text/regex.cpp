// PCRE2 behind a small face: compile once, search with just-in-time code from any thread.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/message.h"

namespace hone::text::tok {

namespace {

// Far above what any sound pattern needs for one match, which is a few steps a byte; a pattern that runs away
// ends with an error within a second, not never.
constexpr std::uint64_t kMatchSteps = 10'000'000;
constexpr std::uint64_t kMatchStepsPerByte = 16;
// The longest pattern of the field has 400 bytes.
constexpr std::size_t kLongestPattern = 1 << 14;
constexpr std::size_t kLongestTranslation = 1 << 20;
constexpr std::size_t kJitStackStart = 32 * 1024;
constexpr std::size_t kJitStackLimit = 64 * 1024 * 1024;  // reserved, touched only by deep matches

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* pointer) const { Free(pointer); }
};
template <typename T, void (*Free)(T*)>
using Owned = std::unique_ptr<T, Deleter<T, Free>>;

}  // namespace

struct RegexScratch::State {
  Owned<pcre2_match_context, pcre2_match_context_free> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_match_data, pcre2_match_data_free> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_jit_stack, pcre2_jit_stack_free> stack{
      pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr)};
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {
  HONE_CHECK(state_->context && state_->data && state_->stack, "PCRE2 has no memory");
  pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
}
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;
RegexScratch::~RegexScratch() = default;

struct Regex::Compiled {
  Owned<pcre2_code, pcre2_code_free> code;
  std::string pattern;  // as the file has it
  std::string where;
  bool jit = false;
};

Regex::Regex(std::string_view pattern, std::string_view where) {
  if (pattern.size() > kLongestPattern)
    fail("{}: a regex of {} bytes is too long; hone reads up to {}", where, pattern.size(), kLongestPattern);
  const std::string translated = translate_regex(pattern, where);
  if (translated.size() > kLongestTranslation) fail("{}: the regex '{}' is too large", where, shown(pattern));
  const Owned<pcre2_compile_context, pcre2_compile_context_free> context(
      pcre2_compile_context_create(nullptr));
  HONE_CHECK(context != nullptr, "PCRE2 has no memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const auto text = reinterpret_cast<PCRE2_SPTR>(translated.data());
  auto compiled = std::make_shared<Compiled>();
  compiled->code.reset(pcre2_compile(text, translated.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error,
                                     &offset, context.get()));
  if (!compiled->code) {
    fail("{}: the regex '{}' does not compile: {}", where, shown(pattern), pcre2_message(error));
  }
  compiled->jit = pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE) == 0;
  compiled->pattern = pattern;
  compiled->where = where;
  compiled_ = std::move(compiled);
}

bool Regex::find(std::string_view text, std::size_t from, RegexScratch& scratch, std::size_t& begin,
                 std::size_t& end) const {
  const auto& state = *scratch.state_;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const pcre2_code* code = compiled_->code.get();
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (compiled_->jit) {
    found = pcre2_jit_match(code, subject, text.size(), from, 0, state.data.get(), state.context.get());
  }
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
    found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.data.get(),
                        state.context.get());
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    fail("{}: the regex '{}' gave up on a text of {} bytes: {}", compiled_->where, shown(compiled_->pattern),
         text.size(), pcre2_message(found));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data.get());
  begin = bounds[0];
  end = bounds[1];
  return true;
}

void Regex::for_each_match(std::string_view text, RegexScratch& scratch,
                           FunctionRef<void(std::size_t, std::size_t)> found) const {
  const std::uint64_t steps = kMatchSteps + kMatchStepsPerByte * text.size();
  pcre2_set_match_limit(scratch.state_->context.get(),
                        static_cast<std::uint32_t>(std::min<std::uint64_t>(steps, 1'000'000'000)));
  std::size_t from = 0;
  std::size_t last_end = std::string_view::npos;
  std::size_t begin = 0;
  std::size_t end = 0;
  while (from <= text.size() && find(text, from, scratch, begin, end)) {
    if (begin == end && end == last_end) {  // as the library's iterator: step over one character
      ++from;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
      continue;
    }
    found(begin, end);
    from = last_end = end;
  }
}

}  // namespace hone::text::tok
