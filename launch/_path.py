"""Imported first by every launch script: a script sees its own folder only, and `configs` and `plots` lie beside it.

Both are folders of the project and are not installed. Signals are taken over here, before the long imports.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from margin_jax import signals

signals.install()
# No script opens a window. A notebook names its own backend here, which a process started from it need not have.
os.environ["MPLBACKEND"] = "agg"
