"""Ratios against PyTorch and against ourselves, measured in one run; see launch/benchmark.py."""
