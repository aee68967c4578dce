"""Several systems by several seeds, each run in a process of its own, and the tables of what came out."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..compat import check_config
from ..config import load_config
from .runs import differences, last_checkpoint, read_config, read_epochs, read_lines, read_run
from .tables import Missing, System, check_datasets, explain, gather, write_tables

SECONDS_BETWEEN_REPORTS = 5
SECONDS_BETWEEN_POLLS = 0.2
CONSOLE = "console.txt"
OWN_KEYS = ("SEED", "OUTPUT_DIR")


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Attributes:
        words: the arguments of tools/train_net.py.
        config: its settings, nested; None where they cannot be read.
        problem: why it cannot run, empty where nothing is known.
    """

    system: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    config: dict | None
    problem: str

    @property
    def name(self) -> str:
        return f"{self.system} seed {self.seed}"


def command_line(program: Sequence[str], argv: list[str] | None = None) -> int:
    """Compare by the arguments; wrong input ends in its message without a traceback.

    Args:
        program: the command that trains one run, such as ("python", "tools/train_net.py").
        argv: the arguments; the process's own without them.

    Returns:
        The exit status: 1 if a run has no results.
    """
    args = parser().parse_args(argv)
    try:
        if args.runs:
            systems = gather(read_run(folder) for folder in args.runs)
        else:
            jobs = plan(args.config_files, args.seeds, args.output, args.set)
            if args.dry_run:
                print("\n".join(announce(jobs)))
                return 0
            systems = results(jobs, run_all(jobs, program, args.jobs or len(args.gpus) or 1, args.gpus))
        print(write_tables(systems, args.output))
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from the last checkpoints")
    print(f"Tables: {args.output}/comparison.md, comparison.tex, comparison.csv, runs.csv")
    return int(any(system.missing for system in systems))


def parser() -> argparse.ArgumentParser:
    """The arguments of tools/compare.py."""
    found = argparse.ArgumentParser(description="Compare systems over seeds, or runs that are there, in one table.")
    source = found.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-files", type=Path, nargs="+", metavar="FILE", help="one a system, named by its file")
    source.add_argument("--runs", type=Path, nargs="+", metavar="FOLDER", help="folders of runs, <system>/seed_<n>")
    found.add_argument("--output", type=Path, required=True, metavar="DIR", help="of the tables and new runs")
    found.add_argument("--seeds", type=int, nargs="+", default=[0])
    found.add_argument("--set", nargs="+", default=[], metavar="KEY VALUE", help="settings of all systems")
    found.add_argument("--jobs", type=count, metavar="N", help="runs side by side; default: one, or one a GPU")
    found.add_argument("--gpus", nargs="+", default=[], metavar="NUMBER", help="GPUs that the jobs share in turn")
    found.add_argument("--dry-run", action="store_true", help="only say what would run")
    return found


def count(text: str) -> int:
    """A number from 1, for argparse."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def plan(config_files: Sequence[Path], seeds: Sequence[int], output: Path, options: Sequence[str] = ()) -> list[Job]:
    """The runs of a comparison, seed by seed, so that an early end leaves whole seeds.

    Raises:
        ValueError: if a file is missing or two have one name, if a seed comes twice, if the systems' data sets differ,
            or if a folder holds a run of other settings.
    """
    missing = [str(path) for path in config_files if not path.exists()]
    if missing:
        raise ValueError(f"There is no configuration file {', '.join(missing)}: check --config-files.")
    for what, names in (("--config-files", [path.stem for path in config_files]), ("--seeds", list(seeds))):
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Expected {what} of different names, got {', '.join(twice)} more than once: rename one.")
    if len(options) % 2 or set(OWN_KEYS) & set(options[::2]):
        raise ValueError(
            f"Expected --set KEY VALUE KEY VALUE ..., without {' and '.join(OWN_KEYS)}, which --seeds and --output "
            f"give; got {' '.join(options)}."
        )
    jobs = [make_job(path, seed, output, options) for seed in seeds for path in config_files]
    check_datasets({job.system: datasets(job.config) for job in jobs if job.config})
    for job in jobs:
        check_settings(job)
    return jobs


def make_job(path: Path, seed: int, output: Path, options: Sequence[str]) -> Job:
    """A run of one configuration; settings that cannot work fail in its own process, and beside the others."""
    folder = output / path.stem / f"seed_{seed}"
    opts = [*options, "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    words = ("--config-file", str(path), "--resume", *opts)
    config, problem = None, ""
    try:
        # Files of IMPORTS are the business of the run: those of two systems may register the same names.
        cfg = load_config(str(path), [*opts, "IMPORTS", "()"])
        config = yaml.safe_load(cfg.dump())
        check_config(cfg)
    except ValueError as error:
        problem = " ".join(str(error).split())
    return Job(path.stem, seed, folder, words, config, problem)


def datasets(config: dict) -> tuple:
    """The names of the data sets of a configuration, as `Run.datasets`."""
    return tuple(config["DATASETS"]["NAMES"]), tuple(config["DATASETS"]["TESTS"])


def check_settings(job: Job) -> None:
    """Raise ValueError if the folder of a job holds a run of other settings, which it would go on with."""
    if job.config is None or last_checkpoint(job.folder) is None:
        return
    found = differences(read_config(job.folder), job.config)
    if found:
        raise ValueError(
            f"{job.folder} holds a run of other settings (there, and now): {explain(found)}. Choose another --output, "
            "or remove that folder."
        )


def finished(job: Job) -> bool:
    """Whether there is nothing left to run."""
    try:
        return read_run(job.folder).finished
    except ValueError:
        return False


def announce(jobs: Sequence[Job]) -> list[str]:
    """What each job would do, and how long by the epochs that its system has done in the same place."""
    return [f"{job.name}: {_intention(job)}" for job in jobs]


def _intention(job: Job) -> str:
    if finished(job):
        return "finished, skipped"
    if job.problem:
        return f"will fail: {job.problem}"
    solver, done = job.config["SOLVER"], len(read_epochs(job.folder)) if last_checkpoint(job.folder) else 0
    verb = f"goes on after epoch {done} of" if done else "trains"
    size = f"{solver['ITERS_PER_EPOCH']} iterations" if solver["ITERS_PER_EPOCH"] else "one pass over the images"
    text = f"{verb} {solver['MAX_EPOCH']} epochs of {size}, batches of {solver['IMS_PER_BATCH']}"
    measured = [sum(e.seconds.values()) for other in job.folder.parent.glob("seed_*") for e in read_epochs(other)]
    if not measured:
        return text
    minutes = (solver["MAX_EPOCH"] - done) * sum(measured) / len(measured) / 60
    return f"{text}, about {minutes:.1f} minutes by {len(measured)} epochs measured"


def run_all(
    jobs: Sequence[Job], program: Sequence[str], parallel: int = 1, gpus: Sequence[str] = ()
) -> dict[Path, str]:
    """Run what is not finished, `parallel` at a time, and report how far it is.

    Returns:
        Folder -> reason, of the runs that failed.
    """
    waiting = [job for job in jobs if not finished(job)]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished, {len(waiting)} to run.", flush=True)
    threads = max(1, cores() // max(1, min(parallel, len(waiting))))
    running: dict[int, tuple[Job, subprocess.Popen]] = {}
    failed: dict[Path, str] = {}
    reporter = Reporter()
    try:
        while waiting or running:
            for slot in set(range(parallel)) - running.keys():
                if waiting:
                    job = waiting.pop(0)
                    running[slot] = job, start(job, program, threads, gpus[slot % len(gpus)] if gpus else None)
            time.sleep(SECONDS_BETWEEN_POLLS)
            for slot, (job, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    if process.returncode:
                        failed[job.folder] = reason(job, process.returncode)
                    print(f"{job.name}: {failed.get(job.folder, 'done')}", flush=True)
            reporter.report([job for job, _ in running.values()], len(waiting))
    finally:
        for _, process in running.values():
            process.terminate()
            process.wait()
    return failed


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(job: Job, program: Sequence[str], threads: int, gpu: str | None) -> subprocess.Popen:
    """Start a run with what it prints in CONSOLE of its folder; OMP_NUM_THREADS of the user is kept."""
    job.folder.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    with open(job.folder / CONSOLE, "w") as console:
        return subprocess.Popen(
            [*program, *job.words], stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=environment
        )


def reason(job: Job, status: int) -> str:
    """Why a run failed, in one line: its error message, else the last line that it printed."""
    console = job.folder / CONSOLE
    text = console.read_text(errors="replace").strip() or "it printed nothing"
    _, found, message = text.rpartition("error: ")
    said = " ".join(message.split()) if found else text.splitlines()[-1]
    return f"failed with exit status {status}: {said} ({console})"


class Reporter:
    """Prints how far the running jobs are, now and then and only when that has changed."""

    def __init__(self):
        self.said, self.at = "", time.monotonic()

    def report(self, running: Sequence[Job], waiting: int) -> None:
        if time.monotonic() - self.at < SECONDS_BETWEEN_REPORTS:
            return
        self.at = time.monotonic()
        text = "; ".join(f"{job.name}: {progress(job)}" for job in running) + f"; {waiting} waiting"
        if text != self.said:
            print(text, flush=True)
        self.said = text


def progress(job: Job) -> str:
    """Epochs and iterations that a run has logged, and its last mAP."""
    lines = read_lines(job.folder)
    if not lines:
        return "starting"
    scores = [line["mAP"] for line in lines if "mAP" in line]
    epochs = sum("seconds_training" in line for line in lines)
    total = f" of {job.config['SOLVER']['MAX_EPOCH']}" if job.config else ""
    text = f"epoch {epochs}{total} done, iteration {lines[-1]['iteration'] + 1}"
    return f"{text}, mAP {scores[-1]:.1f}" if scores else text


def results(jobs: Sequence[Job], failed: dict[Path, str]) -> list[System]:
    """The systems of a comparison, with the runs that failed."""
    runs, missing = [], []
    for job in jobs:
        try:
            if job.folder in failed:
                raise ValueError(failed[job.folder])
            runs.append(read_run(job.folder))
        except ValueError as error:
            missing.append(Missing(job.system, job.seed, str(error)))
    return gather(runs, missing)
