"""The lock of a run folder, which goes with its process, however that ends."""

import errno
import os
import pathlib

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


class HeldLock:
    """A lock that this process holds, until `release`."""

    def __init__(self, lock: filelock.BaseFileLock, path: pathlib.Path) -> None:
        """`lock` is acquired, with the file `path`."""
        self._lock, self._path, self._identity = lock, path, _identity(path)

    def check(self) -> None:
        """Raises FileNotFoundError if the lock's folder is no longer that of the run: removed, moved or made anew."""
        if _identity(self._path) != self._identity:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path.parent))

    def release(self) -> None:
        """Gives the lock back."""
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
