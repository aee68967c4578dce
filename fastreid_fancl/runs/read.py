"""Read the folder of a run: its settings, its metrics, how far it came and which code it ran."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..escape import visible
from .checked import (
    DamagedError,
    cell_of,
    dict_of,
    fields,
    finite,
    list_of,
    number,
    optional,
    plain_name,
    read_json,
    read_lines,
    read_table,
    read_text,
    read_yaml,
    whole,
    word,
)

GROUPING = ("ARI", "Purity", "homogeneity", "completeness", "groups", "animals", "ungrouped")
RETRIEVAL = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP")
SCORES = (*RETRIEVAL, *GROUPING)
CLUSTERING = ("clusters", "left_out", "mean_cluster_size", "identities", "ari", "ari_all", "nmi", "purity", "eps")
FINAL = "model_final.pth"

# What the files of a folder must contain; other content is ignored.
NAMES = list_of(word)
SETTINGS = fields(
    {
        "SEED": whole,
        "DATASETS": fields({"NAMES": NAMES, "TESTS": NAMES}),
        "SOLVER": fields({"MAX_EPOCH": whole, "IMS_PER_BATCH": whole}),
    },
    PSEUDO_LABELS=fields({}),
)
SHOWN = lambda value: visible(word(value))  # noqa: E731 (a check)
START = fields(
    {
        **{"commit": optional(SHOWN), "machine": SHOWN, "versions": lambda versions: _shown(dict_of(SHOWN)(versions))},
        **{"processes": whole, "threads": whole},
    },
    seen_whole=NAMES,
)
QUERY = {"path": word, "identity": word, "ap": cell_of(finite, empty=True), "first_rank": cell_of(whole, empty=True)}


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    Attributes:
        number: from 0.
        iterations: number of iterations from the run's beginning to the end of this epoch.
        scores: the evaluation's scores by name, in percent except those of GROUPING; empty without an evaluation.
        clustering: the numbers of CLUSTERING that were logged; empty for supervised methods.
        losses: each loss by name, without their sum.
        seconds: seconds by phase: features, clustering, memory, training, evaluation.
        peak_memory: peak GiB; None if unknown.
    """

    number: int
    iterations: int
    scores: dict[str, float]
    clustering: dict[str, float]
    losses: dict[str, float]
    seconds: dict[str, float]
    peak_memory: float | None


@dataclass(frozen=True)
class Query:
    """A query of the last evaluation; without a match in the gallery `ap` and `first_rank` are None.

    Attributes:
        path, identity: path and identity of the image.
        ap: average precision in [0, 1].
        first_rank: rank of the first match, from 1.
    """

    path: str
    identity: str
    ap: float | None
    first_rank: int | None


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run.

    Attributes:
        folder: its OUTPUT_DIR.
        system, seed: its names in a comparison.
        config: the settings, nested as in config.yaml.
        epochs: the finished ones, at least one.
        checkpoint: the last checkpoint; None if there is none.
        queries: the queries of the last evaluation; empty if they were not recorded.
        starts: the entries of run.json: commit, versions and machine of each start or resume, and `seen_whole`, the
            data sets of which its weights had seen the photographs of all splits; older runs lack these.
    """

    folder: Path
    system: str
    seed: int
    config: dict = field(repr=False)
    epochs: tuple[Epoch, ...] = field(repr=False)
    checkpoint: Path | None = field(repr=False)
    queries: tuple[Query, ...] = field(repr=False)
    starts: tuple[dict, ...] = field(repr=False)

    @property
    def supervised(self) -> bool:
        """Whether the run trained on identities: without clustering, or with the oracle."""
        oracle = self.config.get("PSEUDO_LABELS", {}).get("ALGORITHM") == "oracle"
        return oracle or not any(epoch.clustering for epoch in self.epochs)

    @property
    def datasets(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the data sets that the run trained on and was tested on."""
        return datasets(self.config, {name for start in self.starts for name in start.get("seen_whole", ())})

    @property
    def max_epoch(self) -> int:
        return self.config["SOLVER"]["MAX_EPOCH"]

    @property
    def finished(self) -> bool:
        return self.checkpoint is not None and self.checkpoint.name == FINAL and len(self.epochs) >= self.max_epoch

    @property
    def last(self) -> Epoch | None:
        """The last evaluated epoch."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.scores), None)

    @property
    def clustering(self) -> dict[str, float]:
        """The last epoch's clustering; empty for supervised methods."""
        return self.epochs[-1].clustering

    @property
    def iterations(self) -> int:
        return self.epochs[-1].iterations

    @property
    def images_seen(self) -> int:
        """Images in all training batches; a method's further views of an image do not count."""
        return self.iterations * self.config["SOLVER"]["IMS_PER_BATCH"]

    @property
    def seconds(self) -> float:
        """Seconds of all phases of all epochs."""
        return sum(sum(epoch.seconds.values()) for epoch in self.epochs)

    @property
    def seconds_per_epoch(self) -> float:
        """Mean seconds per epoch, without evaluation, whose number EVAL_PERIOD sets."""
        return (self.seconds - sum(epoch.seconds.get("evaluation", 0) for epoch in self.epochs)) / len(self.epochs)

    @property
    def peak_memory(self) -> float | None:
        """Peak GiB of the main process, on the GPU if it used one; None if unknown."""
        return max((epoch.peak_memory for epoch in self.epochs if epoch.peak_memory is not None), default=None)

    @property
    def commits(self) -> tuple[str, ...]:
        """The commits of the code, each once, in the order of the starts."""
        return tuple(dict.fromkeys(start["commit"] for start in self.starts if start["commit"]))


def _shown(versions: dict[str, str]) -> dict[str, str]:
    return {visible(package): version for package, version in versions.items()}


def read_run(folder: str | Path) -> Run:
    """Read the folder of a run that has finished, was interrupted or is going on.

    Raises:
        UserError: if there is no run, or none with a finished epoch; or with several test sets; or if its files are
            damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    tests = config["DATASETS"]["TESTS"]
    if len(tests) > 1:
        raise UserError(f"The run {folder} has {len(tests)} test sets: give DATASETS.TESTS one to compare it.")
    epochs = read_epochs(folder)
    if not epochs:
        raise UserError(
            f"The run {folder} has no finished epoch in metrics.json: resume it with --resume, or train it again if "
            "the file is lost."
        )
    queries = read_queries(folder / "queries.csv")
    last = [epoch.scores["mAP"] for epoch in epochs if epoch.scores][-1:]
    return Run(
        folder=folder,
        system=system_name(folder, config["SEED"]),
        seed=config["SEED"],
        config=config,
        epochs=epochs,
        checkpoint=last_checkpoint(folder),
        queries=queries if last and fits(queries, last[0]) else (),
        starts=tuple(read_starts(folder)),
    )


def system_name(folder: Path, seed: int) -> str:
    """<system> of a folder <system>/seed_<n>, <system>_<seed> or <system>, as it can be printed."""
    folder = folder.resolve()
    return visible(
        folder.parent.name if re.fullmatch(r"seed_\d+", folder.name) else folder.name.removesuffix(f"_{seed}")
    )


def read_config(folder: Path) -> dict:
    """The settings of a run as nested dictionaries.

    Raises:
        UserError: if there is no run, or its settings are damaged.
    """
    path = folder / "config.yaml"
    if not folder.is_dir():
        raise UserError(f"There is no run {folder}: check the path, or train with OUTPUT_DIR {folder}.")
    if not path.exists():
        raise UserError(f"Expected the OUTPUT_DIR of a run, with config.yaml in it, got {folder}.")
    return read_yaml(path, SETTINGS)


def datasets(config: dict, seen_whole: Collection[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the data sets that a configuration trains on and is tested on, transductive tests marked as such.

    Args:
        config: the configuration.
        seen_whole: as for `is_transductive`.
    """
    names, tests = config["DATASETS"]["NAMES"], config["DATASETS"]["TESTS"]
    mark = " (transductive: the photographs trained on)"
    return tuple(names), tuple(name + mark * is_transductive(config, name, seen_whole) for name in tests)


def is_transductive(config: dict, name: str, seen_whole: Collection[str]) -> bool:
    """Whether the scores of a data set are of photographs that were trained on: TEST.TRANSDUCTIVE or COMBINEALL.

    Args:
        config: the configuration.
        name: of the data set.
        seen_whole: the data sets that the training's start was trained on with the photographs of all splits.
    """
    datasets = config["DATASETS"]
    combined = datasets.get("COMBINEALL", False) and name in datasets["NAMES"]
    return bool(combined or config.get("TEST", {}).get("TRANSDUCTIVE", False) or name in seen_whole)


def read_starts(folder: Path) -> list[dict]:
    """The entries of run.json, one per start or resume (see `Run`); [] if there is no file.

    Raises:
        UserError: if it is damaged.
    """
    path = folder / "run.json"
    return read_json(path, list_of(START)) if path.exists() else []


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint from which a run would resume.

    Raises:
        UserError: if last_checkpoint does not name a file of the folder.
    """
    tag = folder / "last_checkpoint"
    if not tag.exists():
        return None
    try:
        path = folder / plain_name(read_text(tag).strip())
    except ValueError as error:
        raise DamagedError(tag, error) from error
    return path if path.exists() else None


def epochs_kept(folder: Path) -> int:
    """The epochs that a run need not train again: those of its last checkpoint."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return 0
    number = re.fullmatch(r"model_(\d+)\.pth", checkpoint.name)
    return int(number[1]) + 1 if number else len(read_epochs(folder))


def read_epochs(folder: Path) -> tuple[Epoch, ...]:
    """The finished epochs of a run; an epoch's last line has the seconds of training."""
    epochs: list[Epoch] = []
    logged: dict[str, float] = {}
    for line in read_metrics(folder):
        logged |= line
        if "seconds_training" in line:
            epochs.append(_epoch(len(epochs), logged))
            logged = {}
    return tuple(epochs)


def read_metrics(folder: Path) -> list[dict]:
    """The lines of metrics.json as numbers by name; broken lines are skipped with a warning."""
    return read_lines(folder / "metrics.json", _logged)


def _logged(line: object) -> dict[str, float]:
    return {**dict_of(number)(line), "iteration": fields({"iteration": whole})(line)["iteration"]}


def _epoch(number: int, logged: dict[str, float]) -> Epoch:
    finite = {name: value for name, value in logged.items() if math.isfinite(value)}

    def starting_with(prefix: str) -> dict[str, float]:
        return {name: value for name, value in finite.items() if name.startswith(prefix)}

    evaluated = all(name in finite for name in RETRIEVAL)  # photographs may form no groups
    return Epoch(
        number=number,
        iterations=int(logged["iteration"]) + 1,
        scores={name: finite[name] for name in SCORES if name in finite} if evaluated else {},
        clustering={name: finite[name] for name in CLUSTERING if name in finite},
        losses=starting_with("loss_"),
        seconds={name.removeprefix("seconds_"): value for name, value in starting_with("seconds_").items()},
        peak_memory=finite.get("peak_memory_gib"),
    )


def read_queries(path: Path) -> tuple[Query, ...]:
    """The queries of an evaluation in the order of the data set; none if there is no file.

    Raises:
        UserError: if it is damaged.
    """
    return tuple(Query(**row) for row in read_table(path, QUERY)) if path.exists() else ()


def fits(queries: tuple[Query, ...], mean: float) -> bool:
    """Whether the queries come from the evaluation that had this mAP, in percent."""
    precisions = [query.ap for query in queries if query.ap is not None]
    return bool(precisions) and math.isclose(100 * sum(precisions) / len(precisions), mean, abs_tol=1e-3)
