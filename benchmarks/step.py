"""Seconds of FANA, losses and memory updates in a FANCL training step, and their share of it.

    python benchmarks/step.py [--depth 18x] [--height 64] [--width 128] [--batch 32] [--steps 10]

FANA and the updates have no backward pass; that of the losses is not told apart from the encoders'. The whole step,
without the loading of its batch, runs as in training; then its parts are measured, for which a GPU is waited for before
and after each, so that their shares are rather too large. Weights are random: they do not change the time. Prints
Markdown; `--output NAME` also writes NAME.md and NAME.csv.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl import load_config  # noqa: E402, I001 (fixes fast-reid before it is imported)
from fastreid_fancl.fana import FANA  # noqa: E402
from fastreid_fancl.engine.record import setting  # noqa: E402
from fastreid_fancl.engine.trainer import Trainer  # noqa: E402
from fastreid_fancl.memory import ClusterMemory  # noqa: E402
from fastreid_fancl.methods import fancl  # noqa: E402
from tables import Tables, add_output  # noqa: E402

TIMED = {
    "FANA": [(FANA, "forward"), (sys.modules[FANA.__module__], "activation_map")],
    "losses": [(ClusterMemory, "forward"), (fancl, "consistency_loss")],
    "memory": [(ClusterMemory, "update")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", default="18x")
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    add_output(parser)
    args = parser.parse_args()
    config = Path(__file__).resolve().parents[1] / "configs/RedPanda/fancl.yml"
    dim = 512 if args.depth in ("18x", "34x") else 2048
    keys = ["MODEL.BACKBONE.DEPTH", args.depth, "MODEL.BACKBONE.FEAT_DIM", dim, "MODEL.BACKBONE.PRETRAIN", False]
    cfg = load_config(str(config), keys)
    model = Trainer.build_model(cfg).train()
    seconds = measure(model, Trainer.build_optimizer(cfg, model)[0], args)
    report(seconds, args, model.device)


def measure(model, optimiser, args) -> dict[str, float]:
    """Means over the steps after a warm-up of two: seconds of the whole "step", then by part."""
    images = torch.rand(args.batch, 3, args.height, args.width, device=model.device) * 255
    batch = {"images": images, "targets": torch.arange(args.batch, device=model.device) // 4}
    with torch.no_grad():
        model.start_epoch(model.cluster_features(batch), batch["targets"])

    def run(steps):
        began = now()
        for _ in range(steps):
            losses = model(batch)
            optimiser.zero_grad()
            sum(losses.values()).backward()
            optimiser.step()
        return now() - began

    run(2)
    whole = run(args.steps)
    spent = watch()
    run(args.steps)
    return {part: total / args.steps for part, total in {**spent, "step": whole}.items()}


def watch() -> dict[str, float]:
    """Add up the seconds of every timed function, by part."""
    spent: dict[str, float] = defaultdict(float)
    for part, functions in TIMED.items():
        for owner, name in functions:
            setattr(owner, name, adding_seconds(getattr(owner, name), part, spent))
    return spent


def adding_seconds(function, part: str, spent: dict[str, float]):
    def run(*args, **kwargs):
        began = now()
        result = function(*args, **kwargs)
        spent[part] += now() - began
        return result

    return run


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def report(seconds: dict[str, float], args, device: torch.device) -> None:
    """Print the table."""
    tables = Tables(args.output, setting(device)["machine"], torch.get_num_threads())
    tables.say(f"ResNet-{args.depth.rstrip('x')}, {args.batch} images of {args.height} x {args.width} (H x W),")
    tables.say(f"{args.steps} steps\n")
    whole = seconds["step"]
    rows = [{"part": part, "ms": 1000 * seconds[part], "share": seconds[part] / whole} for part in (*TIMED, "step")]
    tables.add(rows)


if __name__ == "__main__":
    main()
