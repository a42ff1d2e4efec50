"""Fetches the official binary CIFAR-10 archive, checks it, and unpacks it where `margin_jax.data.load` finds it.

`prepare_cifar10` is the whole of it. `download` fetches one file over HTTP, goes on where an earlier try stopped, and
checks its MD5.
"""

import gzip
import hashlib
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.parse
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from margin_jax.data.cifar import BINARY_BATCHES, BINARY_FOLDER, read_archive
from margin_jax.data.dataset import validate_dataset
from margin_jax.errors import InputError

_CHUNK = 1 << 16  # bytes; what came of the last piece before an interruption is lost
_TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between two pieces of the answer


def file_md5(path: Path) -> str:
    """Returns the MD5 of a file's content, 32 hexadecimal digits. It detects damage; it proves no origin."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download(url: str, target: Path, md5: str, say: Callable[[str], None] = print) -> None:
    """Fetches a file and checks it. What arrived before an interruption stays in `target` + ".part" and is continued.

    Args:
        url: an http or https address.
        target: where the file goes, in a folder that exists. A file there with the right MD5 is left as it is; one with
            another is moved to ".bad".
        md5: the expected MD5, 32 hexadecimal digits.
        say: takes lines about what happens.

    Raises:
        InputError: the server cannot be reached, refuses, or stops half-way; or the file has another MD5, in which
            case it is kept as `target` + ".bad".
    """
    part = target.with_name(target.name + ".part")
    if target.is_file():
        if file_md5(target) == md5.lower():
            say(f"{target} is already there with the right MD5: nothing to download")
            return
        bad = _set_aside(target, target)
        say(f"{target} has another MD5 than {md5}: moved to {bad}")
    _fetch(url, part, say)
    actual = file_md5(part)
    if actual != md5.lower():
        bad = _set_aside(part, target)
        raise InputError(f"{url} has the wrong MD5: expected {md5}, got {actual}. The file is kept as {bad}; run the "
                         "same command again to fetch it anew, or give --md5 if this is another mirror's archive")
    os.replace(part, target)


def _set_aside(path: Path, target: Path) -> Path:
    bad = target.with_name(target.name + ".bad")
    os.replace(path, bad)
    return bad


def _fetch(url: str, part: Path, say: Callable[[str], None]) -> None:
    """Adds to `part` until it holds the whole file."""
    import requests

    try:
        with requests.Session() as session:
            if not _request(session, url, part, say):
                # The server has no such range: the part is longer than its file, or belongs to another.
                part.unlink(missing_ok=True)
                _request(session, url, part, say)
    except requests.RequestException as error:
        kept = f" {part.stat().st_size:,} bytes are kept and will be continued." if part.is_file() else ""
        raise InputError(f"cannot fetch {url} ({type(error).__name__}: {error}).{kept} Check the address and the "
                         "connection and run the same command again, or put the file at "
                         f"{part.with_suffix('')} by other means") from error


def _request(session: Any, url: str, part: Path, say: Callable[[str], None]) -> bool:
    """Asks for what `part` lacks and saves it; False if the server cannot go on from there."""
    import requests

    have = part.stat().st_size if part.is_file() else 0
    # The archive is compressed: compressing it again on the way would make bytes and ranges disagree.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as answer:
        content_range = answer.headers.get("Content-Range", "")
        if have and answer.status_code == 416:
            return content_range == f"bytes */{have}"  # the part is the whole file already
        if have and answer.status_code == 206:
            if not content_range.startswith(f"bytes {have}-"):
                return False
            say(f"going on at byte {have:,} of {url}")
            _save(answer, part, have, say)
            return True
        answer.raise_for_status()
        if answer.status_code != 200:
            raise requests.HTTPError(f"status {answer.status_code}, expected 200")
        say(f"fetching {url}" + (" from the start: the server cannot go on where it stopped" if have else ""))
        _save(answer, part, 0, say)
        return True


def _save(answer: Any, part: Path, start: int, say: Callable[[str], None]) -> None:
    import requests
    from tqdm import tqdm

    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    terminal = sys.stderr.isatty()
    done, reported = start, start
    with open(part, "ab" if start else "wb") as file, tqdm(
            total=total, initial=start, unit="B", unit_scale=True, disable=not terminal) as bar:
        for piece in answer.iter_content(_CHUNK):
            file.write(piece)
            done += len(piece)
            bar.update(len(piece))
            if not terminal and total and done - reported >= total / 10:
                say(f"{done:,} of {total:,} bytes")
                reported = done
    if total is not None and done != total:
        raise requests.ConnectionError(f"the connection closed at byte {done:,} of {total:,}")


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
            contents = _check(target)
        except InputError as error:
            raise InputError(f"{target} exists but is not complete ({error}); move it away and run this "
                             "again") from error
        say(f"{target} is already complete ({contents}) and left untouched")
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        archive = directory / Path(address.path).name
        download(url, archive, md5, say)
        contents = _unpack(archive, target)
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error}") from error
    say(f"{target} is ready ({contents}); give --config.data.dir={directory}")
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
        except (tarfile.TarError, EOFError, ValueError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise InputError(f"{archive} is no readable tar archive ({error}); remove it and run this again") from error
        missing = [name for name in BINARY_BATCHES if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{archive} is not the binary CIFAR-10 archive: its folder {BINARY_FOLDER} lacks "
                             f"{', '.join(missing)}; remove it and run this again, with the --url and --md5 of that "
                             "archive")
        try:
            contents = _check(folder)
        except InputError as error:  # whose message names the folder that is about to be deleted
            problem = str(error).replace(str(folder), f"its folder {BINARY_FOLDER}").replace(beside, str(target.parent))
            raise InputError(f"{archive} holds no whole CIFAR-10: {problem}; remove it and run this again") from error
        os.rename(folder, target)
    return contents


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
