"""What the data tests share: small archives as the official ones are laid out, data sets, and a local HTTP server."""

import contextlib
import hashlib
import http.server
import io
import os
import pathlib
import re
import struct
import tarfile
import threading

import numpy as np
import pytest

from margin_jax.data.dataset import Dataset, make_split

ROWS = 4  # of each small batch file


def cifar_folder() -> str:
    """Returns the folder with real CIFAR-10, or skips the test."""
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not folder or not list(pathlib.Path(folder).glob("cifar10/*/dataset_info.json")):
        pytest.skip("needs real CIFAR-10: set TFDS_DATA_DIR to a TFDS folder that holds cifar10")
    return folder


def tiny_dataset(train: int = 30, test: int = 9, classes: int = 3, seed: int = 0) -> Dataset:
    """Returns random 4 x 5 x 3 images whose ids have gaps; every class occurs."""
    generator = np.random.default_rng(seed)
    splits = []
    for rows in (train, test):
        images = generator.integers(0, 256, (rows, 4, 5, 3), dtype=np.uint8)
        splits.append(make_split(images, np.arange(rows) % classes, 3 * np.arange(rows) + 2))
    return Dataset("tiny", *splits, tuple("red green blue grey black white".split()[:classes]))


def batch(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Returns planar pixels (rows, 3072) and labels (rows,) whose values over the first seeds cover all ten classes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, 3072), dtype=np.uint8)
    return pixels, ((np.arange(rows) + seed * rows) % 10).astype(np.uint8)


def write_binary(folder: pathlib.Path, rows: int = ROWS) -> pathlib.Path:
    """Writes a small cifar-10-batches-bin; batch k of data_batch_1 ... test_batch holds batch(k)."""
    target = folder / "cifar-10-batches-bin"
    target.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        pixels, labels = batch(seed, rows)
        (target / f"{name}.bin").write_bytes(np.column_stack([labels, pixels]).tobytes())
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    (target / "batches.meta.txt").write_text(names.replace(" ", "\n") + "\n\n")
    return target


def python2_pickle(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Returns what Python 2 wrote for {'data': pixels, 'labels': labels}, as in the official files."""
    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
             + b"(K\x01" + number(pixels.shape[0]) + number(pixels.shape[1]) + b"\x86"
             + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + number(-1) + number(-1) + b"K\x00tb"
             + b"\x89T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb")
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + listed + b"u."


def tarball(folder: pathlib.Path, **extra: bytes) -> tuple[bytes, str]:
    """Returns a .tar.gz of a folder under its own name, with extra files in it, and its MD5."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(folder, arcname=folder.name)
        for name, content in extra.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue(), hashlib.md5(stream.getvalue()).hexdigest()


class Server:
    """Serves one file on loopback; `requests` lists the Range header of every request it got ("" without one)."""

    def __init__(self, content: bytes, ranges: bool = True, stop_after: int | None = None, status: int = 200,
                 shift: int = 0) -> None:
        self.content, self.ranges, self.stop_after, self.status, self.shift = content, ranges, stop_after, status, shift
        self.requests: list[str] = []
        self.url = ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answers one GET with the whole file or the range asked for (shifted), cut short after `stop_after` bytes."""
        asked = handler.headers.get("Range", "")
        self.requests.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) + self.shift if asked and self.ranges else 0
        size = len(self.content)
        if self.status != 200 or asked and start >= size:
            handler.send_response(416 if self.status == 200 else self.status)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.send_header("Content-Length", str(size - start))
        handler.end_headers()
        handler.wfile.write(self.content[start:][: self.stop_after])


@contextlib.contextmanager
def serving(server: Server):
    """Runs a server for the length of a with block; its address is then in `server.url`."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)
            self.close_connection = True

        def log_message(self, *arguments) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}/cifar-10-binary.tar.gz"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
