"""Makes a run folder, with its figures, of logits that any framework has written.

python launch/analyse.py --logits=logits.npz --workdir=runs/mine

The file holds the arrays logits (E, N, C), of E epochs, or (N, C), and labels (N,); where they are known ids, epochs,
class_names, true_labels, rho, and test_logits with test_labels (docs/library.md). From the folder on launch/plot.py and
launch/suspects.py go on as for any run. A loop of one's own records its epochs with margin_jax.Recorder instead.
"""

import _path  # noqa: F401
from _figures import draw_figures, run_or_read

from margin_jax import cli
from margin_jax.experiments.recorder import record_arrays
from plots.runs.draw import draw

_LOGITS = cli.define_folder("logits", None, "The .npz file.", required=True)
_WORKDIR = cli.define_folder("workdir", None, "The run folder to be made.", required=True)


def main(_: list[str]) -> None:
    """Records, then draws."""
    _, refusal = run_or_read(lambda: record_arrays(_LOGITS.value, _WORKDIR.value), _WORKDIR.value)
    draw_figures(lambda: draw(_WORKDIR.value), _WORKDIR.value, refusal)


if __name__ == "__main__":
    cli.run(main)
