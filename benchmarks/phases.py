"""The share of each phase in an epoch's time, from the metrics that a run has logged.

    python benchmarks/phases.py logs/SyntheticSmall/fancl_0

Prints Markdown; `--output NAME` also writes NAME.md and NAME.csv.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tables import Tables, add_output  # noqa: E402

from fastreid_fancl.errors import UserError, exit_with_message  # noqa: E402
from fastreid_fancl.runs.read import read_config, read_metrics, read_starts  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    add_output(parser)
    args = parser.parse_args()
    read_config(args.run)  # says what is wrong with a folder that is no run's
    rows, starts = shares(args.run), read_starts(args.run)
    machine, threads = (starts[-1]["machine"], starts[-1]["threads"]) if starts else ("an unknown machine", "unknown")
    Tables(args.output, machine, threads).add(rows)


def shares(run: Path) -> list[dict]:
    """A row for each phase: mean seconds over the epochs that had it, their number, and the share of all seconds.

    Raises:
        UserError: if no epoch has been logged.
    """
    phases: dict[str, list[float]] = defaultdict(list)
    for line in read_metrics(run):
        for name, value in line.items():
            had = name != "seconds_evaluation" or any(key.endswith("mAP") for key in line)
            if name.startswith("seconds_") and had:
                phases[name.removeprefix("seconds_")].append(value)
    total = sum(map(sum, phases.values()))
    if not total:
        raise UserError(f"{run / 'metrics.json'} has no seconds of an epoch: let the run finish one.")
    return [
        {"phase": phase, "times": len(seconds), "seconds_each": mean(seconds), "share": sum(seconds) / total}
        for phase, seconds in phases.items()
    ]


if __name__ == "__main__":
    with exit_with_message():
        main()
