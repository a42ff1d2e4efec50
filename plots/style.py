"""One look for every figure: a paper column's width, readable type, colours safe for colour-blind readers."""

import functools
import io
import logging
import os
import pathlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure

from margin_jax.errors import InputError

SINGLE, DOUBLE = 3.3, 6.8  # inches: one and two columns of a paper
BLUE, ORANGE, GREEN, VERMILLION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"  # Okabe and Ito
RC = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "figure.labelsize": 8, "figure.titlesize": 8,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
    "legend.handlelength": 1.8, "legend.columnspacing": 1.2, "axes.linewidth": 0.6, "lines.linewidth": 1.0,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4, "ytick.minor.width": 0.4, "pdf.fonttype": 42, "savefig.dpi": 300,
    "figure.constrained_layout.w_pad": 0.03, "figure.constrained_layout.h_pad": 0.03,
}
# absl shows INFO messages, and writing a PDF gives a dozen of them on how its fonts were cut down.
logging.getLogger("fontTools").setLevel(logging.WARNING)
_P, _R = ParamSpec("_P"), TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a function that draws: it runs with this style whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with matplotlib.style.context(["default", RC]):
            return draw(*args, **kwargs)

    return inside


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches that needs neither a display nor pyplot's global state."""
    return Figure(figsize=(width, height), layout="constrained")


@styled
def save(figure: Figure, folder: str | pathlib.Path, name: str) -> list[pathlib.Path]:
    """Writes `name.png` at 300 dpi and `name.pdf`; the same figure gives the same bytes.

    Args:
      figure: what to write.
      folder: where to, made if absent; mostly `workdir / "figures"`.
      name: the file name without its ending.

    Returns:
      The two paths.

    Raises:
      InputError: the folder cannot be written to.
    """
    # Without a date and a version, a figure that did not change leaves no difference in a repository.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    contents = {}
    for kind, fields in metadata.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=fields)
        contents[kind] = buffer.getvalue()
    return [write(pathlib.Path(folder) / f"{name}.{kind}", content) for kind, content in contents.items()]


def write(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Writes a file under another name and renames it, so that a viewer never loads half of one.

    Raises:
      InputError: no permission, or no space.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return path
