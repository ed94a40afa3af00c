// The bytes of a file in order, decompressed where it is compressed. Inside this room only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hone::data {

/// Bytes that are read once, from the first to the last.
class ByteStream {
 public:
  /// A file, a pipe, or either compressed by gzip or zstd: the first bytes decide, whatever the name. Throws
  /// Error(kUser) where it cannot be read.
  static std::unique_ptr<ByteStream> open(const std::filesystem::path& path);
  /// The bytes as they lie there.
  static std::unique_ptr<ByteStream> open_plain(const std::filesystem::path& path);

  ByteStream() = default;
  virtual ~ByteStream() = default;
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  /// Fills the start of `into` and returns how many bytes; 0 only at the end. Throws Error(kUser) "FILE: …"
  /// for what cannot be read and for compressed data that is broken or cut off.
  virtual std::size_t read(std::span<char> into) = 0;
  /// Bytes of the file, as it lies there, that have been read.
  virtual std::int64_t bytes_read() const = 0;
};

/// A window on a stream: the bytes that a parser has not consumed yet, as many as it asks for.
class TextWindow {
 public:
  /// `name` begins errors.
  TextWindow(std::unique_ptr<ByteStream> stream, std::string name);

  /// The bytes that follow, as far as they are here. Valid until the next call of more().
  std::string_view text() const { return std::string_view(buffer_).substr(begin_, end_ - begin_); }
  /// Adds bytes to the end of text(); false at the end of the stream. Throws Error(kUser) where text() grows
  /// beyond 1 GiB: no row is so long, a quote or a bracket was never closed.
  bool more();
  /// Forgets the first `bytes` of text(), which stay where they are until the next call of more().
  void consume(std::size_t bytes) { begin_ += bytes; }

  std::int64_t bytes_read() const { return stream_->bytes_read(); }
  const std::string& name() const { return name_; }

 private:
  std::unique_ptr<ByteStream> stream_;
  std::string name_;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;
};

}  // namespace hone::data
