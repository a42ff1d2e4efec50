"""The cache of decoded arrays: hit, rebuilt when the source changes or the entry is damaged, never in the way."""

import json
import multiprocessing
import os
import shutil
import sys
import types

import numpy as np
import pytest
from helpers.data import tiny_dataset

from margin_jax.data import cache
from margin_jax.data.cache import cache_root, cached
from margin_jax.data.dataset import digest
from margin_jax.data.load import load_data
from margin_jax.errors import InputError


class Source:
    """A folder with two files, and a reader that counts how often it is called."""

    def __init__(self, folder):
        self.folder = folder / "source"
        (self.folder / "deep").mkdir(parents=True)
        (self.folder / "one").write_bytes(b"1")
        (self.folder / "deep" / "two").write_bytes(b"22")
        self.cache_dir = str(folder / "cache")
        self.reads = 0
        self.seed = 0

    def read(self):
        self.reads += 1
        return tiny_dataset(seed=self.seed)

    def load(self, reader="test"):
        return cached(self.read, reader=reader, source=self.folder, cache_dir=self.cache_dir)

    def entries(self):
        return sorted(os.listdir(self.cache_dir))


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


def test_the_second_load_comes_from_disk_and_is_the_same(source):
    first, second = source.load(), source.load()
    assert source.reads == 1 and digest(first) == digest(second)
    assert (second.name, second.class_names) == (first.name, first.class_names)
    assert np.array_equal(second.train.true_labels, first.train.true_labels)
    assert len(source.entries()) == 1 and not source.entries()[0].startswith(".")


def change_content(source):
    (source.folder / "one").write_bytes(b"one")


def change_time(source):
    path = source.folder / "deep" / "two"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1000))


def change_size(source):
    path = source.folder / "one"
    before = path.stat()
    path.write_bytes(b"longer")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_name(source):
    (source.folder / "one").rename(source.folder / "uno")


def change_number(source):
    (source.folder / "deep" / "three").touch()


@pytest.mark.parametrize("change", [change_content, change_time, change_size, change_name, change_number])
def test_a_changed_source_is_read_anew_and_the_old_entry_removed(source, change):
    source.load()
    old = source.entries()
    change(source)
    source.seed = 1
    assert digest(source.load()) == digest(tiny_dataset(seed=1))
    assert source.reads == 2 and len(source.entries()) == 1 and source.entries() != old
    source.load()
    assert source.reads == 2


def test_readers_and_folders_have_entries_of_their_own(source, tmp_path):
    source.load()
    source.load(reader="other")
    shutil.copytree(source.folder, tmp_path / "copy")  # same names, sizes and times
    cached(source.read, reader="test", source=tmp_path / "copy", cache_dir=source.cache_dir)
    assert source.reads == 3 and len(source.entries()) == 3
    link = tmp_path / "link"
    link.symlink_to(source.folder)
    cached(source.read, reader="test", source=link, cache_dir=source.cache_dir)
    assert source.reads == 3


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


DAMAGE = {
    "array cut short": lambda entry: os.truncate(entry / "train_images.npy", 300),
    "empty array": lambda entry: os.truncate(entry / "test_ids.npy", 0),
    "flipped bit": lambda entry: flip(entry / "train_labels.npy"),
    "missing array": lambda entry: (entry / "train_ids.npy").unlink(),
    "no meta": lambda entry: (entry / "meta.json").unlink(),
    "cut meta": lambda entry: os.truncate(entry / "meta.json", 20),
    "other meta": lambda entry: (entry / "meta.json").write_text(json.dumps([1])),
    "meta without arrays": lambda entry: (entry / "meta.json").write_text('{"checksums": {}}'),
    "another class name": lambda entry: replace(entry / "meta.json", b"red", b"rad"),
    "a space in meta": lambda entry: replace(entry / "meta.json", b"{", b"{ "),
    "meta nested beyond reason": lambda entry: (entry / "meta.json").write_text("[" * 100_000),
    "header no Python": lambda entry: replace(entry / "train_images.npy", b"'descr'", b"'descr("),  # TokenError
    "header of another shape": lambda entry: replace(entry / "train_images.npy", b"(30, 4, 5, 3)", b"(30, 5, 4, 3)"),
    "header of another type": lambda entry: replace(entry / "train_labels.npy", b"<i4", b"<u4"),
    "padding of the header": lambda entry: replace(entry / "test_ids.npy", b"  ", b" \t"),
    "more behind the end": lambda entry: os.truncate(entry / "test_ids.npy", 10_000),
    "a folder for an array": lambda entry: [(entry / "test_ids.npy").unlink(), (entry / "test_ids.npy").mkdir()],
    "a file for the entry": lambda entry: [shutil.rmtree(entry), entry.touch()],
    "empty folder": lambda entry: [path.unlink() for path in entry.iterdir()],
    "pickled array": lambda entry: np.save(entry / "train_ids.npy", np.array([{}], object), allow_pickle=True),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_written_again(source, kind, caplog):
    whole = source.load()
    expected = digest(whole)
    [name] = source.entries()
    DAMAGE[kind](type(source.folder)(source.cache_dir) / name)
    again = source.load()
    assert digest(again) == expected and source.reads == 2 and again.class_names == whole.class_names
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "is damaged" in warnings[0]
    assert digest(source.load()) == expected and source.reads == 2
    assert source.entries() == [name]


def test_a_cache_that_cannot_be_written_costs_one_line(source, tmp_path, caplog):
    (tmp_path / "file").touch()
    source.cache_dir = str(tmp_path / "file" / "cache")
    first, second = source.load(), source.load()
    assert source.reads == 2 and digest(first) == digest(second)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2 and "cannot be cached" in warnings[0].getMessage()
    assert "\n" not in warnings[0].getMessage()


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "\udc80\0"])
def test_a_name_that_no_folder_can_have(source, monkeypatch, caplog, name):
    source.cache_dir = name
    with pytest.raises(InputError, match="cannot be a file or folder"):
        source.load()
    assert source.reads == 0
    source.cache_dir = ""
    monkeypatch.setattr(os, "environ", {**os.environ, "MARGIN_JAX_CACHE": name})
    assert digest(source.load()) == digest(tiny_dataset())
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def without_home(monkeypatch):
    """A user without HOME and without an entry in the list of users, as in many containers."""
    for name in ("HOME", "MARGIN_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "pwd", types.SimpleNamespace(getpwuid=lambda number: {}[number],
                                                                  getpwnam=lambda name: {}[name]))


def test_a_user_without_a_home_reads_without_a_cache(source, monkeypatch, caplog, tmp_path):
    monkeypatch.chdir(tmp_path)
    without_home(monkeypatch)
    assert os.path.expanduser("~/x") == "~/x"
    source.cache_dir = ""
    assert digest(source.load()) == digest(tiny_dataset())
    [line] = [record.getMessage() for record in caplog.records]
    assert "no home folder" in line and "MARGIN_JAX_CACHE" in line and "\n" not in line
    assert sorted(os.listdir(tmp_path)) == ["source"]
    monkeypatch.setenv("MARGIN_JAX_CACHE", str(tmp_path / "cache"))
    source.load()
    source.load()
    assert source.reads == 2


def test_a_home_that_is_asked_for_and_unknown_is_named(source, monkeypatch):
    without_home(monkeypatch)
    for use in (source.load, lambda: load_data("npz", data_dir="~/x"), lambda: load_data("cifar10", data_dir="~/x")):
        source.cache_dir = "~/x"
        with pytest.raises(InputError, match="'~/x' means"):
            use()


def test_a_full_disk_leaves_nothing_behind(source, monkeypatch):
    tried = []

    def fail(path, *arguments, **options):
        tried.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", fail)
    assert digest(source.load()) == digest(tiny_dataset())
    assert len(tried) == 1 and source.entries() == []


def test_what_a_killed_process_left_is_removed_after_an_hour(source):
    source.load()
    root = type(source.folder)(source.cache_dir)
    [name] = source.entries()
    for age, label in ((10, "young"), (7200, "old")):
        left = root / f".{name}.{label}"
        left.mkdir()
        os.utime(left, (left.stat().st_mtime - age,) * 2)
    change_content(source)
    source.load()
    assert [entry for entry in source.entries() if entry.startswith(".")] == [f".{name}.young"]


def load_often(folder, cache_dir, barrier, results):
    barrier.wait(timeout=30)
    for _ in range(10):
        dataset = cached(lambda: tiny_dataset(2000), reader="test", source=folder, cache_dir=cache_dir)
        results.put(digest(dataset))
        shutil.rmtree(cache_dir, ignore_errors=True)


def test_processes_at_once_do_not_disturb_each_other(source):
    """Three processes write, read and remove the same entry; each must get the whole data set every time."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=load_often, args=(source.folder, source.cache_dir, barrier, results))
               for _ in range(3)]
    for worker in workers:
        worker.start()
    digests = [results.get(timeout=30) for _ in range(30)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
        worker.close()
    results.close()
    results.join_thread()
    assert set(digests) == {digest(tiny_dataset(2000))}


def test_the_cache_is_where_the_user_or_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MARGIN_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / "home" / ".cache" / "margin_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "margin_jax"
    monkeypatch.setenv("MARGIN_JAX_CACHE", str(tmp_path / "ours"))
    assert cache_root() == tmp_path / "ours"
    assert cache_root("~/named") == tmp_path / "home" / "named"
