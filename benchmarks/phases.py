"""The share of each phase in an epoch's time, from the metrics that a run has logged.

python benchmarks/phases.py logs/SyntheticSmall/fancl_0
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean


def main(folder: str) -> None:
    """Print a Markdown table: mean seconds of a phase over the epochs that had it, times how often, as a share."""
    phases: dict[str, list[float]] = defaultdict(list)
    for line in map(json.loads, (Path(folder) / "metrics.json").open()):
        for name, value in line.items():
            if name.startswith("seconds_"):
                phases[name.removeprefix("seconds_")].append(value)
    total = sum(map(sum, phases.values()))
    print("| phase | times | seconds each | share |\n|---|---|---|---|")
    for phase, seconds in phases.items():
        print(f"| {phase} | {len(seconds)} | {mean(seconds):.3f} | {100 * sum(seconds) / total:.2f}% |")


if __name__ == "__main__":
    main(sys.argv[1])
