"""One entry for each job: train, compress, sweep, stability. Config and data in, a run folder out."""
