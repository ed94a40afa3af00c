#include "data/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace hone::data {

namespace {

using namespace std::string_view_literals;

constexpr std::size_t kChunk = std::size_t{1} << 17;
constexpr std::size_t kLongestRow = std::size_t{1} << 30;
constexpr std::string_view kGzip = "\x1F\x8B"sv;
constexpr std::string_view kZstd = "\x28\xB5\x2F\xFD"sv;

/// The bytes as they lie there. A pipe has no second chance: what was looked at is given out again.
class PlainStream : public ByteStream {
 public:
  explicit PlainStream(const std::filesystem::path& path) : name_(path.string()) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) fail("{}: is a directory, not a file", name_);
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0) fail("{}: cannot open: {}", name_, std::strerror(errno));
#ifdef POSIX_FADV_SEQUENTIAL
    ::posix_fadvise(file_, 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
  }
  ~PlainStream() override {
    if (file_ >= 0) ::close(file_);
  }

  /// The first bytes, which read() gives too.
  std::string_view peek() {
    first_.resize(kZstd.size());
    std::size_t size = 0;
    while (size < first_.size()) {
      const auto n = read_file(std::span(first_).subspan(size));
      if (n == 0) break;
      size += n;
    }
    first_.resize(size);
    return first_;
  }

  std::size_t read(std::span<char> into) override {
    std::size_t size = std::min(first_.size(), into.size());
    if (size > 0) {
      std::copy_n(first_.begin(), size, into.begin());
      first_.erase(0, size);
    } else {
      size = read_file(into);
    }
    given_ += static_cast<std::int64_t>(size);
    return size;
  }

  std::int64_t bytes_read() const override {
    return given_;
  }
  const std::string& name() const {
    return name_;
  }

 private:
  std::size_t read_file(std::span<char> into) const {
    for (;;) {
      const ssize_t n = ::read(file_, into.data(), into.size());
      if (n >= 0) return static_cast<std::size_t>(n);
      if (errno != EINTR) fail("{}: cannot read: {}", name_, std::strerror(errno));
    }
  }

  std::string name_;
  int file_ = -1;
  std::string first_;
  std::int64_t given_ = 0;
};

/// What a decompressor reads from: a chunk of the compressed file at a time.
class Compressed {
 public:
  explicit Compressed(std::unique_ptr<PlainStream> file) : file_(std::move(file)), chunk_(kChunk, '\0') {}
  /// The bytes not taken yet, after reading more where there are none; empty at the end.
  std::string_view next() {
    if (at_ == size_) {
      at_ = 0;
      size_ = file_->read(chunk_);
    }
    return std::string_view(chunk_).substr(at_, size_ - at_);
  }
  void take(std::size_t bytes) { at_ += bytes; }
  const PlainStream& file() const { return *file_; }

 private:
  std::unique_ptr<PlainStream> file_;
  std::string chunk_;
  std::size_t at_ = 0, size_ = 0;
};

/// Members one after another, as `cat a.gz b.gz` and block-wise compressors write them; zeros behind the last
/// are padding.
class GzipStream : public ByteStream {
 public:
  explicit GzipStream(std::unique_ptr<PlainStream> file) : in_(std::move(file)) {
    constexpr int kGzipWindow = 15 + 16;
    if (::inflateInit2(&state_, kGzipWindow) != Z_OK) fail("{}: out of memory for zlib", in_.file().name());
  }
  ~GzipStream() override { ::inflateEnd(&state_); }

  std::size_t read(std::span<char> into) override {
    state_.next_out = reinterpret_cast<Bytef*>(into.data());
    state_.avail_out = static_cast<uInt>(into.size());
    while (state_.avail_out == into.size()) {
      const auto bytes = in_.next();
      if (bytes.empty() && between_members_) return 0;
      if (bytes.empty()) fail("{}: the gzip file is cut off", in_.file().name());
      if (between_members_ && members_ > 0 && bytes.front() == '\0') {
        in_.take(1);
        continue;
      }
      state_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
      state_.avail_in = static_cast<uInt>(bytes.size());
      const int status = ::inflate(&state_, Z_NO_FLUSH);
      in_.take(bytes.size() - state_.avail_in);
      between_members_ = status == Z_STREAM_END;
      if (status == Z_STREAM_END) {
        ++members_;
        ::inflateReset(&state_);
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        fail("{}: the gzip file is broken{}", in_.file().name(),
             state_.msg != nullptr ? std::string(": ") + state_.msg : "");
      }
    }
    return into.size() - state_.avail_out;
  }

  std::int64_t bytes_read() const override { return in_.file().bytes_read(); }

 private:
  Compressed in_;
  z_stream state_{};
  bool between_members_ = true;
  std::int64_t members_ = 0;
};

/// Frames one after another.
class ZstdStream : public ByteStream {
 public:
  explicit ZstdStream(std::unique_ptr<PlainStream> file)
      : in_(std::move(file)), state_(::ZSTD_createDStream()) {
    if (state_ == nullptr) fail("{}: out of memory for zstd", in_.file().name());
    // Frames of `zstd --long=31` and --ultra need windows of up to 2 GiB; the default allows 128 MiB.
    ::ZSTD_DCtx_setParameter(state_, ZSTD_d_windowLogMax,
                             ::ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }
  ~ZstdStream() override { ::ZSTD_freeDStream(state_); }

  std::size_t read(std::span<char> into) override {
    ZSTD_outBuffer out{into.data(), into.size(), 0};
    while (out.pos == 0) {
      const auto bytes = in_.next();
      if (bytes.empty() && between_frames_) return 0;
      ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
      const std::size_t left = ::ZSTD_decompressStream(state_, &out, &in);
      if (::ZSTD_isError(left) != 0)
        fail("{}: the zstd file is broken: {}", in_.file().name(), ::ZSTD_getErrorName(left));
      in_.take(in.pos);
      between_frames_ = left == 0;
      if (bytes.empty() && out.pos == 0) fail("{}: the zstd file is cut off", in_.file().name());
    }
    return out.pos;
  }

  std::int64_t bytes_read() const override { return in_.file().bytes_read(); }

 private:
  Compressed in_;
  ZSTD_DStream* state_;
  bool between_frames_ = true;
};

}  // namespace

std::unique_ptr<ByteStream> ByteStream::open(const std::filesystem::path& path) {
  auto file = std::make_unique<PlainStream>(path);
  const auto first = file->peek();
  if (first.starts_with(kGzip)) return std::make_unique<GzipStream>(std::move(file));
  if (first.starts_with(kZstd)) return std::make_unique<ZstdStream>(std::move(file));
  return file;
}

std::unique_ptr<ByteStream> ByteStream::open_plain(const std::filesystem::path& path) {
  return std::make_unique<PlainStream>(path);
}

TextWindow::TextWindow(std::unique_ptr<ByteStream> stream, std::string name)
    : stream_(std::move(stream)), name_(std::move(name)) {}

bool TextWindow::more() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  if (end_ > kLongestRow)
    fail("{}: a row goes on for more than 1 GiB; a quote or bracket is never closed", name_);
  // Half a chunk of room will do: a small file is then read to its end in the buffer it began with.
  if (buffer_.size() - end_ < kChunk / 2) buffer_.resize(std::max(buffer_.size() * 2, end_ + kChunk));
  const auto size = stream_->read(std::span(buffer_).subspan(end_));
  end_ += size;
  return size > 0;
}

}  // namespace hone::data
