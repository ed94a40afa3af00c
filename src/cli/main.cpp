// The program `hone`.
#include "cli/verbs.h"
#include "device/threads.h"

int main(int argc, char** argv) {
  hone::device::restart_with_short_spins(argv);
  return hone::cli::run(argc, argv);
}
