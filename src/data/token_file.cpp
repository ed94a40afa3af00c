#include "data/token_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/file.h"

namespace hone::data {

namespace {

/// What a file begins with. The words follow, then the rows, then key and notes.
struct Header {
  std::array<char, 8> magic{'h', 'o', 'n', 'e', 't', 'o', 'k', '2'};  // read back on a machine of the other
  std::uint64_t byte_order = 0x0102030405060708;                      // byte order, nothing fits
  std::uint64_t words_bytes = 0, num_rows = 0, key_bytes = 0, notes_bytes = 0;
  std::uint64_t hash = 0;     // TokenFile::hash
  std::uint64_t content = 0;  // of all that follows, and of the header with 0 here
};
static_assert(sizeof(TokenRow) == 40);

/// Bytes that are written, and hashed, at once.
constexpr std::size_t kPiece = std::size_t{4} << 20;

[[noreturn]] void fail_write(const std::filesystem::path& path, const char* what) {
  fail("{}: cannot {}: {}; data.cache names another directory, or is off", path.string(), what,
       std::strerror(errno));
}

/// False at an error or where the file ends before.
bool read_at(int file, std::uint64_t at, void* into, std::size_t bytes) {
  auto* to = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t n = ::pread(file, to, bytes, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    to += n;
    at += static_cast<std::uint64_t>(n);
    bytes -= static_cast<std::size_t>(n);
  }
  return true;
}

bool write_all(int file, const char* from, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = ::write(file, from, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    from += n;
    bytes -= static_cast<std::size_t>(n);
  }
  return true;
}

std::uint64_t hash_of(const void* bytes, std::size_t size, std::uint64_t seed) {
  return content_hash({static_cast<const std::byte*>(bytes), size}, seed);
}

std::uint64_t with_header(std::uint64_t content, Header header) {
  header.content = 0;
  return hash_of(&header, sizeof header, content);
}

std::uint64_t mix_all(std::uint64_t hash, std::span<const std::int32_t> values) {
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const std::uint64_t low = static_cast<std::uint32_t>(values[i]);
    const std::uint64_t high = i + 1 < values.size() ? static_cast<std::uint32_t>(values[i + 1]) : 0;
    hash = mix_hash(hash, high << 32 | low);
  }
  return mix_hash(hash, values.size());
}

}  // namespace

std::uint64_t mix_example(std::uint64_t hash, std::span<const std::int32_t> ids,
                          std::span<const std::int32_t> labels, std::span<const float> weights) {
  hash = mix_all(mix_all(hash, ids), labels);
  for (const float weight : weights) hash = mix_hash(hash, std::bit_cast<std::uint32_t>(weight));
  return hash;
}

TokenFile::~TokenFile() {
  ::close(file_);
}

std::shared_ptr<const TokenFile> TokenFile::open(const std::filesystem::path& path, const std::string& key,
                                                 std::string& why) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (descriptor < 0) {
    why = std::strerror(errno);
    return nullptr;
  }
  std::shared_ptr<TokenFile> file(new TokenFile(descriptor, path.string()));
  why = "it is broken";
  Header header;
  const Header expected;
  if (!read_at(descriptor, 0, &header, sizeof header)) return nullptr;
  if (header.magic != expected.magic || header.byte_order != expected.byte_order) {
    why = "it is of another version";
    return nullptr;
  }
  const off_t end = ::lseek(descriptor, 0, SEEK_END);
  constexpr std::uint64_t kMost = std::uint64_t{1} << 50;
  for (const std::uint64_t part : {header.words_bytes, header.num_rows, header.key_bytes, header.notes_bytes})
    if (part > kMost) return nullptr;
  const std::uint64_t rows_bytes = header.num_rows * sizeof(TokenRow);
  if (end < 0 || static_cast<std::uint64_t>(end) !=
                     sizeof header + header.words_bytes + rows_bytes + header.key_bytes + header.notes_bytes)
    return nullptr;
  std::string piece;
  std::uint64_t at = sizeof header;
  std::uint64_t content = 0;
  const auto take = [&](std::uint64_t size, std::size_t at_once) {
    for (std::uint64_t done = 0; done < size; done += piece.size()) {
      piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(at_once, size - done)));
      if (!read_at(descriptor, at + done, piece.data(), piece.size())) return false;
      content = hash_of(piece.data(), piece.size(), content);
    }
    at += size;
    return true;
  };
  if (!take(header.words_bytes, kPiece) || !take(rows_bytes, kPiece)) return nullptr;
  if (!take(header.key_bytes, header.key_bytes)) return nullptr;
  const bool same_key = piece == key;
  piece.clear();
  if (!take(header.notes_bytes, header.notes_bytes)) return nullptr;
  if (with_header(content, header) != header.content) return nullptr;
  if (!same_key) {
    why = "it is of other data";
    return nullptr;
  }
  file->num_rows_ = static_cast<std::int64_t>(header.num_rows);
  file->rows_begin_ = sizeof header + header.words_bytes;
  file->hash_ = header.hash;
  file->notes_ = piece;
  why.clear();
  return file;
}

void TokenFile::read(std::uint64_t at, void* into, std::size_t bytes) const {
  if (!read_at(file_, at, into, bytes))
    fail("{}: the cached tokens cannot be read any more: the file was changed or its disk fails", name_);
}

void TokenFile::read_rows(std::int64_t first, std::span<TokenRow> rows) const {
  HONE_CHECK(first >= 0 && first + static_cast<std::int64_t>(rows.size()) <= num_rows_, "rows {} to {} of {}",
             first, first + static_cast<std::int64_t>(rows.size()), num_rows_);
  read(rows_begin_ + static_cast<std::uint64_t>(first) * sizeof(TokenRow), rows.data(), rows.size_bytes());
}

TokenRow TokenFile::row(std::int64_t index) const {
  TokenRow row;
  read_rows(index, std::span(&row, 1));
  return row;
}

Example TokenFile::example(const TokenRow& row, std::uint32_t begin, std::uint32_t length) const {
  HONE_CHECK(begin <= row.length && length <= row.length - begin, "tokens {} + {} of {}", begin, length,
             row.length);
  const std::uint64_t at = sizeof(Header) + row.begin * sizeof(std::int32_t);
  Example example;
  example.ids.resize(length);
  read(at + begin * sizeof(std::int32_t), example.ids.data(), length * sizeof(std::int32_t));
  const std::uint64_t labels = at + row.length * sizeof(std::int32_t);
  const bool own_labels = (row.flags & TokenRow::kOwnLabels) != 0;
  if ((row.flags & TokenRow::kWeights) != 0) {
    const std::uint64_t weights = labels + (own_labels ? row.length : 2 * row.runs) * sizeof(std::int32_t);
    example.weights.resize(length);
    read(weights + begin * sizeof(float), example.weights.data(), length * sizeof(float));
  }
  if (own_labels) {
    example.labels.resize(length);
    read(labels + begin * sizeof(std::int32_t), example.labels.data(), length * sizeof(std::int32_t));
    return example;
  }
  example.labels.assign(length, kIgnoredLabel);
  std::vector<std::array<std::uint32_t, 2>> runs(row.runs);
  read(labels, runs.data(), runs.size() * sizeof runs[0]);
  for (const auto& [from, to] : runs) {
    const auto first = std::clamp(from, begin, begin + length) - begin;
    const auto last = std::clamp(to, begin, begin + length) - begin;
    std::copy(example.ids.begin() + first, example.ids.begin() + last, example.labels.begin() + first);
  }
  return example;
}

TokenWriter::TokenWriter(const std::filesystem::path& path) : path_(path) {
  if (path.empty()) {
    words_.file = ::memfd_create("hone-tokens", MFD_CLOEXEC);
    rows_.file = ::memfd_create("hone-rows", MFD_CLOEXEC);
    if (words_.file < 0 || rows_.file < 0) fail("no memory for tokens: {}", std::strerror(errno));
  } else {
    const auto create = [&](std::string& name) {
      name = (path.parent_path() / ".tokens-XXXXXX").string();
      const int file = ::mkostemp(name.data(), O_CLOEXEC);
      if (file < 0) fail_write(path.parent_path(), "create a file there");
      return file;
    };
    std::string name;
    words_.file = create(name);
    temporary_ = name;
    rows_.file = create(name);
    ::unlink(name.c_str());  // read back below, seen by nobody
  }
  const Header placeholder{};
  words_.written = sizeof placeholder;
  if (!write_all(words_.file, reinterpret_cast<const char*>(&placeholder), sizeof placeholder))
    fail_write(path_, "write");
}

TokenWriter::~TokenWriter() {
  if (words_.file >= 0) ::close(words_.file);
  if (rows_.file >= 0) ::close(rows_.file);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

/// Pieces are of one size but for the last of a section, so that a reader hashes the same.
void TokenWriter::put(Output& output, const void* bytes, std::size_t size) {
  output.buffer.append(static_cast<const char*>(bytes), size);
  std::size_t done = 0;
  for (; output.buffer.size() - done >= kPiece; done += kPiece) {
    if (&output == &words_) content_ = hash_of(output.buffer.data() + done, kPiece, content_);
    if (!write_all(output.file, output.buffer.data() + done, kPiece)) fail_write(path_, "write");
  }
  output.buffer.erase(0, done);
  output.written += done;
}

void TokenWriter::write_out(Output& output, std::size_t size) {
  if (size == 0) return;
  if (&output == &words_) content_ = hash_of(output.buffer.data(), size, content_);
  if (!write_all(output.file, output.buffer.data(), size)) fail_write(path_, "write");
  output.buffer.clear();
  output.written += size;
}

void TokenWriter::add(const TokenizedRow& row, std::int64_t number) {
  HONE_CHECK(row.ids.size() == row.labels.size(), "{} labels for {} ids", row.labels.size(), row.ids.size());
  HONE_CHECK(row.ids.size() < std::numeric_limits<std::uint32_t>::max(), "a row of {} tokens",
             row.ids.size());
  if (row.documents.empty()) return add_document(row, 0, row.ids.size(), number);
  std::size_t begin = 0;
  for (const std::int64_t length : row.documents) {
    add_document(row, begin, static_cast<std::size_t>(length), number);
    begin += static_cast<std::size_t>(length);
  }
}

void TokenWriter::add_document(const TokenizedRow& row, std::size_t begin, std::size_t size,
                               std::int64_t number) {
  const auto ids = std::span(row.ids).subspan(begin, size);
  const auto labels = std::span(row.labels).subspan(begin, size);
  const auto weights =
      row.weights.empty() ? std::span<const float>() : std::span(row.weights).subspan(begin, size);
  TokenRow entry{.begin = (words_.written + words_.buffer.size() - sizeof(Header)) / sizeof(std::int32_t),
                 .content = row.content,
                 .number = number,
                 .length = static_cast<std::uint32_t>(size),
                 .flags = (row.kind == RowKind::kText ? TokenRow::kText : 0U) |
                          (begin > 0 ? TokenRow::kPart : 0U) | (weights.empty() ? 0U : TokenRow::kWeights)};
  for (std::size_t i = 1; i < size; ++i) entry.supervised += labels[i] != kIgnoredLabel ? 1 : 0;
  std::vector<std::array<std::uint32_t, 2>> runs;
  for (std::uint32_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kIgnoredLabel) continue;
    if (labels[i] != ids[i]) entry.flags |= TokenRow::kOwnLabels;
    if (!runs.empty() && runs.back()[1] == i)
      ++runs.back()[1];
    else
      runs.push_back({i, i + 1});
  }
  put(words_, ids.data(), ids.size_bytes());
  if ((entry.flags & TokenRow::kOwnLabels) != 0) {
    put(words_, labels.data(), labels.size_bytes());
  } else {
    entry.runs = static_cast<std::uint32_t>(runs.size());
    put(words_, runs.data(), runs.size() * sizeof runs[0]);
  }
  put(words_, weights.data(), weights.size_bytes());
  put(rows_, &entry, sizeof entry);
  ++num_rows_;
  hash_ = mix_example(hash_, ids, labels, weights);
}

/// The rows behind the words, where what is in memory of them has been written to their own file.
void TokenWriter::append_rows() {
  const std::uint64_t size = rows_.written;
  for (std::uint64_t at = 0; at < size; at += kPiece) {
    words_.buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, size - at)));
    if (!read_at(rows_.file, at, words_.buffer.data(), words_.buffer.size())) fail_write(path_, "read back");
    write_out(words_, words_.buffer.size());
  }
}

std::shared_ptr<const TokenFile> TokenWriter::finish(const std::string& key, const std::string& notes) {
  write_out(words_, words_.buffer.size());
  write_out(rows_, rows_.buffer.size());
  Header header;
  header.words_bytes = words_.written - sizeof header;
  header.num_rows = static_cast<std::uint64_t>(num_rows_);
  append_rows();
  for (const auto* text : {&key, &notes}) {
    words_.buffer = *text;
    write_out(words_, text->size());
  }
  header.key_bytes = key.size();
  header.notes_bytes = notes.size();
  header.hash = hash_;
  header.content = with_header(content_, header);
  if (::pwrite(words_.file, &header, sizeof header, 0) != sizeof header) fail_write(path_, "write");
  if (!path_.empty()) {
    if (::fsync(words_.file) != 0) fail_write(path_, "sync");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_write(path_, "rename into place");
    temporary_.clear();
    sync_directory(path_.parent_path());
  }
  std::shared_ptr<TokenFile> file(new TokenFile(std::exchange(words_.file, -1), path_.string()));
  file->num_rows_ = num_rows_;
  file->rows_begin_ = sizeof header + header.words_bytes;
  file->hash_ = hash_;
  file->notes_ = notes;
  return file;
}

}  // namespace hone::data
