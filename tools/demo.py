#!/usr/bin/env python3
"""FANCL on the small SyntheticPandas, from nothing to a table: `demo.py [--seeds 0 1 2] [--output DIR]`.

Pre-trains on SyntheticSource (kept and reused), then compares the unseen animals' retrieval by the untrained encoder,
the pre-trained start, FANCL, and the same training with the true labels, the upper bound. An interrupted run continues.
"""

import argparse
import os
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

import fastreid_fancl  # noqa: E402, F401, I001 (fixes fast-reid before it is imported)
from fastreid.engine import default_argument_parser  # noqa: E402
from fastreid_fancl.engine.run import train  # noqa: E402
from fastreid_fancl.errors import exit_with_message  # noqa: E402
from fastreid_fancl.runs.read import read_epochs  # noqa: E402
from fastreid_fancl.report.tables import markdown_cell, summary  # noqa: E402

CONFIGS = REPO / "configs/SyntheticSmall"
METRICS = ("mAP", "Rank-1", "Rank-5", "Rank-10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", default="logs/SyntheticSmall")
    args = parser.parse_args()
    began, output = time.time(), Path(args.output)
    start = pretrain(output / "pretrain")
    table = {
        "untrained encoder": [run("fancl", output / "untrained", "--eval-only", MODEL__WEIGHTS="")],
        "start: pre-trained on SyntheticSource": [run("fancl", output / "start", "--eval-only", MODEL__WEIGHTS=start)],
        "FANCL, no labels": [],
        "true labels (upper bound)": [],
    }
    for seed in args.seeds:
        options = {"MODEL__WEIGHTS": start, "SEED": seed}
        table["FANCL, no labels"].append(run("fancl", output / f"fancl_{seed}", "--resume", **options))
        bound = run("fancl", output / f"oracle_{seed}", "--resume", PSEUDO_LABELS__ALGORITHM="oracle", **options)
        table["true labels (upper bound)"].append(bound)
    report(table, args.seeds, output, (time.time() - began) / 60)


def pretrain(output: Path) -> str:
    """The weights that everything starts from, trained unless they are there already."""
    weights = output / "model_final.pth"
    if not weights.exists():
        run("pretrain", output, "--resume")
    return os.fspath(weights)


def run(config: str, output: Path, *flags: str, **options) -> dict[str, float]:
    """Train or evaluate by one configuration as `train_net.py` does: the results by name."""
    opts = [str(word) for key, value in options.items() for word in (key.replace("__", "."), value)]
    words = ["--config-file", os.fspath(CONFIGS / f"{config}.yml"), *flags, "OUTPUT_DIR", os.fspath(output), *opts]
    return train(default_argument_parser().parse_args(words))


def report(table: dict[str, list[dict]], seeds: list[int], output: Path, minutes: float) -> None:
    """Print mean (and deviation, with several seeds) of the metrics, the clusters, and where everything is."""
    print(f"\nRetrieval of animals that no training saw, SyntheticPandasSmall, seeds {seeds}:\n")
    print(f"| encoder | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for name, results in table.items():
        cells = (markdown_cell(summary([result[metric] for result in results])) for metric in METRICS)
        print(f"| {name} | {' | '.join(cells)} |")
    for seed in seeds:
        folder = output / f"fancl_{seed}"
        epochs = [epoch.clustering for epoch in read_epochs(folder)]
        clusters = ", ".join(f"{epoch['clusters']:.0f} (ARI {epoch['ari']:.2f})" for epoch in epochs)
        print(f"\nSeed {seed}: {epochs[-1]['identities']:.0f} animals; clusters found, epoch by epoch: {clusters}")
        print(f"  log {folder}/log.txt, metrics {folder}/metrics.json, checkpoint {folder}/model_final.pth")
        print(f"  which photographs belong together: {folder}/clusters.csv")
    print(f"\n{minutes:.1f} minutes.")


if __name__ == "__main__":
    with exit_with_message("run the same command again to continue from the last checkpoint"):
        main()
