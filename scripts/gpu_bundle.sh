#!/usr/bin/env bash
# Gathers what a machine with an NVIDIA card needs to check hone there: programs, the libraries they were linked to (all but the C library's
# and CUDA's), goldens, demo and scripts. Usage: gpu_bundle.sh BUILD OUT.tar.xz
set -euo pipefail
build=$(realpath "$1") out=$(realpath -m "$2")
cd "$(dirname "$0")/.."
bundle=$(mktemp -d)
trap 'rm -rf "$bundle"' EXIT
mkdir -p "$bundle/lib" "$bundle/tests/data" "$bundle/tools" "$bundle/bench"
for program in hone test_cuda test_golden; do
  cp "$build/$program" "$bundle/"
  strip "$bundle/$program"
  ldd "$build/$program" | awk '$3 ~ /^\// {print $3}'
done | sort -u | grep -Ev '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' | while read -r library; do cp -L "$library" "$bundle/lib/"; done
cp -r tests/data/* "$bundle/tests/data/"
cp -r demo "$bundle/"
cp -r bench/gpu bench/qwen3_moe_115m "$bundle/bench/"
cp tools/gpu_check.py tools/bench_hf.py "$bundle/tools/"
git rev-parse HEAD >"$bundle/COMMIT" 2>/dev/null || true
cat >"$bundle/gpu_check.sh" <<'EOF'
#!/usr/bin/env bash
# Usage: ./gpu_check.sh [--minutes M] [--out results.jsonl]
exec python3 "$(dirname "$(realpath "$0")")/tools/gpu_check.py" "$@"
EOF
chmod +x "$bundle/gpu_check.sh"
# The programs hold the same kernels, 80 MB of them: a window that spans them keeps one copy.
tar -C "$bundle" -c . | xz --lzma2=preset=6,dict=256MiB >"$out"
size=$(stat -c %s "$out")
echo "$out: $((size >> 20)) MiB; there: tar xJf, then ./gpu_check.sh"
[ "$size" -le $((60 << 20)) ] || { echo "gpu_bundle: larger than 60 MiB" >&2; exit 1; }
