"""Fetches the official binary CIFAR-10 archive, checks it, and unpacks it where `load` finds it."""

import os
import shutil
import tarfile
import tempfile
import urllib.parse
import zlib
from collections.abc import Callable
from pathlib import Path

from margin_jax.data.archives import BINARY_BATCHES, BINARY_FOLDER, read_archive
from margin_jax.data.download import download
from margin_jax.data.validate import validate_dataset
from margin_jax.errors import InputError

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"

_WANTED = (*BINARY_BATCHES, "batches.meta.txt", "readme.html")


def prepare_cifar10(directory: Path, url: str = CIFAR10_URL, md5: str = CIFAR10_MD5,
                    say: Callable[[str], None] = print) -> Path:
    """Makes `directory`/cifar-10-batches-bin, which appears there whole or not at all.

    Args:
        directory: created if need be. The archive itself is kept in it, so that a second run fetches nothing.
        url: the archive's http or https address.
        md5: its MD5, 32 hexadecimal digits.
        say: takes lines about what happens.

    Returns:
        The folder. One that is already complete is left untouched.

    Raises:
        InputError: an existing folder is not complete; the download fails or has another MD5; the archive does not
            hold CIFAR-10; or the directory cannot be written.
    """
    target = directory / BINARY_FOLDER
    address = urllib.parse.urlsplit(url)
    if address.scheme not in ("http", "https") or not Path(address.path).name:
        raise InputError(f"--url must be the http or https address of an archive, got {url!r}")
    if len(md5) != 32 or set(md5.lower()) - set("0123456789abcdef"):
        raise InputError(f"--md5 must be 32 hexadecimal digits, got {md5!r}")
    if target.exists():
        try:
            found = _check(target)
        except InputError as error:
            raise InputError(f"{target} exists but is not complete ({error}); move it away and run this "
                             "again") from error
        say(f"{target} is already complete ({found}) and left untouched")
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        archive = directory / Path(address.path).name
        download(url, archive, md5, say)
        found = _unpack(archive, target)
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error}") from error
    say(f"{target} is ready ({found}); give --config.data.dir={directory}")
    return target


def _check(folder: Path) -> str:
    """Reads the folder as training would, and says what it holds."""
    dataset = read_archive(folder)
    validate_dataset(dataset)
    return f"{len(dataset.train.ids):,} training and {len(dataset.test.ids):,} test images"


def _unpack(archive: Path, target: Path) -> str:
    """Unpacks beside the target and checks there; the rename makes all of it appear at once."""
    with tempfile.TemporaryDirectory(prefix=".cifar-10-", dir=target.parent) as beside:
        folder = Path(beside) / BINARY_FOLDER
        folder.mkdir()
        try:
            with tarfile.open(archive) as tar:
                _extract(tar, folder)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise InputError(f"{archive} is no readable tar archive ({error}); remove it and run this again") from error
        found = _check(folder)
        os.rename(folder, target)
    return found


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Copies the contents of the expected plain files under names chosen here.

    No path, link, owner or mode from the archive reaches the disk, which is stricter than tarfile's "data" filter and
    works on the early releases of Python 3.11 that lack it.
    """
    for member in tar:
        top, _, name = member.name.removeprefix("./").partition("/")
        if top == BINARY_FOLDER and name in _WANTED and member.isfile():
            with tar.extractfile(member) as source, open(folder / name, "wb") as copy:
                shutil.copyfileobj(source, copy)
