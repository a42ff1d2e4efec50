"""Verdicts on the claims of the paper, computed from the tables that results keep."""
