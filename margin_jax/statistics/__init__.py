"""Rankings, intervals and the audit of measures: NumPy and SciPy alone."""
