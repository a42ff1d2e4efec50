"""What lies on disk: tables, records, checkpoints. Reading imports no JAX."""
