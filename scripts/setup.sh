#!/usr/bin/env bash
# Installs what hone needs to build, run and test, by name from Debian's packages: only what is missing, asking nothing. Nothing is fetched
# at configure, build or run time. --parquet: also Apache Arrow's headers and libraries, from the pyarrow wheel (PyPI), into
# build/parquet, where the next configuration finds them: Debian 12 has no package of Arrow. --cuda: also NVIDIA's cuBLAS, cuDNN and NVRTC (by
# which cuDNN compiles) from their wheels, into build/cuda-libraries, for builds whose toolkit has none (1.3 GB). --disassemblers: cuobjdump and
# nvdisasm there, for tools/cuda_code.py, where the toolkit has none (6 MB).
set -euo pipefail
pyarrow=26.0.1 cublas=13.1.1.3 cudnn=9.19.0.56 nvrtc=13.0.88 disassemblers_of=13.5.37
parquet=0 cuda=0 disassemblers=0
for option in "$@"; do
  case $option in
  --parquet) parquet=1 ;;
  --cuda) cuda=1 ;;
  --disassemblers) command -v cuobjdump >/dev/null || [ -x /usr/local/cuda/bin/cuobjdump ] || disassemblers=1 ;;
  *) echo "setup: unknown option $option; known: --parquet, --cuda, --disassemblers" >&2; exit 2 ;;
  esac
done

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

[ $parquet$cuda$disassemblers = 000 ] || packages+=(python3-pip)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
build=$(cd "$(dirname "$0")/.." && pwd)/build
# unpack_wheel NAME VERSION: sets `wheel`, a folder that ends with this script.
unpack_wheel() {
  wheel=$(mktemp -d)
  trap 'rm -rf "$wheel"' EXIT
  echo "setup: fetching $1 $2"
  python3 -m pip download -q --no-deps --only-binary=:all: -d "$wheel" "$1==$2"
  python3 -m zipfile -e "$wheel"/*.whl "$wheel"
}
# fetch_cuda NAME VERSION FILE: unless FILE is there.
fetch_cuda() {
  local root=$build/cuda-libraries
  [ ! -e "$root/nvidia/$3" ] || return 0
  unpack_wheel "$1" "$2"
  mkdir -p "$root"
  cp -r "$wheel/nvidia" "$root/"
  chmod +x "$root/nvidia/$3"
  rm -rf "$wheel"
}
fetch_wheels() {
  local root=$build/parquet
  if [ $cuda = 1 ]; then
    fetch_cuda nvidia-cublas $cublas cu13/lib/libcublasLt.so.13
    fetch_cuda nvidia-cudnn-cu13 $cudnn cudnn/lib/libcudnn.so.9
    fetch_cuda nvidia-cuda-nvrtc $nvrtc cu13/lib/libnvrtc.so.13
  fi
  if [ $disassemblers = 1 ]; then
    (fetch_cuda nvidia-cuda-cuobjdump $disassemblers_of cu13/bin/cuobjdump
     fetch_cuda nvidia-cuda-nvdisasm $disassemblers_of cu13/bin/nvdisasm) || echo "setup: no disassemblers; machine code will not be looked at" >&2
  fi
  [ $parquet = 1 ] || exit 0
  ls "$root"/pyarrow/libparquet.so.* >/dev/null 2>&1 && exit 0
  unpack_wheel pyarrow $pyarrow
  mkdir -p "$wheel/tree/pyarrow"
  mv "$wheel"/pyarrow/include "$wheel"/pyarrow/libarrow.so.* "$wheel"/pyarrow/libparquet.so.* "$wheel/tree/pyarrow"
  mkdir -p "$(dirname "$root")"
  rm -rf "$root"
  mv "$wheel/tree" "$root"
}

[ ${#missing[@]} -gt 0 ] || { fetch_wheels; exit 0; }

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
fetch_wheels
