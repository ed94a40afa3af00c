#!/usr/bin/env bash
# Installs what hone needs to build, run and test, by name from Debian's packages: only what is missing, asking nothing. Nothing is fetched
# at configure, build or run time.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config git  # to build
  libfmt-dev                                   # messages
  nlohmann-json3-dev                           # config.json, tokenizer.json, JSONL
  libyaml-cpp-dev                              # recipes
  libcli11-dev                                 # command line
  libpcre2-dev                                 # pre-tokeniser regexes
  libutf8proc-dev                              # Unicode normal forms
  zlib1g-dev libzstd-dev                       # compressed data files
  libgtest-dev libgmock-dev                    # tests
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup: not a Debian system; please install the equivalents of: ${missing[*]}" >&2
  exit 2
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "setup: missing ${missing[*]}; install them as root" >&2; exit 2; }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
