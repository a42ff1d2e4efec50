"""Figures and tables of replace-one stability and of deletions."""
