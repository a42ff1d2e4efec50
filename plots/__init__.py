"""Figures of a run folder, one file per figure. Nothing here imports JAX: a laptop draws what a cluster recorded."""
