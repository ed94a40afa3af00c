#!/usr/bin/env bash
# libhone exports its public face and nothing else: a program may load it beside any other library.
set -euo pipefail
nm --dynamic --defined-only --demangle "$1" | sed 's/^[0-9a-f]* [A-Za-z] //' | grep -v '^HONE' >"${TMPDIR:-/tmp}/hone-symbols.$$"
trap 'rm -f "${TMPDIR:-/tmp}/hone-symbols.$$"' EXIT
face='^hone::(AutoTokenizer|AutoModelForCausalLM|ModelOutput|AdamW|Trainer)::|^hone::is_user_error'
if grep -vE "$face" "${TMPDIR:-/tmp}/hone-symbols.$$" || grep '::Impl' "${TMPDIR:-/tmp}/hone-symbols.$$"; then
  echo "are exported and are not of include/hone/hone.h"
  exit 1
fi
count=$(wc -l <"${TMPDIR:-/tmp}/hone-symbols.$$")
echo "$count symbols"
[ "$count" -gt 20 ]
