"""Paired differences between two systems, with bootstrap intervals.

S = seeds that both systems have run, Q = queries with a match in the gallery.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import UserError
from ..runs.read import Query, Run
from .systems import System

RESAMPLES = 5000
LEVEL = 0.95
SEED = 0
# The contribution of a query to the mean, in percent.
SCORES: dict[str, Callable[[Query], float]] = {
    "mAP": lambda query: 100 * query.ap,
    "Rank-1": lambda query: 100.0 * (query.first_rank == 1),
}


@dataclass(frozen=True)
class Difference:
    """System minus baseline in percentage points with its interval, and the queries and seeds that it comes from."""

    mean: float
    low: float
    high: float
    queries: int
    seeds: tuple[int, ...]


def difference(system: System, baseline: System, score: str = "mAP") -> Difference:
    """The paired difference of two systems in one of SCORES, over the seeds that both have run.

    Raises:
        UserError: if the runs share no seed or lack their queries, or were not tested on the same two or more queries.
    """
    seeds = tuple(sorted({run.seed for run in system.runs} & {run.seed for run in baseline.runs}))
    if not seeds:
        raise UserError("no seed in common")
    runs = [[run for seed in seeds for run in own.runs if run.seed == seed] for own in (system, baseline)]
    tables = [[query_scores(run, score) for run in own] for own in runs]
    queries = tables[0][0].keys()
    if not all(table for own in tables for table in own):
        raise UserError("no queries.csv of the last evaluation")
    if any(table.keys() != queries for own in tables for table in own):
        raise UserError("tested on other queries")
    if len(queries) < 2:
        raise UserError("only one query has a match")
    ours, theirs = (np.array([[table[query] for query in queries] for table in own]) for own in tables)
    return Difference((ours - theirs).mean(), *interval(ours - theirs), len(queries), seeds)


def query_scores(run: Run, score: str) -> dict[tuple[str, str], float]:
    """The score of each query that has a match, by its path below the folder of all queries and its identity.

    Paths are relative to that folder, so that runs on machines with data in different places can be paired.
    """
    matched = [query for query in run.queries if query.ap is not None]
    root = os.path.commonpath([os.path.dirname(query.path) for query in matched]) if matched else ""
    return {(os.path.relpath(query.path, root), query.identity): SCORES[score](query) for query in matched}


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The 95% percentile interval of the mean of (S, Q) paired differences.

    Queries are resampled with replacement and, independently, so are the seeds: the pigeonhole bootstrap (Owen, 2007),
    which gives slightly wide intervals. With one seed only queries are resampled, and the interval does not cover the
    choice of the seed.
    `scipy.stats.bootstrap` resamples one axis only. The resamples are always the same: exchanging the two
    systems changes the signs and nothing else.
    """
    seeds, queries = (resamples(number, axis) for axis, number in enumerate(differences.shape))
    means = ((queries @ differences.T) * seeds).sum(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


@lru_cache(maxsize=4)
def resamples(number: int, stream: int) -> np.ndarray:
    """(RESAMPLES, number) weights of the observations in samples drawn with replacement; each row adds up to one."""
    generator = np.random.default_rng((SEED, stream))
    return generator.multinomial(number, np.full(number, 1 / number), size=RESAMPLES) / number


def differences_by_baseline(systems: Sequence[System]) -> dict[str, dict[str, dict[str, Difference | str]]]:
    """Baseline -> system -> score -> the difference, or the reason in words why there is none."""

    def each(system: System, baseline: System, score: str) -> Difference | str:
        try:
            return difference(system, baseline, score)
        except UserError as error:
            return str(error)

    known = [system for system in systems if system.runs]
    return {
        baseline.name: {
            system.name: {score: each(system, baseline, score) for score in SCORES}
            for system in known
            if system is not baseline
        }
        for baseline in known
    }
