"""Reading records while they are written, and writing and reading many of them in bounded memory."""

import tracemalloc

import numpy as np
import pytest

from margin_jax.errors import InputError
from margin_jax.run_folder import read as records
from margin_jax.run_folder.write import RunFolder

COUNT = 7


def row(epoch, rho=2.0):
    return dict.fromkeys(records.METRICS, 0.0) | {"epoch": epoch, "kept": COUNT, "rho": rho}


@pytest.fixture(name="folder")
def _folder(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.rewind(-1, COUNT)
        folder.write_mask(ids=np.arange(COUNT) * 2, labels=np.zeros(COUNT, np.int32))
        yield folder


def margins(epoch):
    return np.arange(COUNT, dtype=np.float32) - epoch


def write(folder, epochs):
    for epoch in epochs:
        folder.record(row(epoch, rho=epoch + 1.0), margins(epoch))


@pytest.mark.parametrize("half", [0, 1, 4, 5, 4 * COUNT, 4 * COUNT + 3])
def test_a_reader_sees_whole_rows_while_one_is_being_written(folder, half):
    with pytest.raises(InputError, match="no recorded epoch"):
        records.read_margins(folder.path)
    write(folder, (1, 3))
    third = np.int32(4).tobytes() + margins(4).tobytes()
    with open(folder.path / records.PARTIAL, "ab") as file:
        file.write(third[:half])
    with open(folder.path / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("4,0.1,0.2"[:half])
    found = records.read_margins(folder.path)
    assert found.epochs.tolist() == [1, 3] and found.rho.tolist() == [2.0, 4.0]
    np.testing.assert_array_equal(found.margins, [margins(1), margins(3)])
    np.testing.assert_array_equal(found.normalised(1), margins(3) / 4.0)


def test_a_row_of_margins_counts_from_its_row_of_metrics_on(folder):
    write(folder, (1,))
    with open(folder.path / records.PARTIAL, "ab") as file:
        file.write(np.int32(2).tobytes() + margins(2).tobytes())
    assert records.read_margins(folder.path).epochs.tolist() == [1]
    folder.record(row(2), None)
    assert records.read_margins(folder.path).epochs.tolist() == [1, 2]


def test_what_a_reader_holds_outlives_a_resume_and_the_end(folder):
    write(folder, (1, 2, 3))
    held = records.read_margins(folder.path)
    folder.rewind(1, COUNT)
    np.testing.assert_array_equal(held.margins, [margins(1), margins(2), margins(3)])
    assert records.read_margins(folder.path).epochs.tolist() == [1]
    write(folder, (2, 4))
    going_on = records.read_margins(folder.path)
    folder.finish({"status": "finished"})
    over = records.read_margins(folder.path)
    assert not (folder.path / records.PARTIAL).exists() and over.epochs.tolist() == [1, 2, 4]
    for one, other in zip(going_on, over, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_a_run_that_ends_while_it_is_read(folder, monkeypatch):
    write(folder, (1, 2))

    def too_late(workdir):
        monkeypatch.undo()
        folder.finish({"status": "finished"})
        return records._read_partial(workdir)

    monkeypatch.setattr(records, "_read_partial", too_late)
    assert records.read_margins(folder.path).epochs.tolist() == [1, 2]


@pytest.mark.parametrize("save, order", [(np.savez, "C"), (np.savez, "F"), (np.savez_compressed, "C")])
def test_a_finished_file_is_mapped_however_it_was_written(tmp_path, save, order):
    values = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
    fixed = {"epochs": np.arange(5), "ids": np.arange(11), "labels": np.zeros(11, np.int32), "rho": np.ones(5)}
    save(tmp_path / "margins.npz", margins=np.asarray(values, order=order), **fixed)
    found = records.read_margins(tmp_path)
    np.testing.assert_array_equal(found.margins, values)
    assert found.margins.dtype == np.float32
    assert isinstance(found.margins, np.memmap) == (save is np.savez)
    assert not (isinstance(found.margins, np.memmap) and found.margins.flags.writeable)


def peak(call):
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_epochs(tmp_path):
    """Of 80 MB of margins, the end of a run holds two of NumPy's buffers of 16 MiB, a reader a few rows."""
    count, epochs = 200_000, 100
    size = 4 * (count + 1)
    with RunFolder(tmp_path / "run") as folder:
        folder.rewind(-1, count)
        folder.write_mask(ids=np.arange(count), labels=np.zeros(count, np.int32))
        with open(folder.path / records.PARTIAL, "wb") as file:  # zeros take no room on a disk
            for epoch in range(epochs):
                file.seek(epoch * size)
                file.write(np.int32(epoch + 1).tobytes())
            file.truncate(epochs * size)
        for epoch in range(epochs):
            folder.record(row(epoch + 1), None)
        _, used = peak(lambda: folder.rewind(epochs - 1, count))
        assert used < size
        _, used = peak(lambda: folder.finish({"status": "finished"}))
        assert used < 40e6 < 0.55 * epochs * size
        found, used = peak(lambda: records.read_margins(folder.path))
        assert used < 8 * size and found.margins.shape == (epochs - 1, count)
        assert peak(lambda: found.normalised(-1).sum())[1] < 5 * size
