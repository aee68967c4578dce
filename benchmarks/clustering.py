"""From features to pseudo-labels: this package beside the algorithm of the released codes, and other searches.

    python benchmarks/clustering.py --rows 12936 --dimensions 2048
    python benchmarks/clustering.py --rows 10000 30000 100000 300000 1000000 --dimensions 256 --only "this package"

All get the same hard synthetic features: identities of uneven sizes, cameras that shift features, a decaying spectrum.
Each system runs in a separate process, so that its peak memory can be measured. Systems take turns, so that other load
on the machine affects all of them; the best turn counts. CPU seconds, of all threads together, are the fairer measure
on a shared machine. Prints Markdown, with fitted exponents from three sizes on; `--output NAME` also writes NAME.md and
NAME.csv.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from clusterers import CLUSTERERS, equal_pairs  # noqa: E402
from tables import Tables, add_output  # noqa: E402

PHASES = ("search", "distances", "cluster", "another eps")
ONCE = "released algorithm"  # takes its turn once: it is slow, and needs 13 bytes for each of N x N pairs
COLUMNS = ("rows", "dimensions", "system", *PHASES, "all", "cpu", "memory_gb", "clusters", "left_out", "agreement")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[12936])
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--only", nargs="+", choices=CLUSTERERS, default=list(CLUSTERERS))
    parser.add_argument("--spread", type=float, default=1.0, help="how far images lie from their identity")
    parser.add_argument("--k1", type=int, default=30)
    parser.add_argument("--k2", type=int, default=6)
    parser.add_argument("--eps", type=float, default=0.6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=3)
    add_output(parser)
    return parser.parse_args()


class Turn:
    """One system on one set of features, in a process of its own."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path):
        import torch

        torch.set_num_threads(options.threads)
        features = np.load(folder / "features.npy")
        self.options, self.folder = options, folder
        self.system = CLUSTERERS[name](features, options.k1, options.k2)
        self.before, self.seconds, self.cpu, self.found = peak_gigabytes(), {}, np.inf, {}

    def take(self) -> None:
        """Run all phases; keep the least seconds of each."""
        system, began = self.system, time.process_time()
        neighbors = self._timed("search", system.search, system.features)
        if hasattr(system, "cluster"):
            self.distance = self._timed("distances", system.distances, system.features, neighbors)
            self.labels = self._timed("cluster", system.cluster, self.distance, self.options.eps)
        self.cpu = min(self.cpu, time.process_time() - began)
        if hasattr(system, "cluster"):
            self._timed("another eps", system.cluster, self.distance, self.options.eps + 0.05)

    def _timed(self, phase, function, *arguments):
        began = time.perf_counter()
        result = function(*arguments)
        self.seconds[phase] = min(time.perf_counter() - began, self.seconds.get(phase, np.inf))
        return result

    def result(self) -> dict:
        """The line of the table, and whether labels and distances equal those of the package."""
        seconds = sum(self.seconds.get(phase, 0) for phase in PHASES[:3])
        line = self.seconds | {"all": seconds, "cpu": self.cpu, "memory_gb": peak_gigabytes() - self.before}
        if hasattr(self, "labels"):
            line |= {"clusters": int(self.labels.max() + 1), "left_out": float((self.labels < 0).mean())}
            line["agreement"] = self._agreement()
        return line

    def _agreement(self) -> str:
        mine = self.folder / "package.npz"
        if not isinstance(self.distance, np.ndarray):
            parts = {name: getattr(self.distance, name) for name in ("data", "indices", "indptr")}
            np.savez(mine, labels=self.labels, **parts)
        elif mine.exists():
            from scipy.sparse import csr_matrix

            package = np.load(mine)
            distance = csr_matrix((package["data"], package["indices"], package["indptr"]), shape=self.distance.shape)
            share = equal_pairs(distance, self.distance, below=0.95 - 1e-5)
            labels = (package["labels"] == self.labels).mean()
            return f"{labels:.2%} of labels, {share:.3%} of distances below 0.95 equal"
        return ""


def peak_gigabytes() -> float:
    """As `engine.record.peak_resident`, whose imports would count as memory of the systems."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


TURN = []  # the process's own


def begin(*arguments) -> None:
    TURN.append(Turn(*arguments))


def take() -> None:
    TURN[0].take()


def result() -> dict:
    return TURN[0].result()


def compare(rows: int, options: argparse.Namespace) -> dict[str, dict]:
    """The line of each system on `rows` rows."""
    from support.oracles import hard_features

    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        features, _ = hard_features(rows, options.dimensions, max(2, rows // 17), spread=options.spread)
        np.save(f"{folder}/features.npy", features)
        del features
        pools = {name: spawn.Pool(1, begin, (name, options, Path(folder))) for name in options.only}
        for turn in range(options.turns):
            for name, pool in pools.items():
                if turn == 0 or name != ONCE:
                    pool.apply(take)
        lines = {name: pool.apply(result) for name, pool in pools.items()}
        for pool in pools.values():
            pool.terminate()
    return lines


def exponents(lines: dict[int, dict]) -> str:
    """Exponents e of seconds ~ N^e and of memory by least squares on logarithms, of this package."""
    sizes, found = np.log(list(lines)), []
    for column in ("search", "distances", "cluster", "all", "cpu", "memory_gb"):
        values = np.log([line[column] for line in lines.values()])
        found.append(f"- {column}: N^{np.polyfit(sizes, values, 1)[0]:.2f}")
    return "\n".join(found)


def processor() -> str:
    from fastreid_fancl.engine.record import processor

    return processor()


def main() -> None:
    options = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # read by the processes below when they start
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # what this process holds would count as theirs
        machine = pool.apply(processor)
    tables = Tables(options.output, machine, options.threads)
    tables.say(f"k1 {options.k1}, k2 {options.k2}, eps {options.eps}, min_samples 4, best of {options.turns} turns;")
    tables.say("seconds, and GB above the features\n")
    found = {}
    for rows in options.rows:
        lines = compare(rows, options)
        whole = [{"rows": rows, "dimensions": options.dimensions, "system": name, **lines[name]} for name in lines]
        table = [{column: line.get(column) for column in COLUMNS} for line in whole]
        tables.add(table)
        if "this package" in lines:
            found[rows] = lines["this package"]
    if len(found) > 2:
        tables.say(exponents(found))


if __name__ == "__main__":
    main()
