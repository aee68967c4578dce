"""The jobs of a comparison: which runs it needs, which are finished, and how long the others will take."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
import yaml

from ..config.checks import check_config
from ..config.load import load_config
from ..engine.estimate import estimate_run
from ..engine.starts import seen_whole
from ..errors import UserError
from ..escape import visible
from ..report.systems import SEED_FOLDER, check_datasets
from ..runs.read import datasets, epochs_kept, last_checkpoint, read_config, read_epochs, read_run
from ..runs.settings import differences, explain_differences
from .study import Study

# Set by --seeds and --output.
OWN_KEYS = ("SEED", "OUTPUT_DIR")


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Attributes:
        system: the system's name, safe to print.
        words: the arguments of tools/train_net.py.
        config: its settings as nested dictionaries; None if they cannot be read.
        problem: the reason why it cannot run; empty if none is known.
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


def list_jobs(
    config_files: Sequence[Path],
    seeds: Sequence[int],
    output: Path,
    options: Sequence[str] = (),
    study: Study | None = None,
) -> list[Job]:
    """List the runs of a comparison seed by seed, so that an early end leaves complete seeds.

    Args:
        config_files: one per system; with a study, the one configuration that it varies.
        seeds: the seeds of each system.
        output: the parent of the folders <system>/seed_<n>.
        options: KEY VALUE ... for all systems; seed_{seed}/ in a value becomes the run's own.
        study: its variants are the systems.

    Raises:
        UserError: if two files have one name, if a seed comes twice, if the systems' data sets differ,
            if a folder holds a run of other settings, or if the options are not for this study.
    """
    for what, names in (("--config-files", [path.stem for path in config_files]), ("--seeds", list(seeds))):
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"Expected {what} of different names, got {', '.join(twice)} more than once: rename one.")
    if len(options) % 2 or set(OWN_KEYS) & set(options[::2]):
        raise UserError(
            f"Expected --set KEY VALUE KEY VALUE ..., without {' and '.join(OWN_KEYS)}, which --seeds and --output "
            f"give; got {' '.join(options)}."
        )
    odd = [word for word in options if "{seed}" in word.replace(SEED_FOLDER, "")]
    if odd:  # the report could not tell what runs of one system differ in
        raise UserError(
            f"Expected {{seed}} only in the name of a folder {SEED_FOLDER}, as in starts/{SEED_FOLDER}model.pth, got "
            f"{visible(odd[0])}."
        )
    if study is None:
        systems = [(path.stem, path, options) for path in config_files]
    else:
        check_study(study, config_files, options)
        systems = [(name, config_files[0], (*study.options(name), *options)) for name in study.variants]
    jobs = [make_job(name, path, seed, output, own) for seed in seeds for name, path, own in systems]
    check_datasets({job.system: datasets(job.config, seen_whole(job.config["MODEL"])) for job in jobs if job.config})
    for job in jobs:
        check_settings(job)
    return jobs


def check_study(study: Study, config_files: Sequence[Path], options: Sequence[str]) -> None:
    """Raise UserError unless a study has exactly one configuration, and --set none of the study's keys."""
    if len(config_files) != 1:
        raise UserError(f"Expected one of --config-files with --study {study.name}, got {len(config_files)}.")
    both = sorted(study.keys & set(options[::2]))
    if both:
        raise UserError(f"The variants of --study {study.name} set {', '.join(both)}: leave it out of --set.")


def make_job(system: str, path: Path, seed: int, output: Path, options: Sequence[str]) -> Job:
    """Make the job of one system and seed; wrong settings become its `problem`, and do not stop the other jobs."""
    folder = output / system / f"seed_{seed}"
    opts = [*(word.replace("{seed}", str(seed)) for word in options), "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    words = ("--config-file", str(path), "--resume", *opts)
    config, problem = None, ""
    try:
        # Only the run loads its IMPORTS: those of two systems may register the same names.
        cfg = load_config(str(path), [*opts, "IMPORTS", "()"])
        config = yaml.safe_load(cfg.dump())
        check_config(cfg, resume=True)
    except UserError as error:
        problem = visible(" ".join(str(error).split()))
    return Job(visible(system), seed, folder, words, config, problem)


def check_settings(job: Job) -> None:
    """Raise UserError if the folder of a job holds a run of other settings, which it would go on with."""
    if job.config is None or last_checkpoint(job.folder) is None:
        return
    changed = differences(read_config(job.folder), job.config)
    if changed:
        raise UserError(
            f"{job.folder} holds a run with other settings (before, now): {explain_differences(changed)}. Choose "
            "another --output, or remove that folder."
        )


def finished(job: Job) -> bool:
    """Whether the job's run has finished."""
    try:
        return job.config is not None and read_run(job.folder).finished
    except UserError:
        return False


def announce(jobs: Sequence[Job], parallel: int = 1, threads: int = 1) -> Iterator[str]:
    """Yield a line per job on what it would do and how long it would take, and a line on all of them.

    The time comes from epochs that the system has finished in this folder, or else from a rehearsal with `threads`.
    """
    known: dict[str, tuple[float, str]] = {}
    total = 0.0
    for job in jobs:
        if finished(job):
            yield f"{job.name}: finished, skipped"
            continue
        try:
            if job.problem:
                raise UserError(job.problem)
            if job.system not in known:
                known[job.system] = seconds_per_epoch(job, threads)
        except UserError as error:
            yield f"{job.name}: will fail: {visible(' '.join(str(error).split()))}"
            continue
        each, source = known[job.system]
        solver, done = job.config["SOLVER"], epochs_kept(job.folder)
        verb = f"continues after epoch {done} of" if done else "trains"
        size = f"{solver['ITERS_PER_EPOCH']} iterations" if solver["ITERS_PER_EPOCH"] else "one pass over the images"
        seconds = (solver["MAX_EPOCH"] - done) * each
        total += seconds
        yield (
            f"{job.name}: {verb} {solver['MAX_EPOCH']} epochs of {size}, batches of {solver['IMS_PER_BATCH']}, "
            f"about {seconds / 60:.1f} minutes by {source}"
        )
    yield f"All: about {total / parallel / 60:.1f} minutes, {parallel} at a time."


def seconds_per_epoch(job: Job, threads: int) -> tuple[float, str]:
    """The seconds of one epoch of a job, all phases together, and the source of this number.

    Raises:
        UserError: on input with which the job would not start.
    """
    measured = [sum(e.seconds.values()) for other in job.folder.parent.glob("seed_*") for e in read_epochs(other)]
    if measured:
        return sum(measured) / len(measured), f"{len(measured)} epochs measured"
    # In a separate process, as for the run: IMPORTS of two systems may register the same names.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_rehearse, job.words, threads).result() / job.config["SOLVER"]["MAX_EPOCH"], "a rehearsal"


def _rehearse(words: Sequence[str], threads: int) -> float:
    torch.set_num_threads(threads)
    _, config_file, _, *opts = words
    return estimate_run(load_config(config_file, opts)).seconds
