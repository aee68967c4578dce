"""Comparisons: a run's folder read (`runs`), seeds of a system (`systems`), tables; many runs by one command."""
