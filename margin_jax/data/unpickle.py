"""A pickle reader that admits uint8 arrays and plain values only.

A pickle can name any function and have it called while it is read. This one lets a file name just what the official
`cifar-10-batches-py` files need; everything else ends the reading before anything is called.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from margin_jax.errors import InputError

# The function NumPy itself names when it pickles an array; taken from an array, since its module moved in NumPy 2.
_RECONSTRUCT = np.empty(0, np.uint8).__reduce__()[0]


class _Refused(Exception):
    """Says what the file holds that is not admitted."""


def _uint8_dtype(spec: str | bytes, align: int = 0, copy: int = 0) -> np.dtype:
    """Stands in for numpy.dtype: Python 2 wrote align=0, which NumPy 2.4 warns about, and only bytes are expected."""
    if spec not in ("u1", b"u1", "|u1", "uint8"):
        raise _Refused(f"an array of type {spec!r}")
    return np.dtype(np.uint8)


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, by which Python 3 writes bytes in the old protocols."""
    if encoding != "latin1":
        raise _Refused(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable | type] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _uint8_dtype,
    ("_codecs", "encode"): _latin1_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _Refused(f"the name {module}.{name}")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the outside object {pid!r}")


def read_arrays(path: Path) -> dict:
    """Reads a pickled dictionary of uint8 arrays, numbers, texts and lists without running code from the file.

    Args:
        path: a pickle written by Python 2 or 3.

    Returns:
        The dictionary. Text that Python 2 wrote comes back as bytes, keys included.

    Raises:
        InputError: the file cannot be opened, is cut short or damaged, holds anything else, or is no dictionary.
    """
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except _Refused as error:
        raise InputError(f"{path} is refused: expected a pickle of uint8 arrays and plain values, found {error}. Fetch "
                         "the official files again, or the binary ones with launch/prepare_data.py") from error
    except Exception as error:  # a damaged pickle can fail in any operation: EOFError, KeyError, MemoryError, ...
        raise InputError(f"{path} is cut short or damaged ({type(error).__name__}: {error}); fetch it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold a dictionary, found {type(content).__name__}")
    return content
