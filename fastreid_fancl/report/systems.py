"""Group runs into systems over seeds, and check that they can be compared in one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..escape import visible
from ..runs.read import Run
from ..runs.settings import differences, explain_differences

SEED_FOLDER = "seed_{seed}/"  # in settings of a comparison: each run's own folder
GROUPS = ("Supervised", "Unsupervised", "Failed or unfinished")


@dataclass(frozen=True)
class Missing:
    """A run without results, and the reason."""

    system: str
    seed: int
    reason: str


@dataclass(frozen=True)
class System:
    """A system of a comparison with its runs.

    Attributes:
        runs: the finished runs, by seed.
        missing: the runs without results.
        unfinished: the runs without results that have finished an epoch at least.
        place: the position in tables of a given order; None in tables ordered by mAP.
    """

    name: str
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...] = ()
    unfinished: tuple[Run, ...] = ()
    place: int | None = None

    @property
    def group(self) -> str:
        if not self.runs:
            return GROUPS[-1]
        return "Supervised" if self.runs[0].supervised else "Unsupervised"


def gather(runs: Iterable[Run], missing: Iterable[Missing] = ()) -> list[System]:
    """Group runs by system, in the order of first appearance; unfinished runs and those in `missing` have no results.

    Raises:
        UserError: if runs have different data sets, or if runs of a system share a seed or differ in their settings.
    """
    runs, missing = list(runs), list(missing)
    check_datasets({str(run.folder): run.datasets for run in runs})
    explained = {(entry.system, entry.seed) for entry in missing}
    unfinished = [run for run in runs if not run.finished or (run.system, run.seed) in explained]
    missing += [
        Missing(run.system, run.seed, interrupted(run)) for run in unfinished if (run.system, run.seed) not in explained
    ]
    finished = [run for run in runs if run not in unfinished]
    systems = []
    for name in dict.fromkeys(entry.system for entry in (*runs, *missing)):
        own, without, begun = (
            tuple(sorted((entry for entry in entries if entry.system == name), key=lambda entry: entry.seed))
            for entries in (finished, missing, unfinished)
        )
        check_alike(own)
        systems.append(System(name, own, without, begun))
    return systems


def interrupted(run: Run) -> str:
    """The reason in words why an unfinished run has no results."""
    without = "" if run.checkpoint else ", without a checkpoint (a lower SOLVER.CHECKPOINT_PERIOD writes them sooner)"
    return f"interrupted after epoch {len(run.epochs)} of {run.max_epoch}{without}: resume it with --resume"


def check_baseline(name: str | None, systems: Iterable[str]) -> None:
    """Raise UserError if a name is given and no system has it."""
    names = list(dict.fromkeys(systems))
    if name is not None and name not in names:
        raise UserError(f"Expected --baseline to be one of {', '.join(names)}, got {name}.")


def check_datasets(datasets: dict[str, tuple]) -> None:
    """Raise UserError unless all runs, given by name, train and test on the same data sets."""
    (first, expected), *others = datasets.items() or [("", ())]
    for name, own in others:
        if own != expected:
            raise UserError(
                "Expected runs of the same data sets, since numbers of different ones cannot be compared: "
                f"{first} was {describe(expected)}; {name} was {describe(own)}. Compare them in tables of their own."
            )


def describe(datasets: tuple) -> str:
    """The data sets of training and test in words."""
    return f"trained on {_listed(datasets[0])}, tested on {describe_test(datasets)}"


def describe_test(datasets: tuple) -> str:
    """The data sets of the test in words."""
    return _listed(datasets[1])


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(visible, names)) or "nothing"


def check_alike(runs: Sequence[Run]) -> None:
    """Raise UserError if two runs of a system have the same seed, or differ in settings that seeds must share."""
    for number, run in enumerate(runs):
        if any(run.seed == other.seed for other in runs[:number]):
            raise UserError(
                f"Expected one run of {run.system} per seed, got seed {run.seed} twice: {runs[number - 1].folder} and "
                f"{run.folder}. Leave one out, or name its folder for another system."
            )
        changed = differences(*(of_any_seed(one.config, one.seed) for one in (runs[0], run)))
        if changed:
            raise UserError(
                f"Expected {runs[0].folder} and {run.folder} to be seeds of one system, but they differ in "
                f"{explain_differences(changed)}. Name their folders for two systems, as in <system>/seed_<n>."
            )


def of_any_seed(setting, seed: int):
    """Settings with the run's seed removed from paths through a folder seed_<n>, so that seeds can be compared."""
    if isinstance(setting, dict):
        return {key: of_any_seed(value, seed) for key, value in setting.items()}
    return setting.replace(SEED_FOLDER.format(seed=seed), SEED_FOLDER) if isinstance(setting, str) else setting
