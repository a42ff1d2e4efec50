"""Fetches and verifies CIFAR-10: the official binary archive, checked against its published MD5.

    python launch/prepare_data.py --dir=DIR

Run again after an interruption, it goes on where it stopped; run on a complete folder, it changes nothing. Then train
with --config.data.name=cifar10 --config.data.dir=DIR. The data set `digits` needs none of this.
"""

from absl import flags

from margin_jax import cli
from margin_jax.data.cache import expanded
from margin_jax.data.prepare import CIFAR10_MD5, CIFAR10_URL, prepare_cifar10

_DIR = cli.define_folder("dir", None, "The folder to put cifar-10-batches-bin in; needs about 350 MB.", required=True)
_URL = flags.DEFINE_string("url", CIFAR10_URL, "Where the archive is fetched from.")
_MD5 = flags.DEFINE_string("md5", CIFAR10_MD5, "The MD5 that the archive must have.")


def main(argv: list[str]) -> None:
    """Prepares the data. `cli.run` turns a user's mistake into a message and exit status 2."""
    del argv
    prepare_cifar10(expanded(_DIR.value), _URL.value, _MD5.value)


if __name__ == "__main__":
    cli.run(main)
