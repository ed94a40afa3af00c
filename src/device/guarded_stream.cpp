#include "device/guarded_stream.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hone::device {

namespace {

constexpr int kGarbage = 0xff;  // as f32 and bf16: not a number

/// The guarded memory of a process: a range of addresses that is closed unless somebody opens it.
class GuardedRange {
 public:
  static GuardedRange& instance() {
    static auto* const range = new GuardedRange;  // outlives whoever holds memory
    return *range;
  }

  /// Whole pages of garbage.
  void* take(std::size_t size_bytes) {
    const std::size_t size = pages(size_bytes);
    const std::lock_guard lock(mutex_);
    auto found = free_.begin();
    while (found != free_.end() && found->second < size) ++found;
    std::size_t at = end_;
    if (found != free_.end()) {
      at = found->first;
      if (found->second > size) free_.emplace(at + size, found->second - size);
      free_.erase(found);
    } else {
      HONE_CHECK(size <= kSize - end_, "no guarded memory of {} bytes", size);
      end_ += size;
      if (opened_ > 0) protect(PROT_READ | PROT_WRITE);
    }
    spoil(base_ + at, size);
    return base_ + at;
  }

  void give_back(void* data, std::size_t size_bytes) {
    std::size_t size = pages(size_bytes);
    const std::lock_guard lock(mutex_);
    spoil(data, size);
    std::size_t at = static_cast<std::size_t>(static_cast<std::byte*>(data) - base_);
    const auto after = free_.lower_bound(at);
    if (after != free_.begin())
      if (const auto before = std::prev(after); before->first + before->second == at) {
        at = before->first;
        size += before->second;
        free_.erase(before);
      }
    if (after != free_.end() && after->first == at + size) {
      size += after->second;
      free_.erase(after);
    }
    if (at + size < end_) {
      free_[at] = size;
      return;
    }
    end_ = at;  // what is opened and closed for each kernel is no more than what is in use
    ::mprotect(base_ + at, size, PROT_NONE);
    ::madvise(base_ + at, size, MADV_DONTNEED);
  }

  void open() {
    const std::lock_guard lock(mutex_);
    if (opened_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::lock_guard lock(mutex_);
    if (--opened_ == 0) protect(PROT_NONE);
  }

 private:
  static constexpr std::size_t kSize = std::size_t{1} << 38;  // addresses, not memory
  static constexpr std::size_t kPage = 4096;

  GuardedRange() {
    void* mapped = ::mmap(nullptr, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    HONE_CHECK(mapped != MAP_FAILED, "no addresses for guarded memory");
    base_ = static_cast<std::byte*>(mapped);
    begin_address = base_;
    end_address = base_ + kSize;
    struct sigaction action {};
    action.sa_sigaction = tell;
    action.sa_flags = SA_SIGINFO | static_cast<int>(SA_RESETHAND);  // then it faults once more, for good
    ::sigaction(SIGSEGV, &action, nullptr);
  }

  static std::size_t pages(std::size_t size_bytes) {
    return std::max(kPage, (size_bytes + kPage - 1) / kPage * kPage);
  }
  static void tell(int, siginfo_t* fault, void*) {
    constexpr std::string_view kText =
        "hone: device memory was touched outside of kernels and verbs (HONE_GUARDED)\n";
    if (fault->si_addr >= begin_address && fault->si_addr < end_address)
      (void)!::write(STDERR_FILENO, kText.data(), kText.size());
  }
  void protect(int protection) const {
    if (end_ == 0) return;
    HONE_CHECK(::mprotect(base_, end_, protection) == 0, "mprotect of {} bytes: errno {}", end_, errno);
  }
  void spoil(void* data, std::size_t size) const {
    if (opened_ == 0) ::mprotect(data, size, PROT_READ | PROT_WRITE);
    std::memset(data, kGarbage, size);
    if (opened_ == 0) ::mprotect(data, size, PROT_NONE);
  }

  inline static void *begin_address, *end_address;
  std::mutex mutex_;
  std::byte* base_ = nullptr;
  std::size_t end_ = 0;                      // of the last that is in use
  std::map<std::size_t, std::size_t> free_;  // sizes by place; no two are neighbours
  int opened_ = 0;
};

class GuardedBuffer final : public Buffer {
 public:
  GuardedBuffer(std::shared_ptr<MemoryLedger> ledger, std::size_t size_bytes, Purpose purpose)
      : Buffer({DeviceType::kCpu, 0}, GuardedRange::instance().take(size_bytes), size_bytes),
        memory_{data_, size_bytes_},
        entry_(std::move(ledger), purpose, size_bytes) {}

 private:
  struct Memory {
    void* data;
    std::size_t size_bytes;
    ~Memory() { GuardedRange::instance().give_back(data, size_bytes); }
  };
  Memory memory_;
  LedgerEntry entry_;  // ends before the memory is another's
};

class GuardedAllocator final : public Allocator {
 public:
  std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) override {
    return std::make_shared<GuardedBuffer>(ledger_, size_bytes, purpose);
  }
  MemoryLedger& ledger() override { return *ledger_; }
  Device device() const override { return {DeviceType::kCpu, 0}; }

 private:
  std::shared_ptr<MemoryLedger> ledger_ = std::make_shared<MemoryLedger>();
};

class Open {
 public:
  Open() { GuardedRange::instance().open(); }
  ~Open() { GuardedRange::instance().close(); }
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;
};

}  // namespace

/// What was downloaded and has not been waited for.
class GuardedStream::Downloads {
 public:
  void add(const void* from, std::shared_ptr<Buffer> to) {
    const auto* bytes = static_cast<const std::byte*>(from);
    const std::lock_guard lock(mutex_);
    pending_[++last_] = {{bytes, bytes + to->size_bytes()}, std::move(to)};
  }
  std::uint64_t last() const { return last_; }
  /// The `count` first ever added arrive.
  void arrive(std::uint64_t count) {
    const std::lock_guard lock(mutex_);
    while (!pending_.empty() && pending_.begin()->first <= count) {
      const auto& [bytes, to] = pending_.begin()->second;
      if (!bytes.empty()) std::memcpy(to->data(), bytes.data(), bytes.size());
      pending_.erase(pending_.begin());
    }
  }

  class Arrival final : public Event {
   public:
    explicit Arrival(std::shared_ptr<Downloads> downloads)
        : downloads_(std::move(downloads)), count_(downloads_->last()) {}
    bool is_done() const override {
      wait();  // whoever asks has let time pass
      return true;
    }
    void wait() const override { downloads_->arrive(count_); }

   private:
    std::shared_ptr<Downloads> downloads_;
    std::uint64_t count_;
  };

 private:
  std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, std::pair<std::vector<std::byte>, std::shared_ptr<Buffer>>> pending_;
};

bool guard_is_asked_for() {
  const char* value = std::getenv("HONE_GUARDED");
  return value != nullptr && std::string_view(value) == "1";
}

GuardedStream::GuardedStream(int num_threads, int first_core)
    : CpuStream(std::make_shared<GuardedAllocator>(), num_threads, first_core),
      downloads_(std::make_shared<Downloads>()) {}

void GuardedStream::upload(std::span<const std::byte> from, void* to) {
  const Open open;
  CpuStream::upload(from, to);
}

void GuardedStream::upload(std::shared_ptr<Buffer> from, void* to) {
  downloads_->arrive(downloads_->last());  // which this stream does before
  const Open open;
  CpuStream::upload(std::move(from), to);
}

void GuardedStream::download(const void* from, std::shared_ptr<Buffer> to) {
  const Open open;
  downloads_->add(from, std::move(to));
}

void GuardedStream::fill(void* to, std::uint8_t value, std::size_t size_bytes) {
  const Open open;
  CpuStream::fill(to, value, size_bytes);
}

void GuardedStream::copy(const void* from, void* to, std::size_t size_bytes) {
  const Open open;
  CpuStream::copy(from, to, size_bytes);
}

std::shared_ptr<const Event> GuardedStream::record() {
  return std::make_shared<Downloads::Arrival>(downloads_);
}

void GuardedStream::synchronize() {
  downloads_->arrive(downloads_->last());
}

std::shared_ptr<Buffer> GuardedStream::host_memory(std::size_t size_bytes) {
  auto memory = CpuStream::host_memory(size_bytes);
  std::memset(memory->data(), kGarbage, size_bytes);
  return memory;
}

void GuardedStream::begin_kernel() {
  GuardedRange::instance().open();
}

void GuardedStream::end_kernel() noexcept {
  GuardedRange::instance().close();
}

}  // namespace hone::device
