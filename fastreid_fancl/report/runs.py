"""What the folder of a run says: its settings, its history, how far it came and by which code."""

import csv
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

GROUPING = ("ARI", "homogeneity", "completeness", "groups", "animals", "ungrouped")
SCORES = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP", *GROUPING)
CLUSTERING = ("clusters", "left_out", "mean_cluster_size", "identities", "ari", "ari_all", "nmi", "purity", "eps")
FINAL = "model_final.pth"


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    Attributes:
        number: from 0.
        iterations: done by its end, since the run's beginning.
        scores: of its evaluation by name, in percent but for those of GROUPING; empty where it was not evaluated.
        clustering: the numbers of CLUSTERING that were logged; empty for supervised methods.
        losses: by name, without their sum.
        seconds: by phase: features, clustering, memory, training, evaluation.
        peak_memory: GiB, None where unknown.
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
        path, identity: of the image.
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
        system, seed: what it is in a comparison.
        config: the settings, nested as in config.yaml.
        epochs: the finished ones, at least one.
        checkpoint: the last one; None where there is none.
        queries: of the last evaluation; empty where they were not recorded.
        starts: the entries of run.json: commit, versions, machine of each time that it started or went on.
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
        """Whether it trained on identities: nothing was clustered, or by the oracle."""
        oracle = self.config.get("PSEUDO_LABELS", {}).get("ALGORITHM") == "oracle"
        return oracle or not any(epoch.clustering for epoch in self.epochs)

    @property
    def datasets(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the data sets it trained on and was tested on."""
        return datasets(self.config)

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
    def best(self) -> Epoch | None:
        """The evaluated epoch with the best mean of mAP and Rank-1, that of model_best.pth."""
        return max((epoch for epoch in self.epochs if epoch.scores), key=_metric, default=None)

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
        """Of all phases of all epochs."""
        return sum(sum(epoch.seconds.values()) for epoch in self.epochs)

    @property
    def seconds_an_epoch(self) -> float:
        """Mean over the epochs, without evaluation, which EVAL_PERIOD sets."""
        return (self.seconds - sum(epoch.seconds.get("evaluation", 0) for epoch in self.epochs)) / len(self.epochs)

    @property
    def peak_memory(self) -> float | None:
        """GiB of the main process, on the GPU where it used one; None where unknown."""
        return max((epoch.peak_memory for epoch in self.epochs if epoch.peak_memory is not None), default=None)

    @property
    def commits(self) -> tuple[str, ...]:
        """Of the code, in the order of the starts, each once."""
        return tuple(dict.fromkeys(start["commit"] for start in self.starts if start["commit"]))


def _metric(epoch: Epoch) -> float:
    return epoch.scores["mAP"] + epoch.scores["Rank-1"]


def read_run(folder: str | Path) -> Run:
    """Read the folder of a run that has finished, was interrupted or is going on.

    Raises:
        ValueError: if there is no run, or none with a finished epoch; or with several test sets; or if its files are
            damaged.
    """
    try:
        return _read_run(Path(folder))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The files of the run {folder} are damaged ({error!r}): train it anew.") from error


def _read_run(folder: Path) -> Run:
    config = read_config(folder)
    tests = config["DATASETS"]["TESTS"]
    if len(tests) > 1:
        raise ValueError(f"The run {folder} has {len(tests)} test sets: give DATASETS.TESTS one to compare it.")
    epochs = read_epochs(folder)
    if not epochs:
        raise ValueError(
            f"The run {folder} has no finished epoch in metrics.json: resume it with --resume, or train it anew if the "
            "file is lost."
        )
    seed, record = config["SEED"], folder / "run.json"
    starts = json.loads(record.read_text()) if record.exists() else []
    if not all(isinstance(start, dict) for start in starts):
        raise TypeError(f"{record.name} holds {starts}")
    queries = read_queries(folder / "queries.csv")
    last = [epoch.scores["mAP"] for epoch in epochs if epoch.scores][-1:]
    return Run(
        folder=folder,
        system=system_name(folder, seed),
        seed=seed,
        config=config,
        epochs=epochs,
        checkpoint=last_checkpoint(folder),
        queries=queries if last and fits(queries, last[0]) else (),
        starts=tuple(starts),
    )


def system_name(folder: Path, seed: int) -> str:
    """<system> of a folder <system>/seed_<n>, <system>_<seed> or <system>."""
    folder = folder.resolve()
    return folder.parent.name if re.fullmatch(r"seed_\d+", folder.name) else folder.name.removesuffix(f"_{seed}")


def read_config(folder: Path) -> dict:
    """The settings of a run, nested.

    Raises:
        ValueError: if there is no run.
    """
    path = folder / "config.yaml"
    if not folder.is_dir():
        raise ValueError(f"There is no run {folder}: check the path, or train with OUTPUT_DIR {folder}.")
    if not path.exists():
        raise ValueError(f"Expected the OUTPUT_DIR of a run, with config.yaml in it, got {folder}.")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): train the run anew.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged, it holds no settings: train the run anew.")
    return config


def datasets(config: dict) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the data sets that a configuration trains on and is tested on, transductive tests marked as such."""
    names, tests = config["DATASETS"]["NAMES"], config["DATASETS"]["TESTS"]
    marks = {
        name: " (transductive: the photographs trained on)" if is_transductive(config, name) else "" for name in tests
    }
    return tuple(names), tuple(name + marks[name] for name in tests)


def is_transductive(config: dict, name: str) -> bool:
    """Whether a configuration scores a data set by photographs that it trains on: TEST.TRANSDUCTIVE or COMBINEALL."""
    datasets = config["DATASETS"]
    combined = datasets.get("COMBINEALL", False) and name in datasets["NAMES"]
    return combined or config.get("TEST", {}).get("TRANSDUCTIVE", False)


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint from which a run would resume."""
    tag = folder / "last_checkpoint"
    path = folder / tag.read_text().strip() if tag.exists() else None
    return path if path and path.exists() else None


def read_lines(folder: Path) -> list[dict]:
    """The lines of metrics.json, without one that is being written or was cut off."""
    path, lines = folder / "metrics.json", []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def read_epochs(folder: Path) -> tuple[Epoch, ...]:
    """The finished epochs of a run: the line with the seconds of training is an epoch's last."""
    epochs: list[Epoch] = []
    logged: dict[str, float] = {}
    for line in read_lines(folder):
        logged |= line
        if "seconds_training" in line:
            epochs.append(_epoch(len(epochs), logged))
            logged = {}
    return tuple(epochs)


def _epoch(number: int, logged: dict[str, float]) -> Epoch:
    def starting_with(prefix):
        return {name: value for name, value in logged.items() if name.startswith(prefix)}

    return Epoch(
        number=number,
        iterations=logged["iteration"] + 1,
        scores={name: logged[name] for name in SCORES if name in logged},
        clustering={name: logged[name] for name in CLUSTERING if name in logged},
        losses=starting_with("loss_"),
        seconds={name.removeprefix("seconds_"): value for name, value in starting_with("seconds_").items()},
        peak_memory=logged.get("peak_memory_gib"),
    )


def read_queries(path: Path) -> tuple[Query, ...]:
    """The queries of an evaluation, in the order of the data set; none without the file.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.exists():
        return ()
    try:
        with open(path, newline="") as file:
            return tuple(map(_query, csv.DictReader(file)))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, or train the run anew.") from error


def _query(row: dict[str, str]) -> Query:
    ap, first = row["ap"], row["first_rank"]
    identity = row["identity"] if "identity" in row else row["pid"]  # a number, in tables of earlier versions
    return Query(row["path"], identity, float(ap) if ap else None, int(first) if first else None)


def fits(queries: tuple[Query, ...], mean: float) -> bool:
    """Whether queries are those of an evaluation with this mAP, in percent, and not of a later or other one."""
    found = [query.ap for query in queries if query.ap is not None]
    return bool(found) and math.isclose(100 * sum(found) / len(found), mean, abs_tol=1e-3)
