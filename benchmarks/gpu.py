"""Check and measure on a GPU, the most important things first, within a number of minutes.

    python benchmarks/gpu.py --minutes 10 --output logs/benchmarks/gpu
    python benchmarks/gpu.py --list
    python benchmarks/gpu.py --rehearse --output logs/benchmarks/rehearsal     tiny sizes on the CPU

Every item runs in its own process, with an estimate and a limit in seconds. An item is skipped if its estimate exceeds
the time left. One that reaches its limit is killed with all its processes. One that fails is reported with the last
line that it printed. The others still run. Rows are written as they arrive: OUTPUT/gpu.md and gpu.csv are complete at
any moment, and gpu.log has what the items print. docs/gpu.md explains the rows.

Data sets are drawn under $FASTREID_DATASETS, by default in a temporary folder.
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
SLOWER = 4  # factor on the limits in a rehearsal, which may share its core
RESERVE = 5  # seconds kept for the end
PROBES = (("forkserver", 90), ("spawn", 90))  # multiprocessing's start methods to try, and the probe's limit in seconds
PRELOADED = ["gpu_items", "gpu_steps", "gpu_runs", "timm"]


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
    parser.add_argument("--minutes", type=float, default=10, help="time limit of everything together")
    parser.add_argument("--output", type=Path, default=Path("logs/benchmarks/gpu"), help="folder of tables and log")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[item.name for item in PLAN], help="items")
    parser.add_argument("--list", action="store_true", help="print the items and stop")
    parser.add_argument("--rehearse", action="store_true", help="use tiny sizes, on the CPU")
    return parser.parse_args()


def prepare(scratch: str) -> None:
    """Set the environment that the items' processes inherit."""
    os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["FASTREID_DATASETS"] = os.path.abspath(os.environ.get("FASTREID_DATASETS") or f"{scratch}/datasets")
    os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"  # no photographs that an earlier run decoded


class Runner:
    """Runs items one after the other and writes their rows."""

    def __init__(self, output: Path, deadline: float, rehearsal: bool, scratch: str):
        """
        Args:
            output: folder of the table and the log.
            deadline: by `time.monotonic`.
            rehearsal: use tiny sizes, on the CPU.
            scratch: folder for the items' own files.
        """
        self.output, self.deadline, self.rehearsal, self.scratch = output, deadline, rehearsal, scratch
        self.log = output / "gpu.log"
        self.log.write_text("")
        self.tables, self.machine = None, {}

    def run(self, items: list[Item]) -> None:
        """Probe the machine and how processes can be started there, then run the items that fit."""
        began = time.monotonic()
        for method, limit in PROBES:
            self.context = start_context(method)
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
            sys.exit(f"error: PyTorch finds no GPU{problem and f' ({problem})'}: --rehearse runs without one.")
        for item in items:
            self.run_item(item)

    def run_item(self, item: Item) -> None:
        """Run an item, or report why it is skipped."""
        left = self.deadline - time.monotonic()
        estimate, gpus = (1, item.gpus) if self.rehearsal else (item.estimate, self.machine["gpus"])
        if gpus < item.gpus:
            self.add(item.name, {"measured": "not run", "note": f"needs {item.gpus} GPUs, found {gpus}"})
        elif left < estimate:
            self.add(item.name, {"measured": "not run", "note": f"needs {estimate} s, {max(0, left):.0f} s left"})
        else:
            began = time.monotonic()
            limit = SLOWER * item.limit if self.rehearsal else item.limit
            problem = self.attempt(item, min(limit, left), lambda row: self.add(item.name, row))
            seconds = time.monotonic() - began
            self.add(item.name, {"measured": "time", "value": seconds, "unit": "s", "note": problem or "done"})

    def attempt(self, item: Item, limit: float, receive) -> str:
        """Run an item in a new process.

        Args:
            item: to run.
            limit: seconds after which it is killed, with the processes that it started.
            receive: called with each row as it arrives.

        Returns:
            What went wrong, or "".
        """
        start = self.log.stat().st_size
        receiving, sending = self.context.Pipe(duplex=False)
        gpus = 0 if self.rehearsal else self.machine.get("gpus", 0)
        setting = Setting(self.rehearsal, gpus, limit, tempfile.mkdtemp(dir=self.scratch))
        process = self.context.Process(target=item.run, args=(setting, sending, str(self.log)))
        try:
            process.start()
        except (EOFError, OSError) as error:  # the fork server could not import the items
            return f"could not start: {error!r}"
        sending.close()
        try:
            in_time = pass_on(process, receiving, time.monotonic() + limit, receive)
        finally:
            kill(process)
        if in_time and process.exitcode == 0:
            return ""
        what = f"failed with {process.exitcode}" if in_time else f"killed at its limit of {limit:.0f} s"
        return f"{what}; last line: {last_line(self.log, start)}"

    def add(self, name: str, row: dict) -> None:
        """Write a row; its note becomes one line without the sign | of a table."""
        note = " ".join(str(row.get("note") or "").replace("|", "/").split())
        self.tables.go_on({"item": name, "measured": "", "value": None, "unit": "", **row, "note": note})


def start_context(method: str) -> multiprocessing.context.BaseContext:
    """Return multiprocessing's context for a start method; the fork server imports once what the items need."""
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(PRELOADED)
    return context


def pass_on(process, receiving: Connection, deadline: float, receive) -> bool:
    """Pass on a process's rows until it ends; return False if the deadline comes first."""
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


def kill(process) -> None:
    """Kill an item's process group: its process, if that still runs, and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nothing is left, or the group does not exist yet
        if process.is_alive():
            process.kill()
    process.join()


def last_line(log: Path, start: int) -> str:
    """Return the last line of a log that is not empty, after the byte `start`."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next(filter(None, reversed(lines)), "nothing was printed")


if __name__ == "__main__":
    main()
