"""The command line of comparisons: start each run as a process, then write tables and the page."""

import argparse
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ..arguments import count
from ..engine.run import ENDS_WITH_INPUT
from ..errors import UserError, exit_with_message
from ..escape import visible
from ..files import make_folder, write_text
from ..locks import exclusive_lock
from ..machine import available_cores
from ..progress import Progress, beside_bars, in_terminal
from ..report.page import PAGE, plotting_library, write_page
from ..report.systems import Missing, System, check_baseline, gather
from ..report.tables import write_tables
from ..runs.read import read_metrics, read_run
from ..shipped import find_config
from .jobs import Job, announce, finished, list_jobs
from .study import figure_class, in_order, plot_study, read_study

SECONDS_BETWEEN_REPORTS = 5
SECONDS_BETWEEN_POLLS = 0.2
SECONDS_TO_END = 15
CONSOLE, FAILURE = "console.txt", "failure.txt"


def command_line(program: Sequence[str], argv: list[str] | None = None) -> int:
    """Run the comparison that the arguments ask for; wrong input ends in a message without a traceback.

    Args:
        program: the command that trains one run, such as ("python", "tools/train_net.py").
        argv: the arguments; the process's own without them.

    Returns:
        The exit status: 1 if a run has no results.
    """
    args = parse(argv)
    with exit_with_message("run the same command again to continue from the last checkpoints"):
        study = read_study(Path(find_config(args.study, "--study"))) if args.study else None
        if args.runs:
            systems = gather(read_run(folder) for folder in args.runs)
        else:
            parallel = args.jobs or len(args.gpus) or 1
            config_files = [Path(find_config(name, "--config-files")) for name in args.config_files]
            jobs = list_jobs(config_files, args.seeds, args.output, args.set, study)
            check_baseline(args.baseline, [job.system for job in jobs])
            gpus = gpu_names(args.gpus)
            if args.dry_run:
                for line in announce(jobs, parallel, threads(parallel)):
                    print(line, flush=True)
                return 0
            plotting_library()  # raises now if plotly is missing, not after the last run
            if study:
                figure_class()  # matplotlib, likewise
            if not args.report_only:
                with hold_lock(args.output):
                    run_all(jobs, program, parallel, gpus)
            systems = results(jobs)
        if study:
            systems = in_order(study, systems)
        print(write_tables(systems, args.output))
        if study:
            plot_study(study, systems, args.output)
        write_page(systems, args.output, args.baseline)
    print(f"Page: {visible(args.output)}/{PAGE}; tables: comparison.md, comparison.tex, comparison.csv, runs.csv")
    return int(any(system.missing for system in systems))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of tools/compare.py."""
    parser = argparse.ArgumentParser(description="Compare systems over seeds, or existing runs, in one table.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-files", type=Path, nargs="+", metavar="FILE", help="one per system")
    source.add_argument("--runs", type=Path, nargs="+", metavar="FOLDER", help="folders of runs, <system>/seed_<n>")
    parser.add_argument("--study", type=Path, metavar="FILE", help="a file of variants of one configuration to compare")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for the tables and new runs")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of each system; default: 0")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY VALUE",
        help="for all systems; seed_{seed}/ is each run's own",
    )
    parser.add_argument("--baseline", metavar="SYSTEM", help="the page first compares with it; default: the first")
    parser.add_argument("--jobs", type=count, metavar="N", help="runs in parallel; default: one, or one per GPU")
    parser.add_argument("--gpus", nargs="+", default=[], metavar="NUMBER", help="GPUs that the jobs take in turn")
    parser.add_argument("--dry-run", action="store_true", help="only print what would run and how long it would take")
    parser.add_argument("--report-only", action="store_true", help="run nothing: page and tables of existing runs")
    args = parser.parse_args(argv)
    if args.runs and (args.seeds or args.set or args.jobs or args.gpus or args.dry_run):
        parser.error("--runs compares existing runs: leave out --seeds, --set, --jobs, --gpus and --dry-run")
    args.seeds = args.seeds or [0]
    return args


def gpu_names(numbers: Sequence[str]) -> list[str]:
    """PyTorch's GPUs, counted from 0, as CUDA_VISIBLE_DEVICES names them: that of a user may leave some out.

    Raises:
        UserError: on a GPU that PyTorch does not see, as a run on it would silently use the CPU.
    """
    count, own = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = own.split(",") if own else [str(number) for number in range(count)]
    known = {str(number): name.strip() for number, name in enumerate(names[:count])}
    wrong = [number for number in numbers if number not in known]
    if wrong:
        raise UserError(
            f"Expected --gpus out of those that PyTorch sees ({', '.join(known) or 'none'}), got {', '.join(wrong)}: "
            "choose others, or leave out --gpus."
        )
    return [known[number] for number in numbers]


def run_all(jobs: Sequence[Job], program: Sequence[str], parallel: int = 1, gpus: Sequence[str] = ()) -> None:
    """Run the unfinished jobs, `parallel` at a time, and print progress; a failed job gets a file FAILURE."""
    waiting = [job for job in jobs if not finished(job)]
    for job in jobs:
        if job not in waiting:
            (job.folder / FAILURE).unlink(missing_ok=True)  # from an earlier attempt
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished, {len(waiting)} to run.", flush=True)
    running: dict[int, tuple[Job, subprocess.Popen]] = {}
    failed = 0
    reporter = Reporter(len(jobs))
    try:
        while waiting or running:
            for slot in set(range(parallel)) - running.keys():
                if waiting:
                    job = waiting.pop(0)
                    gpu = gpus[slot % len(gpus)] if gpus else None
                    running[slot] = job, start(job, program, threads(parallel), gpu)
            time.sleep(SECONDS_BETWEEN_POLLS)
            for slot, (job, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    failed += _finish(job, process.returncode)
            reporter.report([job for job, _ in running.values()], len(waiting), len(jobs), failed)
    finally:
        reporter.close()
        for _, process in running.values():
            process.terminate()
            process.wait()


def _finish(job: Job, status: int) -> bool:
    """Print how a run ended, by its exit status, and keep the reason if it failed; whether it did."""
    failure, outcome = job.folder / FAILURE, reason(job, status) if status else "done"
    if status:
        write_text(failure, outcome)
    else:  # another comparison may have written one meanwhile
        failure.unlink(missing_ok=True)
    with beside_bars():
        print(f"{job.name}: {outcome}", flush=True)
    return bool(status)


def threads(parallel: int) -> int:
    """The threads of each of `parallel` runs: OMP_NUM_THREADS where the user set it, else an equal share of the cores.

    The share does not depend on what is left to run: sums depend on the number of threads, so a command that goes on
    must use the same number.
    """
    own = os.environ.get("OMP_NUM_THREADS", "")
    return int(own) if own.isdecimal() else max(1, available_cores() // parallel)


def start(job: Job, program: Sequence[str], threads: int, gpu: str | None) -> subprocess.Popen:
    """Start a run whose output goes to CONSOLE in its folder; the user's OMP_NUM_THREADS is kept."""
    make_folder(job.folder)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, ENDS_WITH_INPUT: "1"}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    with hold_lock(job.folder):
        (job.folder / FAILURE).unlink(missing_ok=True)
        (job.folder / CONSOLE).write_bytes(b"")
        # Opened to append, so that the file has no hole if somebody empties it. The input ends with this process.
        with open(job.folder / CONSOLE, "a") as console:
            return subprocess.Popen(
                [*program, *job.words], stdin=subprocess.PIPE, stdout=console, stderr=console, env=environment
            )


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder; a run of a killed comparison may take seconds to end.

    Raises:
        UserError: if another run keeps writing to the folder.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(os.fspath(folder / ".lock"), wait=SECONDS_TO_END))
        except BlockingIOError as error:
            raise UserError(f"Another run is writing to {folder}: wait for it, or stop it.") from error
        yield


def reason(job: Job, status: int) -> str:
    """The reason why a run failed, in one line: its error message, or else the last line that it printed."""
    console = job.folder / CONSOLE
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}: run the same command again to continue it ({visible(console)})"
    text = console.read_text(errors="replace").strip() or "it printed nothing"
    _, marked, error = f"\n{text}".rpartition("\nerror: ")
    said = " ".join(error.split()) if marked else text.splitlines()[-1]
    return visible(f"failed with exit status {status}: {said} ({console})")


class Reporter:
    """Shows how far all jobs are: a bar in a terminal, elsewhere a line now and then, when something has changed."""

    def __init__(self, jobs: int):
        self.said, self.at = "", time.monotonic()
        self.bar = Progress("Runs", jobs, "runs") if in_terminal() else None

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def report(self, running: Sequence[Job], waiting: int, jobs: int, failed: int) -> None:
        if self.bar is not None:
            self.bar.advance(jobs - waiting - len(running) - self.bar.done)
        if time.monotonic() - self.at < SECONDS_BETWEEN_REPORTS:
            return
        self.at = time.monotonic()
        done = jobs - waiting - len(running) - failed
        counts = f"{done} done, {waiting} waiting" + f", {failed} failed" * bool(failed)
        text = "; ".join([*(f"{job.name}: {progress(job)}" for job in running), counts])
        if self.bar is not None:
            self.bar.note(text)
        elif text != self.said:
            print(text, flush=True)
        self.said = text


def progress(job: Job) -> str:
    """The epochs and iterations that a run has logged, and its last mAP, in words."""
    lines = read_metrics(job.folder)
    if not lines:
        return "starting"
    scores = [line["mAP"] for line in lines if "mAP" in line]
    epochs = sum("seconds_training" in line for line in lines)
    total = f" of {job.config['SOLVER']['MAX_EPOCH']}" if job.config else ""
    text = f"epoch {epochs}{total} done, iteration {lines[-1]['iteration'] + 1}"
    return f"{text}, mAP {scores[-1]:.1f}" if scores else text


def results(jobs: Sequence[Job]) -> list[System]:
    """The systems of a comparison with their results, and with the runs that failed and why."""
    runs, missing = [], []
    for job in jobs:
        failure = job.folder / FAILURE
        why = failure.read_text(encoding="utf-8", errors="replace") if failure.exists() and not finished(job) else ""
        try:
            runs.append(read_run(job.folder))
        except UserError as error:
            why = why or str(error)
        if why:
            missing.append(Missing(job.system, job.seed, visible(" ".join(why.split()))))
    return gather(runs, missing)
