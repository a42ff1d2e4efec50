"""What the machine gives a process: a cache folder, free memory, and the words for a disk that gives no more."""

import errno
import os
import pathlib

import platformdirs

from margin_jax.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WHOLE = "what was saved before is whole, and the same command goes on once"
_ADVICE = {
    (errno.ENOSPC, errno.EDQUOT): f"{_WHOLE} there is room",
    (errno.EFBIG,): f"{_WHOLE} files may be larger (ulimit -f)",
    (errno.EACCES, errno.EPERM, errno.EROFS): f"{_WHOLE} it may write there",
    (errno.ENOENT, errno.ENOTDIR, errno.ESTALE): "it was there before: bring it back as it was, or use a new --workdir",
    (errno.EIO,): f"{_WHOLE} the disk works",
}


def user_cache() -> pathlib.Path:
    """The folder `margin_jax` in the user's cache folder.

    Raises:
      InputError: this user has neither HOME nor an entry in the system's list. A folder among the temporary files would
        be one that others can fill, with programs too.
    """
    try:
        root = platformdirs.user_cache_path("margin_jax")
    except (RuntimeError, KeyError):
        root = pathlib.Path("~")
    if str(root).startswith("~"):  # earlier versions of platformdirs
        raise InputError("this user has no home folder for the cache; set MARGIN_JAX_CACHE or config.data.cache_dir")
    return root


def _number(path: pathlib.Path) -> int | None:
    """The number in a file of the system; None for "max", and where there is none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() else None


def _pages(path: pathlib.Path, name: str) -> int:
    """Bytes of the line `name` in a memory.stat; 0 where there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _left_in_groups(proc: pathlib.Path, groups: pathlib.Path) -> list[int]:
    """Bytes left under the memory limit of each control group that this process is in, of both versions."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, limit, used, reclaimable = groups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            reclaimable = "total_inactive_file"
        else:
            continue
        folder = root / name.strip("/")
        for path in (folder, *folder.parents):  # a container may see its own group as the root
            most, now = _number(path / limit), _number(path / used)
            if most is not None and now is not None:
                left.append(max(most - now + _pages(path / "memory.stat", reclaimable), 0))
            if path == root:
                break
    return left


def free_host_memory(proc: pathlib.Path = pathlib.Path("/proc"),
                     groups: pathlib.Path = pathlib.Path("/sys/fs/cgroup")) -> int:
    """Bytes of main memory that this process may still use.

    On Linux what the system can make available without swapping, the cache of files included, and no more than the
    limits of the control groups leave, which containers and batch systems set. Elsewhere what is free, or half of what
    there is.

    Args:
      proc: where the system tells of processes and memory.
      groups: where it tells of control groups.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        available = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        size = os.sysconf("SC_PAGE_SIZE")
        if "SC_AVPHYS_PAGES" in os.sysconf_names:  # absent on macOS
            available = os.sysconf("SC_AVPHYS_PAGES") * size
        else:
            available = os.sysconf("SC_PHYS_PAGES") * size // 2
    return min([available, *_left_in_groups(proc, groups)])


def _causes(error: BaseException) -> list[BaseException]:
    """An error, what it was raised for, and the members of groups; each once."""
    causes, queue = [], [error]
    while queue:
        following = queue.pop(0)
        if following in causes:
            continue
        causes.append(following)
        queue += [e for e in (following.__cause__, following.__context__) if e is not None]
        queue += getattr(following, "exceptions", ())
    return causes


def storage_problem(error: BaseException) -> str:
    """What a line says of an error behind which a disk, a folder or a right is; "" for any other.

    Libraries wrap such errors and some of them keep its words alone.
    """
    for cause in _causes(error):
        number = cause.errno if isinstance(cause, OSError) else next(
            (n for numbers in _ADVICE for n in numbers if os.strerror(n) in str(cause)), None)
        if number is None:
            continue
        place = getattr(cause, "filename", None)
        advice = next((text for numbers, text in _ADVICE.items() if number in numbers), "what was saved is whole")
        return f"{f'{place}: ' if place else ''}{os.strerror(number)}; {advice}"
    return ""


def is_full(error: BaseException) -> bool:
    """Whether a full disk, a quota or the largest size of a file is behind an error."""
    return any(isinstance(cause, OSError) and cause.errno in _FULL for cause in _causes(error))
