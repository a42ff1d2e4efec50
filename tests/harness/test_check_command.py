"""launch/check.py as a user types it."""

from helpers.commands import launch
from helpers.runs import run_config

from margin_jax.experiments.train import train


def command(workdir):
    return launch("check.py", f"--workdir={workdir}")


def test_a_folder_is_whole_until_one_bit_of_it_changes(data, tmp_path):
    train(run_config(data, epochs=1), tmp_path / "run")
    whole = command(tmp_path)  # the folder above will do
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines() == [f"whole   {tmp_path / 'run'}: 5 files whole, over",
                                         f"whole   {tmp_path / 'run' / 'checkpoints'}: 2 checkpoints whole"]
    path = tmp_path / "run" / "mask.npz"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(bytes(content))
    damaged = command(tmp_path / "run")
    assert damaged.returncode == 1 and "Traceback" not in damaged.stderr
    assert damaged.stdout.splitlines()[0].startswith(f"DAMAGED {path} is damaged: its checksum is ")
    assert len(damaged.stdout.splitlines()) == 2
    nothing = command(tmp_path / "nothing")
    assert nothing.returncode == 2 and "holds no job of margin_jax" in nothing.stderr
