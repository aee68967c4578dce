"""Comparisons: runs of several systems and seeds, one after another or side by side."""
