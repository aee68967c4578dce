"""All that needs a GPU, in order of worth, within a number of minutes.

    python benchmarks/gpu.py --minutes 10 --output logs/benchmarks/gpu
    python benchmarks/gpu.py --list
    python benchmarks/gpu.py --rehearse --output logs/benchmarks/rehearsal     tiny sizes on the CPU

Every item has a process of its own, an estimate and a limit of seconds. An item whose estimate no longer fits is not
begun, one that reaches its limit is ended with all its processes, one that fails is reported with its last line; the
others go on. Each number is written as it comes: OUTPUT/gpu.md and gpu.csv are whole at any moment, and gpu.log has
what the items print. Where there are two ways of doing a thing, a row has how many times as fast the package's way is,
and says that it goes where that is less than `gpu_items.LEAST`.

The columns: the item, what was measured, its value and unit, and a note. Data sets are drawn under $FASTREID_DATASETS,
or where that is not set in a folder that goes away.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATHS = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "tests")]
sys.path[:0] = PATHS

from gpu_plan import PLAN, PROBE, Item, Setting  # noqa: E402
from tables import Tables  # noqa: E402

COLUMNS = ("item", "measured", "value", "unit", "note")
SLOWER = 4  # times the limits in a rehearsal, which may share its core
RESERVE = 5  # seconds that stay for the end
PROBES = (("forkserver", 90), ("spawn", 90))  # ways of starting a process, and seconds that the first one may take


def main() -> None:
    args = arguments()
    if args.list:
        for item in PLAN:
            print(f"{item.name:32} {item.estimate:4} s, at most {item.limit:4} s: {item.purpose}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    output = args.output.resolve()  # items run in folders of their own
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        prepare(scratch)
        runner = Runner(output, time.monotonic() + 60 * args.minutes - RESERVE, args.rehearse, scratch)
        runner.run([item for item in PLAN if not args.only or item.name in args.only])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="after which nothing runs any more")
    parser.add_argument("--output", type=Path, default=Path("logs/benchmarks/gpu"), help="folder of what is written")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[item.name for item in PLAN], help="these items")
    parser.add_argument("--list", action="store_true", help="the items, and stop")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU")
    return parser.parse_args()


def prepare(scratch: str) -> None:
    """The environment of the items, which their processes read when they start."""
    os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["FASTREID_DATASETS"] = os.path.abspath(os.environ.get("FASTREID_DATASETS") or f"{scratch}/datasets")
    os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"  # what is decoded once is decoded in this run


class Runner:
    """Runs items one after the other."""

    def __init__(self, output: Path, deadline: float, rehearsal: bool, scratch: str):
        """
        Args:
            output: a folder.
            deadline: of `time.monotonic`.
            rehearsal: on the CPU.
            scratch: a folder for what the items write.
        """
        self.output, self.deadline, self.rehearsal, self.scratch = output, deadline, rehearsal, scratch
        self.log = output / "gpu.log"
        self.log.write_text("")
        self.tables, self.machine = None, {}

    def run(self, items: list[Item]) -> None:
        """Run what fits of the items, after a look at the machine that also finds out how processes are to start."""
        began = time.monotonic()
        for method, limit in PROBES:
            self.context = starting(method)
            problem = self.attempt(PROBE, limit, lambda row: self.machine.update({row["measured"]: row["value"]}))
            if not problem:
                break
        name = self.machine.get("machine", "unknown machine")
        self.tables = Tables(self.output / "gpu", name, self.machine.get("threads", os.cpu_count()))
        self.tables.begin(COLUMNS)
        for measured, value in self.machine.items():
            self.add(PROBE.name, {"measured": measured, "value": value})
        self.add(PROBE.name, {"measured": "processes start by", "value": method})
        self.add(PROBE.name, {"measured": "time", "value": time.monotonic() - began, "unit": "s", "note": problem})
        if not self.machine.get("gpus") and not self.rehearsal:
            sys.exit(f"PyTorch sees no GPU ({problem or 'none is there'}): give --rehearse for tiny sizes on the CPU.")
        for item in items:
            self.one(item)

    def one(self, item: Item) -> None:
        """Run one item, or say why not."""
        left = self.deadline - time.monotonic()
        estimate, gpus = (1, item.gpus) if self.rehearsal else (item.estimate, self.machine["gpus"])
        if gpus < item.gpus:
            self.add(item.name, {"measured": "not run", "note": f"needs {item.gpus} GPUs, {gpus} there"})
        elif left < estimate:
            self.add(item.name, {"measured": "not run", "note": f"needs {estimate} s, {max(0, left):.0f} s left"})
        else:
            began = time.monotonic()
            limit = SLOWER * item.limit if self.rehearsal else item.limit
            problem = self.attempt(item, min(limit, left), lambda row: self.add(item.name, row))
            seconds = time.monotonic() - began
            self.add(item.name, {"measured": "time", "value": seconds, "unit": "s", "note": problem or "done"})

    def attempt(self, item: Item, limit: float, receive) -> str:
        """Run an item in a process of its own; what went wrong, or nothing.

        Args:
            item: to run.
            limit: seconds after which it is ended, with the processes that it started.
            receive: called with each row as it comes.
        """
        known = self.log.stat().st_size
        receiving, sending = self.context.Pipe(duplex=False)
        gpus = 0 if self.rehearsal else self.machine.get("gpus", 0)
        setting = Setting(self.rehearsal, gpus, limit, tempfile.mkdtemp(dir=self.scratch))
        process = self.context.Process(target=item.run, args=(setting, sending, str(self.log)))
        try:
            process.start()
        except (EOFError, OSError) as error:  # what the items share does not even import
            return f"could not be started: {error!r}"
        sending.close()
        try:
            in_time = follow(process, receiving, time.monotonic() + limit, receive)
        finally:
            end(process)
        if in_time and process.exitcode == 0:
            return ""
        what = f"failed with {process.exitcode}" if in_time else f"ended at its limit of {limit:.0f} s"
        return f"{what}; last line: {last_line(self.log, known)}"

    def add(self, name: str, row: dict) -> None:
        """Write a row down; a note is one line without the signs of a table."""
        note = " ".join(str(row.get("note") or "").replace("|", "/").split())
        self.tables.go_on({"item": name, "measured": "", "value": None, "unit": "", **row, "note": note})


def starting(method: str) -> multiprocessing.context.BaseContext:
    """How processes start: by forkserver, what they import is imported once for all, and CUDA by none beforehand."""
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["gpu_items", "gpu_steps", "gpu_runs"])
    return context


def follow(process, receiving: Connection, deadline: float, receive) -> bool:
    """Pass a process's rows on until it has ended; False if the deadline came first."""
    open_ends = [receiving, process.sentinel]
    while process.sentinel in open_ends:
        ready = wait(open_ends, max(0, deadline - time.monotonic()))
        if process.sentinel not in ready and time.monotonic() >= deadline:
            return False
        if process.sentinel in ready:
            open_ends.remove(process.sentinel)
        while receiving in open_ends and receiving.poll():
            try:
                receive(receiving.recv())
            except EOFError:
                open_ends.remove(receiving)
    process.join()
    return True


def end(process) -> None:
    """End an item's process and all that it started, which are in one group; those of one that has ended, too."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # none is left, or it has no group yet
        if process.is_alive():
            process.kill()
    process.join()


def last_line(log: Path, start: int) -> str:
    """The last line with something in it that was written to a log after the byte `start`."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next(filter(None, reversed(lines)), "nothing was printed")


if __name__ == "__main__":
    main()
