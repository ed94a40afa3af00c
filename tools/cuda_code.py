#!/usr/bin/env python3
"""What only the machine code of the kernels for NVIDIA cards shows: disassembles those of BUILD for compute capability 9.0 and later, and fails
where

- a kernel comes to an access of global memory, or to its end, without having passed griddepcontrol.wait (ACQBULK; src/kernels/cuda/launch.cuh):
  each is followed from its first instruction on. The compiler may put a load before the wait: it does so with what `__restrict__` or `__ldg`
  promise that nobody writes (ld.global.nc, for which PTX gives no order);
- a warp that multiplies by wgmma waits for a fence of the whole card (MEMBAR of GPU or SYS) in a loop with its products. The compiler makes one of
  `.release.cluster`, some hundred clocks each time.

    tools/cuda_code.py BUILD [--cuobjdump PATH]

Needs cuobjdump, and nvdisasm beside it, of the toolkit or of scripts/setup.sh --disassemblers.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ARCHITECTURE = re.compile(r"^\s*arch = sm_(\d+)(\w*)")
KERNEL = re.compile(r"^\s*Function : (\S+)")
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+((?:@!?U?P\w+\s+)?)([A-Z][\w.]*)\s*([^;]*);")
TARGET = re.compile(r"\b0x([0-9a-f]+)\s*$")

WAIT = "ACQBULK"
# Of global memory, or of memory that may be it; shared, local and constant memory have names of their own (LDS, LDL, LDC).
TOUCHES = {"LD", "ST", "LDG", "STG", "LDGSTS", "ATOM", "ATOMG", "RED", "REDG", "UTMALDG", "UTMASTG", "UTMAREDG", "UTMAPF", "UBLKCP", "UBLKRED", "LDGMC"}
ENDS = {"EXIT", "RET", "KILL", "BPT"}
JUMPS = {"BRA", "JMP", "BREAK", "CALL"}
UNKNOWN = {"BRX", "JMX", "BRXU", "JMXU"}
PRODUCTS = {"HGMMA", "QGMMA", "IGMMA", "BGMMA"}  # wgmma


def follow(code):
    """What is wrong with a kernel, its instructions by address; "" if nothing. Code after a wait is not looked at."""
    if not code:
        return "no instruction was read"
    addresses = sorted(code)
    after = dict(zip(addresses, [*addresses[1:], None]))
    opened, seen = [addresses[0]], set()
    while opened:
        at = opened.pop()
        while at is not None and at not in seen:
            seen.add(at)
            predicate, name, operands = code[at]
            base = name.split(".")[0]
            if predicate in ("@!PT", "@!UPT"):
                at = after[at]
                continue
            always = predicate in ("", "@PT", "@UPT")
            if base == WAIT:
                if always:
                    break
                return f"waits on a condition at {at:#x}"
            if base in TOUCHES:
                return f"{name} at {at:#x} before the wait"
            if base in UNKNOWN:
                return f"{name} at {at:#x}: nobody knows where to"
            if base in ENDS:
                return f"ends at {at:#x} without having waited"
            if base in JUMPS:
                target = TARGET.search(operands)
                if target is None:
                    return f"{name} {operands.strip()} at {at:#x}: nobody knows where to"
                opened.append(int(target[1], 16))
                if always and base != "CALL":
                    break
            at = after[at]
            if at is None:
                return "runs past its last instruction"
    return ""


def loops(code):
    """For each address of a kernel one that is the same for all of a loop (of the outermost that it is in)."""
    addresses = sorted(code)
    after = dict(zip(addresses, addresses[1:]))
    ahead, back = {at: [] for at in addresses}, {at: [] for at in addresses}
    for at in addresses:
        predicate, name, operands = code[at]
        base, always, target = name.split(".")[0], predicate in ("", "@PT", "@UPT"), TARGET.search(operands)
        if at in after and not (always and base in ENDS | {"BRA", "JMP"}):
            ahead[at].append(after[at])
        if base in JUMPS and target and int(target[1], 16) in code:
            ahead[at].append(int(target[1], 16))
        for to in ahead[at]:
            back[to].append(at)
    finished, seen = [], set()
    for root in addresses:  # Kosaraju's components
        opened = [] if root in seen else [(root, iter(ahead[root]))]
        seen.add(root)
        while opened:
            at, rest = opened[-1]
            if (to := next((to for to in rest if to not in seen), None)) is None:
                finished.append(opened.pop()[0])
            else:
                seen.add(to)
                opened.append((to, iter(ahead[to])))
    loop_of = {}
    for root in reversed(finished):
        opened = [] if root in loop_of else [root]
        while opened:
            at = opened.pop()
            loop_of[at] = root
            opened += [to for to in back[at] if to not in loop_of]
    return loop_of


def find_fence(code):
    """The fence in a loop with a kernel's products; "" where there is none."""
    products = [at for at, (_, name, _) in code.items() if name.split(".")[0] in PRODUCTS]
    fences = [at for at, (_, name, _) in code.items() if name.startswith("MEMBAR") and name.endswith((".GPU", ".SYS"))]
    if not products or not fences:
        return ""
    loop_of = loops(code)
    multiplying = {loop_of[at] for at in products}
    return next((f"{code[at][1]} at {at:#x} in a loop with its wgmma" for at in sorted(fences) if loop_of[at] in multiplying), "")


def is_empty(code):
    """A kernel of another card: it ends at once, and nobody launches it."""
    names = {name.split(".")[0] for _, name, _ in code.values()}
    return not names & (TOUCHES | {WAIT})


def kernels_of(lines):
    """(architecture, its suffix, kernel, instructions by address) of a disassembly."""
    architecture, suffix, kernel, code = 0, "", "", {}
    for line in lines:
        if found := INSTRUCTION.match(line):
            code[int(found[1], 16)] = (found[2].strip(), found[3], found[4])
        elif found := ARCHITECTURE.match(line):
            if kernel:
                yield architecture, suffix, kernel, code
            architecture, suffix, kernel, code = int(found[1]), found[2], "", {}
        elif found := KERNEL.match(line):
            if kernel:
                yield architecture, suffix, kernel, code
            kernel, code = found[1], {}
    if kernel:
        yield architecture, suffix, kernel, code


def look_at(cuobjdump, path):
    """(kernels that wait, kernels that are empty, what is wrong) of an object file."""
    environment = os.environ | {"PATH": f"{pathlib.Path(cuobjdump).parent}:{os.environ.get('PATH', '')}"}
    wait, empty, bad = 0, 0, []
    with subprocess.Popen([cuobjdump, "-sass", path], stdout=subprocess.PIPE, text=True, env=environment) as process:
        for architecture, suffix, kernel, code in kernels_of(process.stdout):
            if architecture < 90:
                continue
            if suffix != "a" and is_empty(code):
                empty += 1
            elif why := follow(code) or find_fence(code):
                bad.append(f"{path.name}: {kernel} on sm_{architecture}{suffix}: {why}")
            else:
                wait += 1
    if process.returncode:
        bad.append(f"{path.name}: {cuobjdump} exits with {process.returncode}")
    return wait, empty, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    fetched = pathlib.Path(__file__).parent.parent / "build/cuda-libraries/nvidia/cu13/bin/cuobjdump"
    parser.add_argument("--cuobjdump", default=next(filter(None, map(shutil.which, ("cuobjdump", "/usr/local/cuda/bin/cuobjdump", str(fetched)))), None))
    args = parser.parse_args()
    files = sorted((args.build / "CMakeFiles/hone_kernels_cuda.dir/src/kernels/cuda").glob("*.cu.o"))
    if not files:
        sys.exit(f"{args.build}: no kernels there; is it built with HONE_CUDA=ON?")
    if args.cuobjdump is None:
        print("cuda_code: skipped, no cuobjdump; scripts/setup.sh --disassemblers fetches it")
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda path: look_at(args.cuobjdump, path), files))
    wait, empty = (sum(of_file[i] for of_file in found) for i in (0, 1))
    bad = [line for of_file in found for line in of_file[2]]
    if not wait and not bad:
        bad = ["no kernel for compute capability 9.0 or later was found"]
    print("\n".join(bad) or f"{wait} kernels and cards wait before they touch memory, and fence nothing among wgmma; {empty} are empty, for other cards")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
