// The program `hone`.
#include <fcntl.h>
#include <unistd.h>

#include "cli/verbs.h"

namespace {

/// A program started with a closed standard stream (`hone … >&-`) would find its first file under that
/// number, and print into it.
void open_missing_streams() {
  for (int fd = ::open("/dev/null", O_RDWR); fd >= 0; fd = ::open("/dev/null", O_RDWR)) {
    if (fd <= STDERR_FILENO) continue;
    ::close(fd);
    return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  open_missing_streams();
  return hone::cli::run(argc, argv);
}
