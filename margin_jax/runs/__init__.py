"""One loop per job: config and data in, a run folder out."""
