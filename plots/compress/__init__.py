"""Figures and tables of a compression."""
