#!/usr/bin/env python3
"""Plants one bug at a time (mutations.txt) into a copy of src/kernels/cuda, builds what it touches, and runs a test in the
emulator: prints a line per bug, and how many were caught. BUILD is a configured cuda-emulation build. Fails where a bug that
is not explained there goes unseen, or fewer than 95 in 100 are caught.

    tests/cuda_emulation/mutate.py BUILD [--from N] [--to N] [--file GLOB] [--jobs N]
"""
import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent


def mutations():
    for line in (HERE / "mutations.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            file, only, before, after, *why = (part.replace("\0", "|") for part in re.split(r" \|(?: |$)", line.replace(r"\|", "\0")))
            yield file, only.strip(), before.replace(r"\n", "\n"), after.replace(r"\n", "\n"), "".join(why)


def planted(text, before, after):
    place, which = 0, re.match(r"(\d+):", before)
    if which:
        place, before = int(which[1]), before[which.end():]
    at = [m.start() for m in re.finditer(re.escape(before), text)]
    if len(at) == 0 or (not which and len(at) != 1) or place > len(at):
        raise ValueError(f"{before!r} occurs {len(at)} times")
    start = at[max(place - 1, 0)]
    return text[:start] + after + text[start + len(before):]


def users(file, only):
    """The sources to build again: of a header, those that have a kernel of the slots that are run."""
    if file.endswith(".cu"):
        return [file]
    if file == "attention_grad_hopper.cuh":
        return ["attention_grad_keys_hopper.cu", "attention_grad_queries_hopper.cu"]
    if only == "*attention_grad":
        return ["attention_grad_keys.cu", "attention_grad_queries.cu"]  # whose slot is in attention_grad.cu
    if only == "CudaHead.*":
        return ["head.cu"]
    slot = re.compile(r"^void (\w+)\(const \w+Args& \w+, Stream& \w+\)", re.M)
    wanted = only.rpartition("/")[2]  # of a test its parameter, which is a slot
    found = [path.name for path in sorted((SOURCE / "src/kernels/cuda").glob("*.cu"))
             if any(fnmatch.fnmatch(name, wanted) for name in slot.findall(path.read_text()))]
    return found or sys.exit(f"mutations.txt: no kernel is {only}")


def outcome(build, commands, link, number, mutation):
    """How the bug was caught, "" if it was not."""
    file, only, before, after, _ = mutation
    with tempfile.TemporaryDirectory() as folder:
        room = pathlib.Path(folder) / "kernels" / "cuda"
        shutil.copytree(SOURCE / "src/kernels/cuda", room)
        (room / file).write_text(planted((room / file).read_text(), before, after))
        others = []
        for user in users(file, only):
            words = [w for w in shlex.split(commands[user]["command"]) if not w.endswith("ccache")]
            words[words.index("-o") + 1] = other = f"{folder}/{user}.o"
            words[words.index("-c") + 1] = str(room / user)
            words.insert(next(i for i, w in enumerate(words) if w.startswith("-I")), f"-I{folder}")  # before the true room
            done = subprocess.run(words + ["-w"], cwd=commands[user]["directory"], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{number}: does not compile: {done.stderr}")
            others.append(other)
        # before the library, whose own of those names are then not taken
        step = link.replace(" -o test_cuda_emulation ", f" -o {folder}/mutant {' '.join(others)} ")
        subprocess.run(step, cwd=build, shell=True, check=True)
        test = "--gtest_filter=" + (only if "." in only else f"EverySlot/*CudaKernels.AgreeWithTheReference/{only}")
        # Seconds of the processor's, not of the clock: a machine with other work is slow, not caught.
        run = subprocess.run([f"{folder}/mutant", "--gtest_brief=1", test], capture_output=True, text=True,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (600, 600)),
                             env={**os.environ, "GTEST_BREAK_ON_FAILURE": "1", "OMP_NUM_THREADS": "1"})  # jobs side by side
        if run.returncode == -signal.SIGXCPU or run.returncode == -signal.SIGKILL:
            return "hangs"
        if run.returncode == 0:
            return ""
        return "emulator" if "[cuda emulation]" in run.stdout + run.stderr else "numbers"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--to", dest="last", type=int, default=10**6)
    parser.add_argument("--file", default="*", help="bugs of the files of this name alone")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    stale = []
    for number, (file, _, before, after, _) in enumerate(mutations(), 1):
        try:
            planted((SOURCE / "src/kernels/cuda" / file).read_text(), before, after)
        except (OSError, ValueError) as error:
            stale.append(f"mutations.txt: {number}, {file}: {error}")
    if stale:
        sys.exit("\n".join(stale))
    build = args.build.resolve()
    commands = {pathlib.Path(c["file"]).name: c for c in json.loads((build / "compile_commands.json").read_text())
                if "/src/kernels/cuda/" in c["file"]}
    steps = subprocess.run(["ninja", "-C", build, "-t", "commands", "test_cuda_emulation"], capture_output=True, text=True, check=True)
    link = next(line for line in steps.stdout.splitlines() if " -o test_cuda_emulation " in line)
    chosen = [(i, m) for i, m in enumerate(mutations(), 1) if args.first <= i <= args.last and fnmatch.fnmatch(m[0], args.file)]
    missed, unexplained = [], []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for (number, (file, only, before, after, why)), how in zip(
                chosen, pool.map(lambda c: outcome(build, commands, link, *c), chosen)):
            if not how:
                missed.append(number)
                unexplained += [] if why else [number]
            print(f"{number:3} {how or 'MISSED':8} {file:15} {before!r} -> {after!r}{'' if how or not why else ': ' + why}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught; missed: {missed}, of these unexplained: {unexplained}")
    sys.exit(bool(unexplained) or len(missed) * 20 > len(chosen))


if __name__ == "__main__":
    main()
