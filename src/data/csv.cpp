// Comma- and tab-separated values as RFC 4180 has them, each record as an object of strings. Beyond the RFC:
// LF alone ends a record too, blank lines are skipped, and a quote inside an unquoted field is that
// character.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/json_text.h"
#include "data/record_readers.h"

namespace hone::data {

namespace {

struct CsvField {
  std::string text;
  bool quoted = false;
};

class CsvReader : public TextReader {
 public:
  CsvReader(TextWindow window, std::int64_t size, char separator)
      : TextReader(std::move(window), size, RowSource::Unit::kLine), separator_(separator) {
    read_header();
  }

  bool next(Record& record) override {
    const std::int64_t line = read_fields();
    if (line == 0) return false;
    if (fields_.size() != columns_.size())
      fail("{}:{}: {} fields, where the header has {} columns", name(), line, fields_.size(),
           columns_.size());
    json_ = "{";
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      json_ += json_.size() > 1 ? "," : "";
      append_json_string(json_, columns_[i]);
      json_ += ':';
      if (fields_[i].text.empty() && !fields_[i].quoted)
        json_ += "null";  // nothing between two commas; "" is an empty string
      else
        append_json_string(json_, fields_[i].text);
    }
    json_ += '}';
    record = {json_, line};
    return true;
  }

 private:
  const std::string& name() { return window().name(); }

  void read_header() {
    const std::int64_t line = read_fields();
    if (line == 0) return;
    std::set<std::string> seen;
    for (const auto& field : fields_) {
      if (!seen.insert(field.text).second)
        fail("{}:{}: two columns are called '{}'", name(), line, field.text);
      columns_.push_back(field.text);
    }
    for (const char other : {',', ';', '\t', '|'}) {
      const auto separator = [](char c) {
        return c == '\t' ? std::string("tabs") : std::string("'") + c + "'";
      };
      if (columns_.size() == 1 && other != separator_ && columns_[0].find(other) != std::string::npos)
        fail("{}:{}: the header is one column, '{}'; fields are separated by {} here, not by {}{}", name(),
             line, columns_[0], separator(separator_), separator(other),
             other == '\t'  ? "; data.format: tsv"
             : other == ',' ? "; data.format: csv"
                            : "");
    }
  }

  /// The byte at `at` behind the last record, or nothing at the end of the file.
  bool get(std::size_t at, char& c) {
    if (at >= window().text().size() && !window().more()) return false;
    c = window().text()[at];
    return true;
  }

  /// Reads the fields of the next record that is not a blank line. Returns its first line, or 0 at the end.
  std::int64_t read_fields() {
    for (;;) {
      const std::int64_t begin = line_;
      char c = 0;
      if (!get(0, c)) return 0;
      fields_.clear();
      window().consume(read_record());
      const bool blank = fields_.size() == 1 && !fields_[0].quoted &&
                         fields_[0].text.find_first_not_of(" \t") == std::string::npos;
      if (!blank) return begin;
    }
  }

  /// Fills fields_ and returns the bytes of the record, its line break included.
  std::size_t read_record() {
    std::size_t at = 0;
    char c = 0;
    for (;;) {
      CsvField& field = fields_.emplace_back();
      if (get(at, c) && c == '"') {
        field.quoted = true;
        at = read_quoted(at + 1, field.text);
      }
      bool more = get(at, c);
      const bool closed = field.quoted;
      for (; more && c != separator_ && c != '\n'; more = get(++at, c)) {
        char behind = '\n';
        if (c == '\r' && (!get(at + 1, behind) || behind == '\n')) continue;
        if (closed)
          fail(
              "{}:{}: '{}' follows the closing quote of field {}; a quote inside a quoted field is doubled "
              "(\"\")",
              name(), line_, c, fields_.size());
        field.text += c;
      }
      if (!more) return at;
      ++at;
      if (c == '\n') {
        ++line_;
        return at;
      }
    }
  }

  /// From behind the opening quote to behind the closing one.
  std::size_t read_quoted(std::size_t at, std::string& text) {
    const std::int64_t begin = line_;
    for (char c = 0; get(at, c); ++at) {
      if (c == '"') {
        char behind = 0;
        if (!get(at + 1, behind) || behind != '"') return at + 1;
        ++at;
      }
      if (c == '\n') ++line_;
      text += c;
    }
    fail("{}:{}: the quoted field {} that begins here is never closed", name(), begin, fields_.size());
  }

  char separator_;
  std::vector<std::string> columns_;
  std::vector<CsvField> fields_;
  std::string json_;
  std::int64_t line_ = 1;
};

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4U];
      out += kHex[byte & 15U];
    } else {
      out += c;
    }
  }
  out += '"';
}

std::unique_ptr<RecordReader> make_csv_reader(TextWindow window, std::int64_t size, char separator) {
  return std::make_unique<CsvReader>(std::move(window), size, separator);
}

}  // namespace hone::data
