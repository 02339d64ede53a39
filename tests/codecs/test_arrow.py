"""What Arrow has comes back as what it was, and bytes that are not what they say are refused."""

from __future__ import annotations

from typing import Any

import pyarrow
import pytest

from flash_kv.codecs import Arrow

TABLE = pyarrow.table({"n": list(range(100)), "text": [f"row {n}" for n in range(100)]})
ARROW_VALUES: dict[str, Any] = {
    "table": TABLE,
    "table of none": TABLE.slice(0, 0),
    "table with metadata": TABLE.replace_schema_metadata({"unit": "K"}),
    "record batch": TABLE.to_batches()[0],
    "record batch of none": pyarrow.RecordBatch.from_pylist([], pyarrow.schema([("n", pyarrow.int8())])),
    "record batch with metadata": TABLE.to_batches()[0].replace_schema_metadata({"unit": "K"}),
    "array": pyarrow.array([1, None, 3]),
    "array of none": pyarrow.array([], pyarrow.string()),
    "array of a slice": pyarrow.array(range(100)).slice(7, 20),
    "array of texts": pyarrow.array(["a", None, "bc"]),
    "array of lists": pyarrow.array([[1, 2], [], None]),
    "array of structs": pyarrow.array([{"a": 1, "b": "x"}, None]),
    "array of a dictionary": pyarrow.array(["a", "b", "a"]).dictionary_encode(),
    "array of nulls": pyarrow.nulls(3),
    "chunked array": pyarrow.chunked_array([[1, 2], [3]]),
    "chunked array of none": pyarrow.chunked_array([], pyarrow.int32()),
}


@pytest.mark.parametrize("name", ARROW_VALUES)
def test_what_arrow_has_comes_back_as_what_it_was(name: str) -> None:
    value = ARROW_VALUES[name]
    for codec in (Arrow(), Arrow(is_trusted=True)):
        found = codec.decode(memoryview(bytes(memoryview(codec.encode(value)))))
        assert type(found) is type(value)
        assert found.equals(value)
        if isinstance(value, (pyarrow.Table, pyarrow.RecordBatch)):
            assert found.schema.equals(value.schema, check_metadata=True)
        else:
            assert found.type == value.type


def arrow_stream(batches: int, columns: int, kind: bytes) -> bytes:
    names = [str(column) for column in range(columns)]
    batch = pyarrow.RecordBatch.from_arrays([pyarrow.array([1])] * columns, names)
    sink = pyarrow.BufferOutputStream()
    schema = batch.schema.with_metadata({b"flash_kv.kind": kind})
    with pyarrow.ipc.new_stream(sink, schema) as stream:
        for _ in range(batches):
            stream.write(batch.replace_schema_metadata(schema.metadata))
    return bytes(memoryview(sink.getvalue()))


@pytest.mark.parametrize(
    ("batches", "columns", "kind", "message"),
    [
        (0, 1, b"array", "0 parts"),
        (2, 1, b"array", "2 parts"),
        (1, 0, b"array", "0 parts"),
        (1, 2, b"array", "2 parts"),
        (1, 2, b"chunked array", "2 parts"),
        (2, 1, b"record batch", "2 parts"),
        (1, 1, b"scalar", "unknown kind"),
    ],
)
def test_arrow_streams_that_are_not_what_they_say_are_refused(
    batches: int, columns: int, kind: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Arrow().decode(memoryview(arrow_stream(batches, columns, kind)))
