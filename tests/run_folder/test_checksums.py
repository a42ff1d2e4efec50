"""Damage to files of a run folder is named; what is whole is read; what grows is cut back to its checkpoint."""

import json
import os
import zlib

import numpy as np
import pytest

from margin_jax.errors import InputError
from margin_jax.run_folder import checksums
from margin_jax.run_folder import read as records
from margin_jax.run_folder.check import check
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.run_folder.checksums import DamagedError
from margin_jax.run_folder.write import RunFolder

COUNT = 7


def row(epoch):
    return dict.fromkeys(records.METRICS, 0.5) | {"epoch": epoch, "kept": COUNT, "rho": 2.0}


def margins(epoch):
    return np.arange(COUNT, dtype=np.float32) - epoch


def begun(path, epochs):
    """An open run with a checkpoint after each of `epochs`."""
    folder = RunFolder(path)
    folder.start({"config": {}, "data": {"class_names": ["a", "b"]}, "versions": {"margin_jax": "9.9"}})
    folder.rewind(-1, COUNT)
    folder.write_mask(ids=np.arange(COUNT), labels=np.zeros(COUNT, np.int32), mask=np.ones(COUNT, bool),
                      removed_epoch=np.full(COUNT, -1))
    with Checkpoints(path / "checkpoints") as checkpoints:
        checkpoints.save(0, tree(0), records={".": folder.marks()})
        for epoch in epochs:
            folder.record(row(epoch), margins(epoch))
            checkpoints.save(epoch, tree(epoch), records={".": folder.marks()})
    return folder


def tree(epoch):
    return {"weights": np.arange(5.0) + epoch}


@pytest.fixture(name="over")
def _over(tmp_path):
    with begun(tmp_path / "run", (1, 2, 3)) as folder:
        folder.finish({"status": "finished", "separation_epoch": None, "removal": None})
    return tmp_path / "run"


def flip(path, place, bit=7):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_the_manifest_has_size_and_crc_of_every_file(over):
    content = json.loads((over / "manifest.json").read_text())
    assert set(content["files"]) == {"config.json", "metrics.csv", "mask.npz", "margins.npz", "summary.json"}
    for name, states in content["files"].items():
        data = (over / name).read_bytes()
        assert states == [[len(data), f"{zlib.crc32(data):08x}"]]
    assert records.read_json(over, "config.json")["schema"] == checksums.SCHEMA
    assert all(finding.good for finding in check(over))


def test_the_sign_bit_of_one_margin_is_seen(over):
    stored = np.asarray(records.read_margins(over).margins).tobytes()
    place = (over / "margins.npz").read_bytes().index(stored) + 4 * COUNT + 3
    flip(over / "margins.npz", place)
    changed = records.mapped(over / "margins.npz", "margins")
    assert (np.frombuffer(stored, np.float32).reshape(3, COUNT) != changed).sum() == 1
    with pytest.raises(DamagedError, match=r"margins\.npz is damaged"):
        records.read_margins(over)


def test_margins_are_read_for_their_checksum_once(over, monkeypatch):
    seen = []
    original = checksums.sum_of_file
    monkeypatch.setattr(checksums, "sum_of_file", lambda path, *a: seen.append(path.name) or original(path, *a))
    for _ in range(3):
        records.read_margins(over)
    assert seen == ["margins.npz"]
    os.utime(over / "margins.npz", ns=(1, 1))
    records.read_margins(over)
    assert seen == ["margins.npz"] * 2


@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.csv", "mask.npz", "margins.npz"])
@pytest.mark.parametrize("change", [lambda d: b"", lambda d: d[:len(d) // 2], lambda d: b"\xff\xfe" + d, None])
def test_every_damaged_file_of_a_finished_run_is_named(over, name, change):
    if change is None:
        (over / name).unlink()
    else:
        (over / name).write_bytes(change((over / name).read_bytes()))
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        records.read_run(over)
    assert [finding.path.name for finding in check(over) if not finding.good] == [name]
    (over / "manifest.json").unlink()  # a folder of an earlier version
    if (change is None and name == "summary.json") or (change and name == "metrics.csv"):
        return  # then it counts as a run that is not over, or as one of fewer records
    with pytest.raises(InputError):
        records.read_run(over)


def test_a_folder_without_a_manifest_is_read(over):
    (over / "manifest.json").unlink()
    assert records.read_run(over).margins.margins.shape == (3, COUNT)


@pytest.mark.parametrize("place", range(0, 200, 13))
def test_a_damaged_manifest_is_named(over, place):
    flip(over / "manifest.json", place, bit=1)
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        records.read_run(over)


def test_a_later_schema_is_refused_with_the_version_that_reads_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"schema": 3, "config": {}, "data": {},
                                                      "versions": {"margin_jax": "9.9"}}))
    with pytest.raises(InputError, match=r"margin_jax 9\.9, which reads it"):
        records.read_json(tmp_path, "config.json")


def test_every_bit_of_a_checkpoint_is_seen_and_the_one_before_is_used(tmp_path):
    begun(tmp_path / "run", (1, 2)).__exit__()
    path = tmp_path / "run" / "checkpoints" / "latest" / "2" / "default" / "arrays.npz"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1:])
        with pytest.raises(DamagedError, match=r"arrays\.npz|records\.json"):
            checksums.records_of(path.parent)
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(DamagedError):
            checksums.records_of(path.parent)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        with pytest.raises(DamagedError, match=r"arrays\.npz"):
            checkpoints.restore(tree(0))
        restored = checkpoints.newest(tree(0), recorded=True)
        np.testing.assert_array_equal(restored.tree["weights"], tree(1)["weights"])
        assert checkpoints.latest_epoch() == 1
        checkpoints.save(2, tree(2))  # in the place of the damaged one
        np.testing.assert_array_equal(checkpoints.restore(tree(0))["weights"], tree(2)["weights"])


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"{"), lambda path: path.write_bytes(b""),
                                    lambda path: path.write_bytes(b"\xff"), lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "commit_success.txt", "default/commit_success.txt"])
def test_what_orbax_writes_beside_the_arrays_is_not_needed(tmp_path, change, name):
    begun(tmp_path / "run", (1, 2)).__exit__()
    path = tmp_path / "run" / "checkpoints" / "latest" / "2" / name
    if path.exists():
        change(path)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        restored = checkpoints.newest(tree(0), recorded=True)
        np.testing.assert_array_equal(restored.tree["weights"], tree(2)["weights"])
        checkpoints.save(3, tree(3))
        assert checkpoints.latest_epoch() == 3


def newest(path, recorded=True):
    with Checkpoints(path / "checkpoints") as checkpoints:
        return checkpoints.newest(tree(0), recorded)


def test_a_damaged_record_takes_the_checkpoint_from_before_it(tmp_path, caplog):
    begun(tmp_path / "run", (1, 2)).__exit__()
    path = tmp_path / "run" / "metrics.csv"
    flip(path, path.stat().st_size - 3, bit=0)  # within the row of epoch 2
    restored = newest(tmp_path / "run")
    np.testing.assert_array_equal(restored.tree["weights"], tree(1)["weights"])
    assert len([line for line in caplog.messages if "metrics.csv" in line and "epoch 1" in line]) == 1
    with RunFolder(tmp_path / "run") as folder:
        folder.rewind(1, COUNT, restored.records["."])
    assert records.read_metrics(tmp_path / "run")["epoch"].tolist() == [1]
    assert records.read_margins(tmp_path / "run").epochs.tolist() == [1]


@pytest.mark.parametrize("name", ["metrics.csv", "margins.partial"])
def test_a_record_damaged_before_all_checkpoints_is_refused_by_name(tmp_path, name):
    begun(tmp_path / "run", (1, 2, 3)).__exit__()
    flip(tmp_path / "run" / name, 90 if name == "metrics.csv" else 6, bit=0)
    with pytest.raises(DamagedError, match=rf"{name}.*beginning anew would lose the records"):
        newest(tmp_path / "run")
    with pytest.raises(DamagedError, match=name):
        records.read_margins(tmp_path / "run")
    assert any(name in finding.message for finding in check(tmp_path / "run") if not finding.good)


def test_without_records_a_job_whose_checkpoints_are_damaged_begins_anew(tmp_path):
    begun(tmp_path / "run", ()).__exit__()
    path = tmp_path / "run" / "checkpoints" / "latest" / "0" / "default" / "arrays.npz"
    path.write_bytes(b"")
    assert newest(tmp_path / "run", recorded=False) is None
    assert list((tmp_path / "run" / "checkpoints" / "latest").iterdir()) == []


def test_margins_of_a_run_that_died_while_it_ended_are_taken_back(over):
    whole = np.asarray(records.read_margins(over).margins)
    (over / "summary.json").unlink()
    restored = newest(over)
    with RunFolder(over) as folder:
        folder.rewind(3, COUNT, restored.records["."])
        assert not (over / "margins.npz").exists()
        np.testing.assert_array_equal(records.read_margins(over).margins, whole)
        folder.finish({"status": "finished"})
    np.testing.assert_array_equal(records.read_margins(over).margins, whole)


def test_a_table_that_is_written_anew_is_whole_at_every_moment(tmp_path, monkeypatch):
    """A process that dies before or after the renaming leaves a file that its manifest knows."""
    with RunFolder(tmp_path) as folder:
        folder.write_text("cells.csv", "first\n")
        for dies_at in ("cells.csv", "manifest.json"):
            original, calls = checksums.os.replace, []

            def replace(source, target, original=original, calls=calls, dies_at=dies_at):
                calls.append(target)
                if target.name == dies_at and len(calls) > 1:
                    raise KeyboardInterrupt
                original(source, target)

            with monkeypatch.context() as patch:
                patch.setattr(checksums.os, "replace", replace)
                with pytest.raises(KeyboardInterrupt):
                    folder.write_text("cells.csv", f"second {dies_at}\n")
            assert checksums.checked_bytes(tmp_path / "cells.csv") in (b"first\n", b"second manifest.json\n")
        (tmp_path / "cells.csv").write_text("other\n")
        with pytest.raises(DamagedError, match=r"cells\.csv"):
            checksums.checked_bytes(tmp_path / "cells.csv")


def test_a_run_whose_files_change_meanwhile_does_not_end(tmp_path):
    with begun(tmp_path / "run", (1, 2)) as folder:
        flip(tmp_path / "run" / "metrics.csv", 90, bit=0)
        with pytest.raises(DamagedError, match=r"metrics\.csv"):
            folder.finish({"status": "finished"})
    assert not (tmp_path / "run" / "summary.json").exists()
