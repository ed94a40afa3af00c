#!/usr/bin/env python3
"""What each kernel for NVIDIA cards takes of a multiprocessor: reads what ptxas said when BUILD was built (scripts/keep_ptxas.sh), and
writes registers, static shared memory, stack and spilled bytes of every kernel and card as a table. Fails where a kernel spills or
has a stack, unless SPILLS names it with its reason, and where ptxas waits between the wgmma of one (C75xx).

    tools/cuda_resources.py BUILD [--out BUILD/cuda_resources.tsv]
"""
import argparse
import pathlib
import re
import subprocess
import sys

# Beginnings of kernels' names that may, and why.
SPILLS = {
    "attend<float, HeadSize<256, 256>": "f32 heads of 256 are of no training run that counts",
    "attend<__nv_bfloat16, HeadSize<256, 256>": "120 bytes in the outer loop of heads of 256 (Gemma)",
    "key_grad<float, ": "f32 is for checks: 172 to 296 bytes of heads of 128 and 256",
    "query_grad<float, ": "as above: 72 to 392 bytes",
    "query_grad<__nv_bfloat16, HeadSize<192, 128>": "24 bytes on sm_80 alone (MLA)",
    "query_grad<__nv_bfloat16, HeadSize<256, 256>": "24 bytes on sm_80 alone (Gemma)",
    "expert_row_tiles<TileShape<float, 2, 2, 2>, false": "f32 is for checks: 16 and 32 bytes of weights in FP8 blocks",
    "expert_row_tiles<TileShape<__nv_bfloat16, 2, 4, 4>, false, true, WeightLines<__nv_bfloat16, (WeightKind)2": "16 bytes on sm_90a of the "
    "gradient through weights in FP8 blocks, which have no kernel by wgmma yet",
    "matmul_tiles<TileShape<__nv_bfloat16, 2, 2, 2>, false, false": "8 and 24 bytes of products whose rows are at no multiple of 16 bytes",
}

ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def rows_of(said):
    """(card, mangled kernel, registers, shared, stack, spilled) of every kernel of a file."""
    rows, entry, frame = [], None, (0, 0, 0)
    for line in said.splitlines():
        if found := ENTRY.search(line):
            entry = found.groups()
        elif found := FRAME.search(line):
            frame = tuple(map(int, found.groups()))
        elif (found := USED.search(line)) and entry:
            shared = SHARED.search(line)
            rows.append((entry[1], entry[0], int(found[1]), int(shared[1]) if shared else 0, frame[0], frame[1] + frame[2]))
            entry, frame = None, (0, 0, 0)
    return rows


def readable(mangled):
    """Kernels' names without namespaces, parameters and what nvcc adds."""
    names = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        name = re.sub(r"hone::kernels::cuda::|hone::kernels::|\(anonymous namespace\)::|_INTERNAL_\w+::", "", name)
        name = re.sub(r"^void ", "", name)
        depth = 0
        for i, c in enumerate(name):  # parameters begin at the first parenthesis outside of template arguments
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                name = name[:i]
                break
        yield name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    out = args.out or args.build / "cuda_resources.tsv"
    files = sorted((args.build / "CMakeFiles/hone_kernels_cuda.dir/src/kernels/cuda").glob("*.cu.o.ptxas"))
    if not files:
        sys.exit(f"{args.build}: nothing of ptxas there; is it built with HONE_CUDA=ON?")
    table, bad, seen = [], [], set()
    for path in files:
        file, rows = path.name.removesuffix(".o.ptxas"), rows_of(path.read_text())
        if not rows:
            bad.append(f"{file}: ptxas told of no kernel")
        bad += [f"{file}: wgmma that ptxas does not leave as they are: {line}" for line in path.read_text().splitlines() if "(C75" in line]
        for (card, _, registers, shared, stack, spilled), name in zip(rows, readable([r[1] for r in rows])):
            table.append((file, name, f"sm_{card}", registers, shared, stack, spilled))
            if not spilled and not stack:
                continue
            excused = [known for known in SPILLS if name.startswith(known)]
            seen.update(excused)
            if not excused:
                bad.append(f"{file}: {name} on sm_{card} spills {spilled} bytes, has a stack of {stack}")
    bad += [f"{name} does not spill any more: take it out of SPILLS" for name in SPILLS if name not in seen]
    lines = ["file\tkernel\tcard\tregisters\tshared bytes\tstack bytes\tspilled bytes"]
    lines += ["\t".join(map(str, row)) for row in sorted(table)]
    out.write_text("\n".join(lines) + "\n")
    most = {}
    for file, name, card, registers, shared, _, _ in table:
        of_file = most.setdefault(file, [0, 0, 0])
        of_file[0] += card == "sm_90a"
        of_file[1], of_file[2] = max(of_file[1], registers), max(of_file[2], shared)
    print(f"{'file':28} {'kernels':>7} {'registers':>9} {'static shared':>13}   (most of any card)")
    for file, (kernels, registers, shared) in sorted(most.items()):
        print(f"{file:28} {kernels:7} {registers:9} {shared:13}")
    print("\n".join(bad) or f"{len(table)} kernels and cards, no other spills than {len(SPILLS)} known: {out}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
