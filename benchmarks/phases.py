"""The share of each phase in an epoch's time, from the metrics that a run has logged.

    python benchmarks/phases.py logs/SyntheticSmall/fancl_0

Prints Markdown; `--output NAME` also writes NAME.md and NAME.csv.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

from tables import Tables, add_output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    add_output(parser)
    args = parser.parse_args()
    last = json.loads((args.run / "run.json").read_text())[-1]
    tables = Tables(args.output, last["machine"], last["threads"])
    rows = shares(args.run)
    tables.add(rows)


def shares(run: Path) -> list[dict]:
    """A row a phase: mean seconds over the epochs that had it, times how often, as a share."""
    phases: dict[str, list[float]] = defaultdict(list)
    for line in map(json.loads, (run / "metrics.json").open()):
        for name, value in line.items():
            had = name != "seconds_evaluation" or any(key.endswith("mAP") for key in line)
            if name.startswith("seconds_") and had:
                phases[name.removeprefix("seconds_")].append(value)
    total = sum(map(sum, phases.values()))
    return [
        {"phase": phase, "times": len(seconds), "seconds_each": mean(seconds), "share": sum(seconds) / total}
        for phase, seconds in phases.items()
    ]


if __name__ == "__main__":
    main()
