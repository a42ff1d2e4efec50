"""Networks: Flax modules whose parameters are plain pytrees."""
