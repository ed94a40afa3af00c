#!/usr/bin/env bash
# Runs every test of a build folder and closes with one line: N passed, N failed.
set -uo pipefail
build=${1:-build}
ctest --test-dir "$build" --output-on-failure --no-tests=error -j "$(nproc)" "${@:2}" | tee "$build/test.log"
status=${PIPESTATUS[0]}
failed=$(sed -n 's/.*tests passed, \([0-9]*\) tests\? failed out of .*/\1/p' "$build/test.log")
total=$(sed -n 's/.*tests passed, [0-9]* tests\? failed out of \([0-9]*\).*/\1/p' "$build/test.log")
if [ -n "$total" ]; then echo "$((total - failed)) passed, $failed failed"; fi
exit "$status"
