"""The table that verify_hf.py prints, and the hone program it asks."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any


class Report:
    """One line per check, as it ends; end() sums up and gives the exit status."""

    def __init__(self) -> None:
        self.passed = 0
        self.failures: list[str] = []
        self.subject = ""

    def begin(self, subject: str) -> None:
        self.subject = subject
        print(subject, flush=True)

    def check(self, what: str, good: bool, figure: str = "") -> bool:
        print(f"  {'ok  ' if good else 'FAIL'}  {what:34} {figure}", flush=True)
        if good:
            self.passed += 1
        else:
            self.failures.append(f"{self.subject}: {what}: {figure}")
        return good

    def at_most(self, what: str, value: float, limit: float) -> bool:
        """NaN fails: the comparison is false."""
        return self.check(what, value <= limit, f"{value:.2e}  (at most {limit:.1e})")

    def note(self, what: str, figure: str) -> None:
        print(f"  note  {what:34} {figure}", flush=True)

    def end(self) -> int:
        print(f"\n{self.passed} checks passed, {len(self.failures)} failed")
        for failure in self.failures:
            print(f"  {failure}")
        if self.passed == 0:
            print("  nothing was checked")
        return 1 if self.failures or self.passed == 0 else 0


class HoneFailed(Exception):
    """hone ended with another status than 0; the text holds the last line on its stderr."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(f"exit {status}: {line}")
        self.status = status


class Hone:
    """The program under test."""

    def __init__(self, program: Path) -> None:
        self.program = program.resolve()

    def run(self, *arguments: object) -> str:
        command = [str(self.program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["(nothing on stderr)"]
            raise HoneFailed(done.returncode, lines[-1])
        return done.stdout

    def rows(self, verb: str, model: Path, rows: list[dict[str, Any]], *flags: str) -> list[dict[str, Any]]:
        """A verb that turns JSONL rows into JSONL rows."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
            write_rows(source, rows)
            self.run(verb, model, "--in", source, "--out", target, *flags)
            return [json.loads(line) for line in target.read_text(encoding="utf-8").split("\n") if line]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
