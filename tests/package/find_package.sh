#!/usr/bin/env bash
# Installs hone into an empty prefix and builds a separate project against it with find_package(hone).
set -euo pipefail
build=$1 cmake=$2 here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/prefix" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
"$cmake" -S "$here/project" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/configure.log" || { cat "$work/configure.log"; exit 1; }
"$cmake" --build "$work/build" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
"$work/build/stranger" "$here/../data/golden/llama-default"
"$work/prefix/bin/hone" --version
