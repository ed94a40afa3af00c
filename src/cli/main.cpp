// The program `hone`.
#include "cli/verbs.h"

int main(int argc, char** argv) {
  return hone::cli::run(argc, argv);
}
