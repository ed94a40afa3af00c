"""Writes the Parquet files beside this one. Needs pyarrow: python3 make.py"""
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent

call = pa.struct([("name", pa.string()), ("arguments", pa.struct([("city", pa.string()), ("days", pa.int64())]))])
message = pa.struct([
    ("role", pa.dictionary(pa.int32(), pa.string())),
    ("content", pa.string()),
    ("tool_calls", pa.list_(pa.struct([("type", pa.string()), ("function", call)]))),
])
# Arrow's habit: every message has every field, null where it was absent.
rows = [{
    "messages": [
        {"role": "user", "content": f"Question {i}: \"é\"\n", "tool_calls": None},
        {"role": "assistant", "content": f"Answer {i}", "tool_calls": None},
    ],
    "score": float("nan") if i == 3 else i / 4,
    "tools": None,
} for i in range(40)]
rows[1]["messages"][1] = {
    "role": "assistant", "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "days": None}}}],
}
schema = pa.schema([
    ("messages", pa.list_(message)),
    ("score", pa.float64()),
    ("tools", pa.list_(pa.struct([("type", pa.string())]))),
])
pq.write_table(pa.Table.from_pylist(rows, schema), here / "messages.parquet", compression="snappy", row_group_size=16)

types = pa.table({
    "text": pa.array(["a", None], pa.large_string()),
    "bool": pa.array([True, False]),
    "i8": pa.array([-128, 127], pa.int8()),
    "u64": pa.array([2**64 - 1, 0], pa.uint64()),
    "f32": pa.array([0.1, float("inf")], pa.float32()),
    "bytes": pa.array([b"ab", b"\xff\xfe"], pa.binary()),
    "date": pa.array([0, 1], pa.date32()),
    "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int32())),
    "fixed": pa.array([[1, 2], [3, None]], pa.list_(pa.int16(), 2)),
    "nested": pa.array([[[1], []], None], pa.list_(pa.list_(pa.int64()))),
})
pq.write_table(types, here / "types.parquet", compression="zstd")

ids = pa.table({"input_ids": pa.array([[1, 2, 3], [4, 5]], pa.list_(pa.int32())),
                "labels": pa.array([[-100, 2, 3], [-100, 5]], pa.list_(pa.int64()))})
pq.write_table(ids, here / "ids.parquet", compression="gzip", version="1.0")

# Types that only Arrow's own schema tells apart, texts that make a dictionary fall back within a row group, and several
# row groups: each column must come out as if it were plain.
texts = [f"text {i} " + "x" * 400 for i in range(600)]
arrow = pa.table({
    "turns": pa.array([[{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}] for text in texts],
                      pa.list_(pa.struct([("role", pa.dictionary(pa.int8(), pa.string())),
                                          ("content", pa.dictionary(pa.int32(), pa.large_string()))]))),
    "kind": pa.array(["a", "b", None] * 200).dictionary_encode(),
    "view": pa.array([f"view {i}" for i in range(600)], pa.string_view()),
    "large": pa.array([[i] for i in range(600)], pa.large_list(pa.int64())),
    "f16": pa.array([0.5] * 600, pa.float16()),
    "fixed": pa.array([b"four"] * 600, pa.binary(4)),
})
pq.write_table(arrow, here / "arrow.parquet", compression="zstd", row_group_size=250, dictionary_pagesize_limit=20000,
               data_page_size=4096)
