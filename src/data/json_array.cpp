// One JSON array: its elements one after another, without the array in memory.
#include <algorithm>

#include "base/error.h"
#include "data/record_readers.h"

namespace hone::data {

namespace {

class JsonArrayReader : public TextReader {
 public:
  JsonArrayReader(TextWindow window, std::int64_t size)
      : TextReader(std::move(window), size, RowSource::Unit::kIndex) {
    if (peek() != '[')
      fail(
          "{}:{}: the file does not begin with [; a JSON file holds an array of rows, lines of objects are "
          "JSONL",
          name(), line_);
    take(1);
  }

  bool next(Record& record) override {
    if (ended_) return false;
    char first = peek();
    if (first == ']') return finish();
    if (index_ > 0 && first != '\0') {
      if (first != ',')
        fail("{}:{}: expected , or ] after element {} of the array", name(), line_, index_ - 1);
      take(1);
      first = peek();
    }
    if (first == '\0')
      fail("{}:{}: the file ends inside the array, after {} elements; it is cut off", name(), line_, index_);
    if (first == ']' || first == ',')
      fail("{}:{}: expected element {} of the array, found {}", name(), line_, index_, first);
    record = {element(), index_++};
    return true;
  }

 private:
  const std::string& name() { return window().name(); }

  /// Moves to the next byte that is no white space and returns it; 0 at the end.
  char peek() {
    for (;;) {
      const auto text = window().text();
      const auto at = std::min(text.find_first_not_of(" \t\r\n"), text.size());
      take(at);
      if (at < text.size()) return text[at];
      if (!window().more()) return '\0';
    }
  }

  void take(std::size_t bytes) {
    const auto taken = window().text().substr(0, bytes);
    line_ += std::count(taken.begin(), taken.end(), '\n');
    window().consume(bytes);
  }

  bool finish() {
    take(1);
    ended_ = true;
    if (peek() != '\0')
      fail("{}:{}: something follows the array; a JSON file is one array of rows", name(), line_);
    return false;
  }

  /// The text of the element that begins here: an object or array to its last bracket, a scalar to what
  /// follows it.
  std::string_view element() {
    std::size_t at = 0;
    std::size_t depth = 0;
    bool in_string = false;
    const auto here = [&] {
      while (at >= window().text().size())
        if (!window().more()) return false;
      return true;
    };
    for (;; ++at) {
      if (!here()) {
        if (depth == 0 && !in_string) break;
        fail("{}:{}: the file ends inside element {} of the array, which begins here; it is cut off", name(),
             line_, index_);
      }
      const char c = window().text()[at];
      if (in_string) {
        if (c == '\\')
          ++at;
        else
          in_string = c != '"';
      } else if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (c == '}' || c == ']') {
        if (depth == 0) break;  // of the array itself, behind a scalar
        if (--depth == 0) {
          ++at;
          break;
        }
      } else if (depth == 0 && c == ',') {
        break;
      }
    }
    const auto text = window().text().substr(0, at);
    take(at);
    return text;
  }

  std::int64_t index_ = 0, line_ = 1;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<RecordReader> make_json_array_reader(TextWindow window, std::int64_t size) {
  return std::make_unique<JsonArrayReader>(std::move(window), size);
}

}  // namespace hone::data
