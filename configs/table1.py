"""Table 1: the drop after compression to 200 examples, by learning rate, batch size and optimiser.

Claim      from 0.11 to 33.31 points: "large learning rates and small batch size" lose least.
Expected   the opposite order of cells, Spearman's rho -0.87 (-0.97 to -0.64); 200 random examples lose less than the
           200 smallest margins in 17 of 18 cells (results/table1). With settings for the whole run, on CIFAR-2, the
           paper's order, 0.78 (0.35 to 0.94); random ones lose less in all 15 cells that separated
           (results/table1_whole_run_cifar2).
Time       about 20 minutes on two CPU cores from separated networks on.
Run        python launch/compress.py --config=configs/table1.py --config.data.dir=DIR --workdir=runs/table1
           The paper leaves open whether a cell's settings hold after the removal alone, as here, or for the whole run:
           add --config.compress.grid_scope=whole_run --config.compress.base= --config.shuffle=True (for small
           batches in fixed order see configs/cifar10_separated.py).
           The DenseNet half: --config=configs/table1.py:densenet
Trial      add --config.data.name=digits --config.compress.base= --config.batch_size=100
"""

from ml_collections import ConfigDict

from configs.cifar10_separated import get_config as separated


def get_config(model: str = "convnet") -> ConfigDict:
    """Three learning rates and six batch sizes (DenseNet-BC: three, and two optimisers), three seeds, all controls."""
    config = separated()
    config.compress.mode = "grid"
    config.compress.keep = 200
    config.compress.seeds = (0, 1, 2)
    config.compress.epochs = 50
    config.compress.base = "runs/separated"
    if model == "densenet":
        config.model.name = "densenet"
        config.batch_size = 50
        config.compress.grid_optimizers = ("adam", "sgd")
        config.compress.grid_batch_sizes = (200, 100, 50)
        config.compress.base = "runs/separated_densenet"
    elif model != "convnet":
        raise ValueError(f"expected configs/table1.py, or configs/table1.py:densenet, got {model!r}")
    return config
