"""Photographs per second of feature extraction on a CPU, by encoder, runtime and precision.

    python benchmarks/extraction.py [--encoders tf_efficientnet_lite0 resnet50] [--size 224] [--threads 1 2]

Reading and resizing are left out. Each turn runs a batch in every way, one after the other, so that other work on the
machine slows all of them. Weights and images are random: they do not change the time. bfloat16 is left out where the
processor lacks it, and OpenVINO where it is not installed. `start_s` are the seconds to build the model, and to compile
it for OpenVINO. Prints Markdown; `--output NAME` also writes NAME.md and NAME.csv.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl import load_config  # noqa: E402, I001 (fixes fast-reid before it is imported)
from fastreid_fancl.config.load import has_bfloat16  # noqa: E402
from fastreid_fancl.engine.record import setting  # noqa: E402
from fastreid_fancl.engine.trained_model import load_model  # noqa: E402
from fastreid_fancl.openvino import why_unusable  # noqa: E402
from clocks import timed  # noqa: E402
from tables import Tables, add_output  # noqa: E402

ENCODERS = ("tf_efficientnet_lite0", "resnet50", "vit_small_patch16_224")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, metavar="NAME", help="models of timm")
    parser.add_argument("--size", type=int, default=224, help="pixels of each side of an image")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    add_output(parser)
    args = parser.parse_args()
    tables = Tables(args.output, setting(torch.device("cpu"))["machine"], max(args.threads))
    tables.say(f"Batches of {args.batch} images of {args.size} x {args.size} pixels,")
    tables.say(f"{args.clock} seconds, median of {args.turns} turns\n")
    if why_unusable("cpu"):
        tables.say(f"{why_unusable('cpu')}.\n")
    names = ("encoder", "threads", "runtime", "precision", "photographs_per_s", "times_faster", "least_cosine")
    tables.begin((*names, "start_s"))
    for encoder in args.encoders:
        for threads in args.threads:
            torch.set_num_threads(threads)
            for row in measure(encoder, args):
                tables.go_on({"encoder": encoder, "threads": threads, **row})


def ways() -> list[tuple[str, str]]:
    """Runtimes with their precisions, those that this machine has; PyTorch in float32 comes first."""
    precisions = ("float32", "bfloat16") if has_bfloat16("cpu") else ("float32",)
    runtimes = ("torch",) if why_unusable("cpu") else ("torch", "openvino")
    return [(runtime, precision) for runtime in runtimes for precision in precisions]


@torch.no_grad()
def measure(encoder: str, args) -> list[dict]:
    """A row for each way, by the median turn."""
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    generator = torch.Generator().manual_seed(0)
    batch = {"images": 255 * torch.rand(args.batch, 3, args.size, args.size, generator=generator)}
    models, starts, features = [], [], []
    for way in ways():
        seconds, model = timed(lambda way=way: build(encoder, args.size, *way), clock=clock)
        starts.append(seconds)
        models.append(model)
        features.append(model(batch))  # also warms up
    turns = [[timed(lambda model=model: model(batch), clock=clock)[0] for model in models] for _ in range(args.turns)]
    seconds = [median(times) for times in zip(*turns, strict=True)]
    return [
        {
            "runtime": runtime,
            "precision": precision,
            "photographs_per_s": args.batch / each,
            "times_faster": seconds[0] / each,
            "least_cosine": f"{least_cosine(own, features[0]):.6f}",
            "start_s": start,
        }
        for (runtime, precision), each, own, start in zip(ways(), seconds, features, starts, strict=True)
    ]


def build(encoder: str, size: int, runtime: str, precision: str) -> nn.Module:
    """The model of a configuration for photographs, with the same random weights each time."""
    torch.manual_seed(0)
    keys = ["MODEL.BACKBONE.TIMM", encoder, "MODEL.BACKBONE.PRETRAIN", False, "MODEL.DEVICE", "cpu"]
    keys += ["INPUT.SIZE_TRAIN", [size, size], "INPUT.SIZE_TEST", [size, size]]
    return load_model(
        load_config("Photographs/cluster_contrast", [*keys, "TEST.RUNTIME", runtime, "MODEL.PRECISION", precision])
    )


def least_cosine(features: Tensor, expected: Tensor) -> float:
    """The lowest cosine of a row (D,) with the same row of the expected features."""
    return torch.cosine_similarity(features.double(), expected.double()).min().item()


if __name__ == "__main__":
    main()
