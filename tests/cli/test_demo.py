"""The demo: it passes on the real standard library, and every proof in it can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flash_kv
from flash_kv.cli.demo import proofs
from flash_kv.cli.demo.corpus import Corpus, read_corpus
from flash_kv.cli.demo.kill import load_and_kill
from flash_kv.cli.progress import progress_bar


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    root = tmp_path / "corpus"
    root.mkdir()
    for number in range(400):
        (root / f"f{number:03}").write_bytes(b"%d\n" % number * 50)
    return read_corpus(root)


@pytest.fixture
def loaded(corpus: Corpus, store: Path):
    with flash_kv.open(store) as db:
        db.put_many((key, corpus.content(key)) for key in corpus.sizes)
        yield db


def test_the_demo_passes_and_keeps_its_store(process, tmp_path: Path) -> None:
    outcome = process("demo", "--keep", "kept", "--records", "500", "--json")
    assert outcome.code == 0, outcome.stderr
    results = json.loads(outcome.text)
    assert 0 < results["killed"]["acknowledged"] < results["corpus"]["files"]
    assert results["reopened"]["acknowledged"] == results["killed"]["acknowledged"]
    assert results["reopened"]["recovery"]["was_clean"] is False
    assert results["compaction"]["du_bytes_after"] < results["compaction"]["du_bytes_before"]
    assert len(results["latencies"]["operations"]) >= 6
    assert process("get", "kept/stdlib", results["compaction"]["example_key"]).code == 0
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["stdlib"]


def test_the_demo_tells_its_story_and_what_to_try_next(process, tmp_path: Path) -> None:
    outcome = process("demo", "--keep", "kept", "--records", "500")
    assert outcome.code == 0, outcome.stderr
    assert outcome.text.count("PROVED") == 3
    assert f"scan {tmp_path.resolve()}/kept/stdlib --prefix json/" in outcome.text
    assert outcome.stderr == ""


def test_the_demo_refuses_a_directory_that_holds_something(run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "precious").touch()
    assert run("demo", "--keep", "kept").code == 2


def test_what_a_killed_process_had_acknowledged_is_there(corpus: Corpus, store: Path) -> None:
    with progress_bar("loading", None) as bar:
        acknowledged = load_and_kill(store, corpus, {"segment_bytes_max": 65536}, bar)
    assert 0 < len(acknowledged) <= len(corpus.sizes)
    with flash_kv.open(store) as db:
        assert not db.stats().recovery.was_clean
        assert proofs.prove_present(db, corpus, acknowledged) == len(acknowledged)
        proofs.prove_in_flight_only(db, corpus, acknowledged)


def test_a_loading_process_that_fails_by_itself_fails_the_demo(corpus: Corpus, tmp_path: Path) -> None:
    from flash_kv.cli.exits import Failure

    with (
        progress_bar("loading", None) as bar,
        pytest.raises(Failure, match=r"ended by itself with 1: .*absent"),
    ):
        load_and_kill(tmp_path / "absent" / "parent" / "db", corpus, {}, bar)


def test_the_proofs_hold_for_a_store_that_is_equal(loaded, corpus: Corpus) -> None:
    proofs.prove_present(loaded, corpus, corpus.sizes)
    proofs.prove_nothing_else(loaded, corpus, corpus.sizes)
    proofs.prove_undamaged(loaded)


def test_a_missing_entry_fails_the_proof(loaded, corpus: Corpus) -> None:
    del loaded[b"f007"]
    with pytest.raises(proofs.ProofFailed, match="f007 is missing"):
        proofs.prove_present(loaded, corpus, corpus.sizes)
    with pytest.raises(proofs.ProofFailed, match="399 keys, 400 are expected"):
        proofs.prove_nothing_else(loaded, corpus, corpus.sizes)


def test_a_different_entry_fails_the_proof(loaded, corpus: Corpus) -> None:
    loaded[b"f007"] = b"other"
    with pytest.raises(proofs.ProofFailed, match="f007 differs from its file"):
        proofs.prove_present(loaded, corpus, corpus.sizes)
    with pytest.raises(proofs.ProofFailed, match="f007 differs from its file in a scan"):
        proofs.prove_nothing_else(loaded, corpus, corpus.sizes)


def test_an_entry_too_many_fails_the_proof(loaded, corpus: Corpus) -> None:
    loaded[b"ghost"] = b""
    with pytest.raises(proofs.ProofFailed, match="ghost was never stored"):
        proofs.prove_nothing_else(loaded, corpus, corpus.sizes)


def test_a_deleted_entry_that_is_back_fails_the_proof(loaded) -> None:
    with pytest.raises(proofs.ProofFailed, match="f007 is back"):
        proofs.prove_absent(loaded, [b"f007"])


def test_an_entry_from_the_future_fails_the_proof(corpus: Corpus, store: Path) -> None:
    keys = list(corpus.sizes)
    with flash_kv.open(store) as db:
        db.put_many((key, corpus.content(key)) for key in [*keys[:3], keys[7]])
        with pytest.raises(proofs.ProofFailed, match="had not even begun"):
            proofs.prove_in_flight_only(db, corpus, keys[:3])


def test_a_failed_proof_exits_with_1(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from flash_kv.cli.demo.story import Story

    def fail(story: Story) -> list[bytes]:
        raise proofs.ProofFailed("a byte differs")

    monkeypatch.setattr(Story, "load_until_killed", fail)
    outcome = run("demo", "--keep", "kept")
    assert outcome.code == 1
    assert outcome.stderr == "error: PROOF FAILED: a byte differs; the store is left as it is\n"
