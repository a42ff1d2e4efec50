"""Memory, folders, locks and disks, as systems tell of them; the files of other systems are made here."""

import errno
import fcntl
import os
import pwd

import filelock
import pytest

from margin_jax import machine
from margin_jax.errors import InputError
from margin_jax.run_folder import lock

GIB = 2**30


def write_system(root, available=8 * GIB, groups=(), of_process="0::/\n"):
    """A /proc and a /sys/fs/cgroup; `groups` are (path, {file: content})."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemFree: 5 kB\nMemAvailable: {available // 1024} kB\n")
    (root / "proc" / "self" / "cgroup").write_text(of_process)
    for path, files in groups:
        (root / "groups" / path).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (root / "groups" / path / name).write_text(content)
    return machine.free_host_memory(root / "proc", root / "groups")


@pytest.mark.parametrize("of_process,groups,expected", [
    ("0::/\n", (), 8 * GIB),
    ("0::/job/step\n", (("job/step", {"memory.max": "max\n", "memory.current": f"{GIB}\n"}),), 8 * GIB),
    ("0::/job/step\n", (("job", {"memory.max": f"{3 * GIB}\n", "memory.current": f"{GIB}\n"}),
                        ("job/step", {"memory.max": "max\n", "memory.current": "5\n"})), 2 * GIB),
    ("0::/job\n", (("job", {"memory.max": f"{3 * GIB}\n", "memory.current": f"{2 * GIB}\n",
                            "memory.stat": f"anon 7\ninactive_file {GIB // 2}\n"}),), 3 * GIB // 2),
    ("0::/outside/of/the/container\n", (("", {"memory.max": f"{GIB}\n", "memory.current": "0\n"}),), GIB),
    ("5:cpu:/\n4:cpuset,memory:/a\n", (("memory/a", {"memory.limit_in_bytes": f"{2 * GIB}\n",
                                                     "memory.usage_in_bytes": f"{GIB}\n",
                                                     "memory.stat": "total_inactive_file 4096\n"}),), GIB + 4096),
    ("0::/a\n", (("a", {"memory.max": f"{GIB}\n", "memory.current": f"{2 * GIB}\n"}),), 0),
], ids=["no group", "no limit", "limit of a parent", "file cache", "container", "version 1", "beyond the limit"])
def test_free_memory_is_what_is_available_under_every_limit(tmp_path, of_process, groups, expected):
    assert write_system(tmp_path, groups=groups, of_process=of_process) == expected


def test_free_memory_where_the_system_tells_of_all_memory_alone(tmp_path, monkeypatch):
    """macOS has neither /proc nor SC_AVPHYS_PAGES."""
    sizes = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(machine.os, "sysconf_names", sizes)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: sizes[name])
    assert machine.free_host_memory(tmp_path, tmp_path) == 500 * 4096


def test_a_user_without_a_home_is_asked_for_a_cache(monkeypatch):
    def unknown(_):
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "MARGIN_JAX_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(InputError, match="no home folder for the cache; set MARGIN_JAX_CACHE or config.data.cache_dir"):
        machine.user_cache()


@pytest.mark.parametrize("error,words", [
    (OSError(errno.ENOSPC, "any", "/disk/metrics.csv"), "/disk/metrics.csv: No space left on device; what was saved"),
    (OSError(errno.EFBIG, "any"), "File too large"), (PermissionError(errno.EACCES, "any", "/disk"), "may write there"),
    (FileNotFoundError(errno.ENOENT, "any", "/disk/run"), "/disk/run: No such file or directory; it was there before"),
    (ValueError("RESOURCE_EXHAUSTED: Error writing /a/b: No space left on device [source]"), "there is room"),
    (ValueError("wrong shape"), ""), (KeyError("x"), ""),
])
def test_what_a_disk_says_is_found_wherever_it_is_wrapped(error, words):
    message = machine.storage_problem(error)
    assert words in message if words else message == ""
    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = ExceptionGroup("several", [ValueError("other"), error])
    assert machine.storage_problem(wrapped) == message


def refusing(number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_as_such(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with pytest.raises(InputError, match="refuses locks .*--workdir"):
        lock.acquire(tmp_path / ".lock", 0.0)


def test_a_refusal_that_filelock_takes_for_a_held_lock_is_told_as_such(tmp_path, monkeypatch):
    """Older versions of filelock do so."""
    def timeout(*_, **__):
        raise filelock.Timeout("x")

    monkeypatch.setattr(filelock.FileLock, "acquire", timeout)
    with pytest.raises(InputError, match="another process"):
        lock.acquire(tmp_path / ".lock", 0.0)
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    with pytest.raises(InputError, match="refuses locks"):
        lock.acquire(tmp_path / ".lock", 0.0)


def test_a_held_lock_is_told_as_another_process_and_knows_its_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    held = lock.acquire(folder / ".lock", 0.0)
    with pytest.raises(InputError, match="another process is running"):
        lock.acquire(folder / ".lock", 0.0)
    lock.check_place(folder)
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        lock.check_place(folder)
    folder.mkdir()
    (folder / ".lock").touch()
    with pytest.raises(FileNotFoundError):  # another one of the same name
        lock.check_place(folder)
    held.release()
