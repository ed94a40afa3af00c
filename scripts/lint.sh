#!/usr/bin/env bash
# The house rules that a program can check: format, file lengths, warnings, and clang-tidy on what changed most often goes wrong.
set -uo pipefail
build=${1:-build}
bad=0
if command -v clang-format >/dev/null; then
  git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run --Werror 2>&1 | head -20 | grep . && bad=1
else
  echo "lint: clang-format is not installed; formatting not checked"
fi
long=$(git ls-files 'src/*' 'tests/*' | grep -E '\.(h|cpp)$' | xargs wc -l | awk '$2 != "total" && $1 > 600')
[ -z "$long" ] || { echo "files over 600 lines:"; echo "$long"; bad=1; }
todo=$(git grep -nE '\b(TODO|FIXME|XXX)\b' -- 'src' 'tests/*.cpp' 'cmake' || true)
[ -z "$todo" ] || { echo "unfinished work:"; echo "$todo"; bad=1; }
if command -v clang-tidy >/dev/null && [ -f "$build/compile_commands.json" ]; then
  git ls-files 'src/*.cpp' | xargs clang-tidy -p "$build" --quiet 2>/dev/null | grep -E 'warning:|error:' && bad=1
else
  echo "lint: clang-tidy is not installed or $build is not configured; not run"
fi
exit $bad
