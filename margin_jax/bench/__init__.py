"""How long the library's work takes, as ratios against PyTorch and against itself; see launch/benchmark.py."""
