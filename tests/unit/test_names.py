"""File names: made and parsed in one place, exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.log.names import (
    INDEX,
    LOCK,
    MANIFEST,
    RESERVE,
    SEGMENT_ID_MAX,
    FileName,
    hint_name,
    parse,
    segment_name,
    temporary_name,
)

segment_ids = st.integers(1, SEGMENT_ID_MAX)


def test_names_look_as_documented() -> None:
    assert segment_name(1) == "0000000001.seg"
    assert hint_name(SEGMENT_ID_MAX) == "0268435455.hint"
    assert temporary_name(MANIFEST) == "tmp-MANIFEST"


@given(segment_ids)
def test_every_name_made_is_parsed(segment_id: int) -> None:
    assert parse(segment_name(segment_id)) == FileName("segment", segment_id)
    assert parse(hint_name(segment_id)) == FileName("hint", segment_id)
    assert parse(temporary_name(segment_name(segment_id))) == FileName("temporary", segment_id)


def test_fixed_names_are_parsed() -> None:
    assert parse(MANIFEST) == FileName("manifest")
    assert parse(LOCK) == FileName("lock")
    assert parse(RESERVE) == FileName("reserve")
    assert parse(INDEX) == FileName("index")
    assert parse("tmp-MANIFEST") == FileName("temporary")


FOREIGN = [
    "",
    "1.seg",
    "0000000000.seg",
    "0268435456.seg",
    "9999999999.seg",
    "00000000001.seg",
    "000000001.seg",
    "0000000001.SEG",
    "0000000001.seg ",
    "0000000001.seg\n",
    " 0000000001.seg",
    "-000000001.seg",
    "+000000001.seg",
    "0000_00001.seg",
    "٠٠٠٠٠٠٠٠٠١.seg",
    "0000000001.seg.hint",
    "0000000001",
    "manifest",
    "MANIFEST\n",
    "tmp-",
    "tmp-tmp-MANIFEST",
    "tmp-notes.txt",
    "TMP-MANIFEST",
    "../MANIFEST",
    "notes.txt",
    "tmp-" * 100_000,
]


@pytest.mark.parametrize("name", FOREIGN, ids=[ascii(name[:30]) for name in FOREIGN])
def test_foreign_names_are_none_of_ours(name: str) -> None:
    assert parse(name) is None


@given(st.one_of(st.text(), st.from_regex(r"(tmp-)?[0-9]{9,11}\.(seg|hint)")))
def test_parse_accepts_only_what_is_made_here(name: str) -> None:
    parsed = parse(name)
    if parsed is None:
        return
    finished = name.removeprefix("tmp-")
    if parsed.segment_id is None:
        assert finished in (MANIFEST, LOCK, RESERVE)
    else:
        assert finished in (segment_name(parsed.segment_id), hint_name(parsed.segment_id))


@pytest.mark.parametrize("segment_id", [0, -1, SEGMENT_ID_MAX + 1])
def test_ids_out_of_range_get_no_name(segment_id: int) -> None:
    with pytest.raises(ValueError, match="segment id"):
        segment_name(segment_id)
    with pytest.raises(ValueError, match="segment id"):
        hint_name(segment_id)


@pytest.mark.parametrize("name", ["notes.txt", "tmp-MANIFEST", ""])
def test_only_finished_files_have_temporaries(name: str) -> None:
    with pytest.raises(ValueError, match="finished file"):
        temporary_name(name)
