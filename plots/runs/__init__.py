"""Figures of one run folder."""
