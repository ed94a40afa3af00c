#!/usr/bin/env bash
# The house rules that a program can check: format, file lengths, unfinished work, and clang-tidy (its checks are in .clang-tidy) on all
# of src/ but the units for one instruction set, which only GCC compiles. Some 5 minutes on two cores; name files to look at those alone.
#   scripts/lint.sh [BUILD [FILE...]]
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
[ $# -eq 0 ] || shift
bad=0

if command -v clang-format >/dev/null; then
  git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror 2>&1 | grep -E 'error:' | cut -d: -f1 | sort -u | sed 's/$/: not formatted (make format)/' | grep . && bad=1
else
  echo "lint: clang-format is not installed; formatting not checked"
fi

long=$(git ls-files 'src/*' 'tests/*' | grep -E '\.(h|cpp|cu|cuh)$' | grep -v _tables.cpp | xargs wc -l | awk '$2 != "total" && $1 > 600')
[ -z "$long" ] || { echo "files over 600 lines:"; echo "$long"; bad=1; }

todo=$(git grep -nE '\b(TODO|FIXME|XXX)\b' -- 'src' 'tests/*.cpp' 'cmake' || true)
[ -z "$todo" ] || { echo "unfinished work:"; echo "$todo"; bad=1; }

# By which the compiler moves loads before a kernel's wait (src/kernels/cuda/launch.cuh).
promises=$(git grep -nE '__restrict__|\b__restrict\b|__ldg|\.nc\b' -- 'src/kernels/cuda/*.cu' 'src/kernels/cuda/*.cuh' 'src/kernels/moments.h' 'src/kernels/fp8.h' | grep -vE ':[0-9]+:\s*//' || true)
[ -z "$promises" ] || { echo "what kernels that come early may not promise:"; echo "$promises"; bad=1; }

# clang-tidy reads the commands of GCC for one file at a time, without the warnings that clang does not know.
if command -v clang-tidy >/dev/null && [ -f "$build/CMakeCache.txt" ]; then
  cmake -S . -B "$build/lint" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON --log-level=ERROR >/dev/null || exit 1
  cmake --build "$build/lint" --target hone_tokenization_hash >/dev/null || exit 1
  sed -i -E 's/-Wno-[a-z-]+//g' "$build/lint/compile_commands.json"
  if [ $# -gt 0 ]; then files=("$@"); else mapfile -t files < <(git ls-files 'src/*.cpp' | grep -vE 'src/kernels/(cpu/(units|register_)|cuda/)'); fi
  printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy -p "$build/lint" --quiet \
    --extra-arg=-include --extra-arg="$PWD/scripts/lint/source_location.h" 2>/dev/null |
    grep -E 'warning:|error:' | sed "s|$PWD/||" | sort -u > "$build/lint/findings"
  if [ -s "$build/lint/findings" ]; then cat "$build/lint/findings"; bad=1; fi
else
  echo "lint: clang-tidy is not installed or $build is not configured; not run"
fi
[ $bad = 1 ] || echo "lint: clean"
exit $bad
