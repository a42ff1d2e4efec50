"""Figures and tables of a sweep over many networks."""
