// The tokenised rows of one data file, in a file. Inside this room only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace hone::data {

/// One row of a TokenFile, or one document of a row that was packed elsewhere, without its tokens.
struct TokenRow {
  enum Flag : std::uint32_t {
    kText = 1,       // of RowKind::kText
    kOwnLabels = 2,  // the labels are not runs of the ids
    kPart = 4,       // not the first document of its row
    kWeights = 8     // weights follow the labels, f32, one a token
  };
  std::uint64_t begin = 0;       // of its ids, in words of the file
  std::uint64_t content = 0;     // TokenizedRow::content
  std::int64_t number = 0;       // RowSource::line
  std::uint32_t length = 0;      // ids
  std::uint32_t runs = 0;        // runs of learnt tokens behind the ids, a begin and an end each
  std::uint32_t supervised = 0;  // labels learnt from, as TokenizedRow::supervised
  std::uint32_t flags = 0;
};

/// Ids, labels and weights of a file's rows: 4 bytes a token, 8 a run of learnt tokens, 40 a row, and 4 a
/// token more of rows with weights other than 1. What is asked for is read (pread), not mapped: pages of a
/// map count as this process's memory, and a file that another program cuts short would end the process.
class TokenFile {
 public:
  /// A finished file, checked whole against its hash. Null where it is no such file, is broken, or was made
  /// for another `key`; `why` then says which.
  static std::shared_ptr<const TokenFile> open(const std::filesystem::path& path, const std::string& key,
                                               std::string& why);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  std::int64_t size() const { return num_rows_; }
  /// Rows [first, first + rows.size()).
  void read_rows(std::int64_t first, std::span<TokenRow> rows) const;
  TokenRow row(std::int64_t index) const;
  /// Tokens [begin, begin + length) of a row.
  Example example(const TokenRow& row, std::uint32_t begin, std::uint32_t length) const;
  /// A hash of all ids, labels and weights and their order.
  std::uint64_t hash() const { return hash_; }
  /// What TokenWriter::finish was given.
  const std::string& notes() const { return notes_; }

 private:
  friend class TokenWriter;
  /// Takes the file.
  TokenFile(int file, std::string name) : file_(file), name_(std::move(name)) {}
  void read(std::uint64_t at, void* into, std::size_t bytes) const;

  int file_;
  std::string name_;
  std::int64_t num_rows_ = 0;
  std::uint64_t rows_begin_ = 0;  // in bytes
  std::uint64_t hash_ = 0;
  std::string notes_;
};

/// Writes a TokenFile.
class TokenWriter {
 public:
  /// Into a new file beside `path` that nobody else writes; "": into memory. Throws Error(kUser).
  explicit TokenWriter(const std::filesystem::path& path);
  ~TokenWriter();
  TokenWriter(const TokenWriter&) = delete;
  TokenWriter& operator=(const TokenWriter&) = delete;

  void add(const TokenizedRow& row, std::int64_t number);
  /// Writes what remains and, of a file, syncs it and renames it to its path. `key`: what the tokens were
  /// made of, one for all time; `notes`: what else to keep. Throws Error(kUser) where the disk takes no more.
  std::shared_ptr<const TokenFile> finish(const std::string& key, const std::string& notes);

 private:
  /// A file that grows, written in large pieces.
  struct Output {
    int file = -1;
    std::string buffer;
    std::uint64_t written = 0;
  };
  void add_document(const TokenizedRow& row, std::size_t begin, std::size_t size, std::int64_t number);
  void put(Output& output, const void* bytes, std::size_t size);
  void write_out(Output& output, std::size_t size);
  void append_rows();

  std::filesystem::path path_, temporary_;  // "": in memory
  Output words_, rows_;
  std::int64_t num_rows_ = 0;
  std::uint64_t content_ = 0;  // a hash of what words_ has written
  std::uint64_t hash_ = 0;
};

/// `hash` with an example more, as TokenFile::hash.
std::uint64_t mix_example(std::uint64_t hash, std::span<const std::int32_t> ids,
                          std::span<const std::int32_t> labels, std::span<const float> weights);

}  // namespace hone::data
