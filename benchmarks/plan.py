"""What `--plan` says before a run beside what the run then takes: time by phase, memory, disk.

    FASTREID_DATASETS=datasets python benchmarks/plan.py --configs configs/SyntheticSmall/{fancl,resnet18}.yml \
        --set SOLVER.MAX_EPOCH 3

Plan and run have a process each, one after the other, and folders that go away: OUTPUT_DIR, and the cache, so that the
run's start also checks and decodes every photograph. Seconds of phases are those of metrics.json and, of checkpoints,
of log.txt; the run's begin where the plan's do, when the start is over and run.json is written, and end with the
process. Resident memory is the largest process's. Prints Markdown; `--output NAME` also writes NAME.md and NAME.csv.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tables import Tables, add_output  # noqa: E402

from fastreid_fancl.data.cache import GIB  # noqa: E402
from fastreid_fancl.engine.record import processor  # noqa: E402
from fastreid_fancl.runs.read import read_epochs  # noqa: E402

PLANNED = {  # what the plan prints; phases besides
    "the run, s": r"^\| the run \| \| \| (\S+) \|",
    "resident memory, GiB": r"^Memory of a process: (\S+) GiB",
    "GPU memory, GiB": r"(\S+) GiB of its GPU",
    "checkpoints, GiB": r"^Disk: (\S+) GiB",
    "decoded photographs, GiB": r"(\S+) GiB of decoded",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", required=True, help="files of the runs")
    parser.add_argument("--set", nargs="*", default=[], help="KEY VALUE ... of all configurations")
    add_output(parser)
    args = parser.parse_args()
    tables = Tables(args.output, processor(), int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    for config in args.configs:
        rows = compare(config, args.set)
        tables.add(rows)


def compare(config: str, options: list[str]) -> list[dict]:
    """A row a quantity of one configuration."""
    with tempfile.TemporaryDirectory() as folder:
        expected = planned(train(folder, config, ["--plan", *options])[0])
        found = actual(folder, config, options)
    rows = [
        {"configuration": config, "what": what, "planned": expected[what], "actual": found[what]} for what in expected
    ]
    return [row | {"ratio": row["actual"] / row["planned"] if row["planned"] else math.nan} for row in rows]


def planned(printed: str) -> dict[str, float]:
    """What a plan says, by its names."""
    phases = re.findall(r"^\| (\w+) \| (\d+) \| (\S+) \|", printed, re.MULTILINE)
    expected = {f"{name}, s": int(times) * float(seconds) for name, times, seconds in phases}
    found = {what: re.search(pattern, printed, re.MULTILINE) for what, pattern in PLANNED.items()}
    expected |= {what: float(match[1]) for what, match in found.items() if match}
    expected["the run, s"] *= 60
    return expected | {"start and end, s": math.nan}


def actual(folder: str, config: str, options: list[str]) -> dict[str, float]:
    """What the run took, by the plan's names."""
    output = Path(folder, "run")
    began = time.time()
    _, resident = train(folder, config, [*options, "OUTPUT_DIR", str(output)])
    ended, started, epochs = time.time(), (output / "run.json").stat().st_mtime, read_epochs(output)
    found = {f"{phase}, s": sum(e.seconds[phase] for e in epochs) for phase in epochs[0].seconds}
    saved = re.findall(r"Saved in (\S+) s$", (output / "log.txt").read_text(), re.MULTILINE)
    found["checkpoint, s"] = sum(map(float, saved))
    found["start and end, s"] = ended - began - sum(found.values())
    found |= {"the run, s": ended - started, "resident memory, GiB": resident}
    found["GPU memory, GiB"] = epochs[-1].peak_memory
    found["checkpoints, GiB"] = sum(file.stat().st_size for file in output.glob("*.pth")) / GIB
    found["decoded photographs, GiB"] = sum(file.stat().st_size for file in Path(folder).glob("*/*.npy")) / GIB
    return found


def train(cache: str, config: str, words: list[str]) -> tuple[str, float]:
    """What tools/train_net.py printed, and the GiB of its largest process."""
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", config, *words]
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{text[-2000:]}")
    return text, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
