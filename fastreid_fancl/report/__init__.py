"""Comparisons: what runs' folders say (`runs`), tables of it (`tables`), many runs by one command (`compare`)."""
