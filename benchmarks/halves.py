"""Split a data set's animals into halves: `halves.py SOURCE TARGET`, folders with a metadata.csv.

TARGET gets a table that names SOURCE's photographs: of the animals, sorted by name, every second one trains from the
first on, and the others are the test. So no animal that is scored was trained on.
"""

import argparse
import csv
import os
from pathlib import Path


def main() -> None:
    """Write TARGET/metadata.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    with open(args.source / "metadata.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    training = set(sorted({row["identity"] for row in rows})[::2])
    args.target.mkdir(parents=True, exist_ok=True)
    with open(args.target / "metadata.csv", "w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(dict.fromkeys([*rows[0], "split"])))
        table.writeheader()
        for row in rows:
            path = os.path.relpath(args.source / row["path"], args.target)
            table.writerow({**row, "path": path, "split": "train" if row["identity"] in training else "test"})


if __name__ == "__main__":
    main()
