"""The lock of a run folder, which goes with its process, however that ends; and whether the folder is still there.

A work folder that somebody moves or removes in the middle of a job must not be begun anew, half of it here and half
there: whoever makes a folder asks `check_place` before.
"""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

import filelock

from margin_jax.errors import InputError

_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)


def _refused(path: pathlib.Path) -> OSError | None:
    """Why the file system refuses locks, None where it does not: filelock may take a refusal for a held lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _HELD else error
    finally:
        os.close(descriptor)
    return None


def _no_locks(path: pathlib.Path, error: OSError) -> InputError:
    return InputError(f"the file system of {path.parent} refuses locks ({error.strerror}), without which two processes "
                      "could write one run; choose a --workdir on another one, or mount it with locks (NFS: lockd; "
                      "Lustre: -o flock)")


_places: list["Place"] = []  # of the jobs under way in this process, outer folders first


class Place:
    """A folder that a job works in, until `leave`."""

    def __init__(self, folder: pathlib.Path, mark: pathlib.Path | None = None) -> None:
        """`folder` exists, and so does the file `mark` in it, if there is one to know the folder by."""
        self.folder, self._mark = folder, mark or folder
        self._identity = _identity(self._mark)
        _places.append(self)

    def check(self) -> None:
        """Raises FileNotFoundError if the folder is no longer that of the job: removed, moved or made anew."""
        if _identity(self._mark) != self._identity:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.folder))

    def leave(self) -> None:
        """The job is over, and the folder may go."""
        _places.remove(self)


@contextlib.contextmanager
def held_in_place(folder: pathlib.Path) -> Iterator[Place]:
    """A `Place` for as long as the context lasts; for a job that several processes share, which none may lock."""
    place = Place(folder)
    try:
        yield place
    finally:
        place.leave()


def check_place(path: pathlib.Path) -> None:
    """Raises FileNotFoundError if a folder at or above `path` is no longer that of the job at work there."""
    for place in _places:
        if path.is_relative_to(place.folder):
            place.check()


class HeldLock:
    """A lock that this process holds, until `release`."""

    def __init__(self, lock: filelock.BaseFileLock, path: pathlib.Path) -> None:
        """`lock` is acquired, with the file `path`."""
        self._lock, self._place = lock, Place(path.parent, path)

    def release(self) -> None:
        """Gives the lock back."""
        self._place.leave()
        self._lock.release()


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def acquire(path: pathlib.Path, wait: float) -> HeldLock:
    """Takes a lock.

    Args:
      path: of its file, whose folder exists.
      wait: seconds for which another process may hold it.

    Raises:
      InputError: another process holds it, or the file system has no locks.
      OSError: the file cannot be made.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=wait, poll_interval=0.1)
    except filelock.Timeout as error:
        if refusal := _refused(path):
            raise _no_locks(path, refusal) from error
        raise InputError(f"another process is running in {path.parent}; wait for it or choose another "
                         "--workdir") from error
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise _no_locks(path, error) from error
        raise
    return HeldLock(lock, path)
