"""Two checkpoint directories: the same files, keys, dtypes, shapes, shards and (if asked) values?"""

from __future__ import annotations

import json
from pathlib import Path

from verify.report import Report

IGNORED = {"golden.safetensors"}


def header_and_data(path: Path) -> tuple[bytes, memoryview]:
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    return raw[8:end], memoryview(raw)[end:]


def different_tensors(header: bytes, ours: memoryview, theirs: memoryview) -> list[str]:
    """Names of the tensors whose bytes differ between two data parts under the same header."""
    spans = {k: v["data_offsets"] for k, v in json.loads(header).items() if k != "__metadata__"}
    return [key for key, (begin, end) in spans.items() if ours[begin:end] != theirs[begin:end]]


def compare_directories(report: Report, source: Path, made: Path, same_values: bool) -> None:
    """Headers and other files must be equal byte for byte; weights only with `same_values`."""
    names = [{f.name for f in d.iterdir() if f.is_file()} - IGNORED for d in (source, made)]
    report.check("same files", names[0] == names[1], ", ".join(sorted(names[0] ^ names[1])))
    changed = []
    for name in sorted(names[0] & names[1]):
        if not name.endswith(".safetensors"):
            if (source / name).read_bytes() != (made / name).read_bytes():
                changed.append(name)
            continue
        (old_header, old), (new_header, new) = header_and_data(source / name), header_and_data(made / name)
        if not report.check(f"{name}: same header", old_header == new_header) or not same_values:
            continue
        wrong = different_tensors(old_header, old, new)
        report.check(f"{name}: same values", not wrong and len(old) == len(new), ", ".join(wrong[:4]))
    report.check("other files byte for byte", not changed, ", ".join(changed))
