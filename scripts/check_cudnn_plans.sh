#!/usr/bin/env bash
# Has the real cuDNN plan hone's graphs of attention, for cards that are not here: check_cudnn_plans.sh [FOLDER], where
# scripts/setup.sh --cuda unpacked the library (build/cuda-libraries). Its engines check the graphs and compile their kernels; what
# loads them is a driver of our own that takes everything. Runs nothing on a card. Where there is no library it says so and is done.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
wheels=${1:-$here/build/cuda-libraries}
if [ ! -e "$wheels/nvidia/cudnn/lib/libcudnn.so.9" ]; then
  echo "check_cudnn_plans: skipped, no nvidia/cudnn/lib/libcudnn.so.9 in $wheels; scripts/setup.sh --cuda fetches it"
  exit 0
fi
headers=
for folder in "${CUDA_HOME:-/usr/local/cuda}/include" "$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /)")")")/include"; do
  [ -n "$headers" ] || [ ! -e "$folder/cuda_runtime_api.h" ] || headers=$folder
done
[ -n "$headers" ] || { echo "check_cudnn_plans: skipped, no cuda_runtime_api.h; CUDA_HOME names the toolkit"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The functions of the driver that the library asks for by name: each fails with CUDA_ERROR_NO_DEVICE, those that load a kernel "load" it.
for library in "$wheels"/nvidia/cudnn/lib/libcudnn_{graph,heuristic,engines_runtime_compiled}.so.9; do strings -n 4 "$library"; done |
  grep -E '^cu[A-Z][A-Za-z0-9_]+$' | sort -u | while read -r name; do
  case $name in
  cuLibraryLoadData | cuLibraryGetKernel | cuKernelGetFunction | cuModuleLoadData* | cuModuleGetFunction)
    echo "int $name(void** made) { *made = (void*)16; return 0; }" ;;
  cuLibrary* | cuKernel* | cuFunc* | cuModule*) echo "int $name(void) { return 0; }" ;;
  *) echo "int $name(void) { return 100; }" ;;
  esac
done >"$work/driver.c"
gcc -shared -fPIC -w -Wl,-soname,libcuda.so.1 "$work/driver.c" -o "$work/libcuda.so.1"
g++ -std=c++20 -O1 -I"$here/src" -I"$wheels/nvidia/cudnn/include" -I"$headers" \
  "$here"/tools/cudnn_plans.cpp "$here"/src/kernels/cuda/{cudnn_graph,vendor_library}.cpp "$here"/src/base/error.cpp -lfmt -ldl -o "$work/cudnn_plans"
LD_LIBRARY_PATH=$work HONE_CUDA_LIBRARIES=$wheels "$work/cudnn_plans"
