"""Seconds and memory from features to pseudo-labels: this package beside the dense algorithm of the released codes.

    python benchmarks/clustering.py --rows 12936 --dimensions 2048

Both run on the same hard synthetic features, one after the other, each in a process of its own, so that their peaks of
memory can be told apart; the table is Markdown. The dense algorithm builds N x N matrices: above about
40,000 rows leave it out (--sparse-only).
"""

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy import sparse

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

PACKAGES = ("torch", "numpy", "scipy", "numba", "scikit-learn", "faiss-cpu")
PHASES = ("neighbours", "Jaccard", "DBSCAN", "another eps")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12936)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--spread", type=float, default=1.0, help="how far images lie from their identity")
    parser.add_argument("--k1", type=int, default=30)
    parser.add_argument("--k2", type=int, default=6)
    parser.add_argument("--eps", type=float, default=0.6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many, of this package")
    parser.add_argument("--sparse-only", action="store_true")
    return parser.parse_args()


class Stopwatch:
    """Least seconds of each phase."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def __call__(self, phase, function, *arguments, **options):
        began = time.perf_counter()
        result = function(*arguments, **options)
        self.seconds[phase] = min(time.perf_counter() - began, self.seconds.get(phase, np.inf))
        return result


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def make_features(options: argparse.Namespace) -> np.ndarray:
    import torch
    from oracles import hard_features

    torch.set_num_threads(options.threads)
    return hard_features(options.rows, options.dimensions, max(2, options.rows // 17), spread=options.spread)[0]


def run_sparse(options: argparse.Namespace, folder: str) -> tuple[dict[str, float], float, float, str]:
    """Seconds of the phases, peak memory, memory before them, and what was found."""
    features = make_features(options)
    from fastreid_fancl import clustering
    from fastreid_fancl.clustering import jaccard, knn

    warm = clustering.jaccard_distance(features[:500], options.k1, options.k2)
    clustering.dbscan(warm, options.eps)
    before, stopwatch = peak_gigabytes(), Stopwatch()
    for _ in range(options.repeat):
        neighbors = stopwatch("neighbours", knn, features, options.k1)
        jaccard.knn = lambda *_, found=neighbors: found  # so that what follows the search is timed alone
        distance = stopwatch("Jaccard", clustering.jaccard_distance, features, options.k1, options.k2)
        labels = stopwatch("DBSCAN", clustering.dbscan, distance, options.eps)
        stopwatch("another eps", clustering.dbscan, distance, options.eps + 0.05)
    peak = peak_gigabytes()
    sparse.save_npz(f"{folder}/distance.npz", distance, compressed=False)
    np.save(f"{folder}/labels.npy", labels)
    found = (
        f"{labels.max() + 1} clusters, {(labels < 0).mean():.1%} left out, {distance.nnz / len(labels):.0f} pairs a row"
    )
    return stopwatch.seconds, peak, before, found


def run_dense(options: argparse.Namespace, folder: str) -> tuple[dict[str, float], float, float, str]:
    """As `run_sparse`, with the dense loops; what was found is the comparison with the sparse result."""
    features = make_features(options)
    import faiss
    from oracles import dense_jaccard
    from sklearn.cluster import DBSCAN
    from sklearn.metrics import adjusted_rand_score

    faiss.omp_set_num_threads(options.threads)
    before, stopwatch = peak_gigabytes(), Stopwatch()

    def search():
        index = faiss.IndexFlatL2(features.shape[1])
        index.add(features)
        return index.search(features, options.k1)[1]

    def cluster(eps):
        return DBSCAN(eps=eps, min_samples=4, metric="precomputed", n_jobs=-1).fit_predict(distance)

    neighbors = stopwatch("neighbours", search)
    distance = stopwatch("Jaccard", dense_jaccard, features, options.k1, options.k2, neighbors)
    labels = stopwatch("DBSCAN", cluster, options.eps)
    stopwatch("another eps", cluster, options.eps + 0.05)
    peak = peak_gigabytes()
    agreement = adjusted_rand_score(np.load(f"{folder}/labels.npy"), labels)
    near = compare(sparse.load_npz(f"{folder}/distance.npz"), distance)
    return (
        stopwatch.seconds,
        peak,
        before,
        f"ARI with this package {agreement:.4f}, {near:.3%} of distances equal to 1e-5",
    )


def compare(distance: sparse.csr_matrix, dense: np.ndarray) -> float:
    """Share of the pairs below 1 in either matrix whose distances differ by less than 1e-5."""
    equal = pairs = 0
    for i, expected in enumerate(dense):
        own = np.ones_like(expected)
        part = slice(distance.indptr[i], distance.indptr[i + 1])
        own[distance.indices[part]] = distance.data[part]
        some = (own < 1) | (expected < 1)
        pairs += some.sum()
        equal += (np.abs(own - expected)[some] < 1e-5).sum()
    return equal / pairs


def report(options: argparse.Namespace, results: dict[str, tuple]) -> None:
    print(f"{options.rows} x {options.dimensions}, k1 {options.k1}, k2 {options.k2}, eps {options.eps}, min_samples 4")
    print(f"{processor()}, {options.threads} threads; Python {platform.python_version()}, {versions()}\n")
    print("| | " + " | ".join(f"{phase}, s" for phase in PHASES) + " | all, s | peak memory, GB (before) | |")
    print("|---" * (len(PHASES) + 4) + "|")
    for name, (seconds, peak, before, found) in results.items():
        total = sum(seconds[phase] for phase in PHASES[:3])
        numbers = [f"{seconds[phase]:.3g}" for phase in PHASES] + [f"{total:.3g}", f"{peak:.2f} ({before:.2f})", found]
        print(f"| {name} | " + " | ".join(numbers) + " |")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    options = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # read by the processes below when they start
    runs = {"sparse, this package": run_sparse} | ({} if options.sparse_only else {"dense": run_dense})
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for name, run in runs.items():
            with spawn.Pool(1) as pool:
                results[name] = pool.apply(run, (options, folder))
    report(options, results)


if __name__ == "__main__":
    main()
