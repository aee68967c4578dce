"""Comparisons: run several systems and seeds, one after another or in parallel, and report on them."""
