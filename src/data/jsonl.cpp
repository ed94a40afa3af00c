// One JSON object a line.
#include <cstring>

#include "data/record_readers.h"

namespace hone::data {

namespace {

class JsonlReader : public TextReader {
 public:
  JsonlReader(TextWindow window, std::int64_t size)
      : TextReader(std::move(window), size, RowSource::Unit::kLine) {}

  bool next(Record& record) override {
    for (std::string_view line; next_line(line);) {
      ++number_;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      record = {line, number_};
      return true;
    }
    return false;
  }

 private:
  /// A line without its line break; false at the end.
  bool next_line(std::string_view& line) {
    std::size_t searched = 0;
    for (;;) {
      const auto text = window().text();
      const void* const found = searched < text.size()
                                    ? std::memchr(text.data() + searched, '\n', text.size() - searched)
                                    : nullptr;
      if (found != nullptr) {
        line = text.substr(0, static_cast<std::size_t>(static_cast<const char*>(found) - text.data()));
        window().consume(line.size() + 1);
        break;
      }
      searched = text.size();
      if (window().more()) continue;
      if (window().text().empty()) return false;
      line = window().text();
      window().consume(line.size());
      break;
    }
    if (line.ends_with('\r')) line.remove_suffix(1);
    return true;
  }

  std::int64_t number_ = 0;
};

}  // namespace

std::unique_ptr<RecordReader> make_jsonl_reader(TextWindow window, std::int64_t size) {
  return std::make_unique<JsonlReader>(std::move(window), size);
}

}  // namespace hone::data
