#!/usr/bin/env bash
# Gathers what a machine with an NVIDIA card needs to check hone there: programs, the libraries they were linked to (all but the C library's
# and CUDA's), goldens, demo and scripts. Programs find lib/ by their RPATH, and Python there keeps its own libraries.
# Usage: gpu_bundle.sh BUILD OUT.tar.xz
set -euo pipefail
build=$(realpath "$1") out=$(realpath -m "$2")
cd "$(dirname "$0")/.."
bundle=$(mktemp -d)
trap 'rm -rf "$bundle"' EXIT
for function in cublasLtMatmul cudnnBackendExecute; do
  grep -qa $function "$build/hone" || echo "gpu_bundle: $build/hone was built without the headers for $function, and does that work by kernels of its own; scripts/setup.sh --cuda fetches them" >&2
done
mkdir -p "$bundle/lib/gcc" "$bundle/tests/data" "$bundle/tools" "$bundle/bench"
for program in hone test_cuda test_golden; do
  cp "$build/$program" "$bundle/"
  strip "$bundle/$program"
  ldd "$build/$program" | awk '$3 ~ /^\// {print $3}'
done | sort -u | grep -Ev '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' | while read -r library; do cp -L "$library" "$bundle/lib/"; done
# g++'s own ask for this machine's C library (Debian 12: 2.36, where the others ask for 2.34): for machines that have none as new.
mv "$bundle"/lib/libstdc++.so* "$bundle"/lib/libgcc_s.so* "$bundle/lib/gcc/"
cp -r tests/data/* "$bundle/tests/data/"
cp -r demo "$bundle/"
cp -r bench/gpu bench/qwen3_moe_115m "$bundle/bench/"
cp tools/gpu_check.py tools/bench_hf.py "$bundle/tools/"
git rev-parse HEAD >"$bundle/COMMIT" 2>/dev/null || true
cat >"$bundle/gpu_check.sh" <<'EOF'
#!/usr/bin/env bash
# Usage: ./gpu_check.sh [--minutes M] [--out results.jsonl]
here=$(dirname "$(realpath "$0")")
"$here/hone" --version >/dev/null 2>&1 || cp -n "$here"/lib/gcc/* "$here/lib/"
"$here/hone" --version >/dev/null || exit
exec python3 "$here/tools/gpu_check.py" "$@"
EOF
chmod +x "$bundle/gpu_check.sh"
# The programs hold the same kernels, 80 MB of them: a window that spans them keeps one copy.
tar -C "$bundle" -c . | xz --lzma2=preset=6,dict=256MiB >"$out"
size=$(stat -c %s "$out")
echo "$out: $((size >> 20)) MiB; there: tar xJf (without xz: python3 -m tarfile -e), then ./gpu_check.sh"
[ "$size" -le $((60 << 20)) ] || { echo "gpu_bundle: larger than 60 MiB" >&2; exit 1; }
