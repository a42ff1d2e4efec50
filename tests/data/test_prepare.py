"""Fetching CIFAR-10 over loopback: resumed, checked, unpacked whole or not at all."""

import hashlib
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import requests
from helpers.data import Server, batch, serving, tarball, write_binary

from margin_jax.data.load import load_data
from margin_jax.data.prepare import _save, prepare_cifar10
from margin_jax.errors import InputError

ARCHIVE = "cifar-10-binary.tar.gz"
SCRIPT = Path(__file__).parents[2] / "launch" / "prepare_data.py"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The bytes of a small archive, larger than the pieces it is sent in, and its MD5."""
    return tarball(write_binary(tmp_path_factory.mktemp("origin"), rows=24))


def prepare(directory, server, md5):
    """Runs a preparation; returns the lines it said."""
    lines = []
    with serving(server):
        prepare_cifar10(directory, server.url, md5, lines.append)
    return lines


def check_whole(directory):
    dataset = load_data("cifar10", data_dir=str(directory))
    assert dataset.train.images.shape == (120, 32, 32, 3)
    assert np.array_equal(dataset.test.labels, batch(5, 24)[1])
    assert sorted(os.listdir(directory)) == ["cifar-10-batches-bin", ARCHIVE]


def test_fetches_checks_and_unpacks_into_a_new_folder(tmp_path, packed):
    directory = tmp_path / "new" / "folder"
    server = Server(packed[0])
    lines = prepare(directory, server, packed[1].upper())
    check_whole(directory)
    assert server.requests == [""]
    assert "120 training and 24 test images" in lines[-1] and f"--config.data.dir={directory}" in lines[-1]
    size = f"{len(packed[0]):,}"
    assert any(line == f"{size} of {size} bytes" for line in lines), "plain lines where there is no terminal"


def test_a_second_run_changes_nothing_and_asks_nobody(tmp_path, packed):
    prepare(tmp_path, Server(packed[0]), packed[1])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    server = Server(packed[0])
    lines = prepare(tmp_path, server, packed[1])
    assert server.requests == [] and "left untouched" in lines[0]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_archive_that_is_there_is_not_fetched_again(tmp_path, packed):
    (tmp_path / ARCHIVE).write_bytes(packed[0])
    server = Server(packed[0])
    assert "nothing to download" in prepare(tmp_path, server, packed[1])[0]
    check_whole(tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("have", [1, 1000, -1])
def test_goes_on_where_it_stopped(tmp_path, packed, have):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(packed[0][:have])
    server = Server(packed[0])
    lines = prepare(tmp_path, server, packed[1])
    check_whole(tmp_path)
    start = len(packed[0][:have])
    assert server.requests == [f"bytes={start}-"] and f"going on at byte {start:,}" in lines[0]


def test_a_part_that_is_already_whole_needs_no_more_bytes(tmp_path, packed):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(packed[0])
    server = Server(packed[0])
    prepare(tmp_path, server, packed[1])
    check_whole(tmp_path)
    assert server.requests == [f"bytes={len(packed[0])}-"]


def test_a_part_longer_than_the_file_is_fetched_anew(tmp_path, packed):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(packed[0] + b"more")
    server = Server(packed[0])
    prepare(tmp_path, server, packed[1])
    check_whole(tmp_path)
    assert server.requests == [f"bytes={len(packed[0]) + 4}-", ""]


def test_a_server_that_ignores_ranges_sends_all_of_it(tmp_path, packed):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(b"not the beginning")
    lines = prepare(tmp_path, Server(packed[0], ranges=False), packed[1])
    check_whole(tmp_path)
    assert "from the start" in lines[0]


def test_a_server_that_sends_another_range_is_asked_for_all_of_it(tmp_path, packed):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(packed[0][:1000])
    server = Server(packed[0], shift=-500)
    prepare(tmp_path, server, packed[1])
    check_whole(tmp_path)
    assert server.requests == ["bytes=1000-", ""]


def test_an_answer_that_ends_early_is_an_error_whatever_the_http_library_says(tmp_path):
    short = types.SimpleNamespace(headers={"Content-Length": "10"}, iter_content=lambda size: iter([b"12345"]))
    with pytest.raises(requests.ConnectionError, match="at byte 8 of 13"):
        _save(short, tmp_path / "part", 3, print)


def test_an_interruption_keeps_what_came_and_the_next_run_goes_on(tmp_path, packed):
    with pytest.raises(InputError, match="bytes are kept .*run the same command again") as caught:
        prepare(tmp_path, Server(packed[0], stop_after=100_000), packed[1])
    kept = (tmp_path / f"{ARCHIVE}.part").read_bytes()
    assert 30_000 < len(kept) <= 100_000 and packed[0].startswith(kept) and f"{len(kept):,} bytes" in str(caught.value)
    server = Server(packed[0])
    prepare(tmp_path, server, packed[1])
    check_whole(tmp_path)
    assert server.requests == [f"bytes={len(kept)}-"]


def test_a_wrong_md5_names_both_sums_and_sets_the_file_aside(tmp_path, packed):
    expected = "0" * 32
    with pytest.raises(InputError, match=f"expected {expected}, got {packed[1]}.*{ARCHIVE}.bad"):
        prepare(tmp_path, Server(packed[0]), expected)
    assert os.listdir(tmp_path) == [f"{ARCHIVE}.bad"]
    prepare(tmp_path, Server(packed[0]), packed[1])
    assert load_data("cifar10", data_dir=str(tmp_path)).train.images.shape == (120, 32, 32, 3)


def test_another_file_of_that_name_is_set_aside_and_fetched_anew(tmp_path, packed):
    (tmp_path / ARCHIVE).write_bytes(b"an older archive")
    prepare(tmp_path, Server(packed[0]), packed[1])
    assert (tmp_path / f"{ARCHIVE}.bad").read_bytes() == b"an older archive"
    assert (tmp_path / ARCHIVE).read_bytes() == packed[0]


def test_an_error_of_the_server_keeps_the_part(tmp_path, packed):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(packed[0][:10])
    with pytest.raises(InputError, match="503"):
        prepare(tmp_path, Server(packed[0], status=503), packed[1])
    assert (tmp_path / f"{ARCHIVE}.part").read_bytes() == packed[0][:10]


def test_a_folder_that_is_not_whole_is_refused_and_kept(tmp_path, packed):
    folder = write_binary(tmp_path)
    (folder / "data_batch_4.bin").unlink()
    server = Server(packed[0])
    with pytest.raises(InputError, match="exists but is not complete .*data_batch_4.bin.*move it away"):
        prepare(tmp_path, server, packed[1])
    assert len(list(folder.iterdir())) == 6 and server.requests == []


def test_nothing_else_leaves_the_archive(tmp_path):
    content, md5 = tarball(write_binary(tmp_path / "origin", rows=24), **{
        "../escaped": b"x", "/tmp/margin_jax_escaped": b"x", "cifar-10-batches-bin/../../up": b"x",
        "cifar-10-batches-bin/extra.bin": b"x", "elsewhere/data_batch_1.bin": b"x",
        "cifar-10-batches-bin/deep/data_batch_1.bin": b"x"})
    target = tmp_path / "a" / "b"
    prepare(target, Server(content), md5)
    check_whole(target)
    assert os.listdir(tmp_path / "a") == ["b"] and not os.path.exists("/tmp/margin_jax_escaped")
    assert len(os.listdir(target / "cifar-10-batches-bin")) == 7


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_what_is_no_archive_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=f"{ARCHIVE} is no readable tar archive"):
        prepare(tmp_path, Server(content), hashlib.md5(content).hexdigest())
    assert not (tmp_path / "cifar-10-batches-bin").exists()


def test_an_archive_of_something_else_or_cut_short_leaves_no_folder(tmp_path, packed):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(b"x")
    for number, (content, message) in enumerate(((tarball(other)[0], "lacks data_batch_1.bin"),
                                                 (packed[0][:-2000], "is no readable tar archive"))):
        directory = tmp_path / str(number)
        with pytest.raises(InputError, match=message):
            prepare(directory, Server(content), hashlib.md5(content).hexdigest())
        assert os.listdir(directory) == [ARCHIVE]


def test_an_archive_that_is_not_whole_is_told_by_its_own_name(tmp_path):
    """Not by that of the folder in which it was looked at, which is gone when the message is read."""
    def damaged(change):
        folder = write_binary(tmp_path / change.__name__)
        change(folder)
        return tarball(folder)

    def without_batches(folder):
        for path in folder.glob("*.bin"):
            path.unlink()

    def cut(folder):
        os.truncate(folder / "data_batch_2.bin", 5000)

    def other_label(folder):
        (folder / "test_batch.bin").write_bytes(b"\xff" * 4 * 3073)

    for change, message in ((without_batches, "lacks data_batch_1.bin, data_batch_2.bin"),
                            (cut, "data_batch_2.bin is cut short"), (other_label, "first id 0 with label 255")):
        directory = tmp_path / f"{change.__name__}_target"
        content, md5 = damaged(change)
        with pytest.raises(InputError, match=message) as caught:
            prepare(directory, Server(content), md5)
        assert str(directory / ARCHIVE) in str(caught.value) and ".cifar-10-" not in str(caught.value)
        assert os.listdir(directory) == [ARCHIVE]


def test_a_server_that_is_not_there(tmp_path):
    with socket.socket() as held:  # bound but not listening: refuses at once, and nobody else can take the port
        held.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="cannot fetch http://127.0.0.1"):
            prepare_cifar10(tmp_path, f"http://127.0.0.1:{held.getsockname()[1]}/a.tar.gz", "0" * 32)


@pytest.mark.parametrize("url, md5, message", [
    ("ftp://host/a.tar.gz", "0" * 32, "--url"), ("archive.tar.gz", "0" * 32, "--url"),
    ("http://host/", "0" * 32, "--url"), ("http://host/a", "123", "--md5"), ("http://host/a", "g" * 32, "--md5"),
])
def test_mistakes_are_refused_before_anything_is_written(tmp_path, url, md5, message):
    with pytest.raises(InputError, match=message):
        prepare_cifar10(tmp_path / "new", url, md5)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write to"):
        prepare_cifar10(tmp_path / "file" / "folder", "http://127.0.0.1/a", "0" * 32)


def run_script(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=60)


def test_the_script_prepares_and_reports_mistakes_without_a_traceback(tmp_path, packed):
    with serving(Server(packed[0])) as server:
        wrong = run_script(f"--dir={tmp_path}", f"--url={server.url}")
        right = run_script(f"--dir={tmp_path}", f"--url={server.url}", f"--md5={packed[1]}")
    assert wrong.returncode == 2 and "wrong MD5: expected c32a1d4ab5d03f1284b67883e8d87530" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert right.returncode == 0 and "is ready" in right.stdout and right.stderr == ""
    assert run_script().returncode != 0
