"""Imported first by every launch script: a script sees its own folder only, and `configs` and `plots` lie beside it.

Both are folders of the project and are not installed.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
