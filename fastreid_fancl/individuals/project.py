"""A project's folder, which is the truth about its animals: locked, read, and written whole or not at all.

photographs.csv, individuals.csv, decisions.csv, changes.csv, project.json
features/<fingerprint of the encoder>.npz, features/local/     can be computed again, as can all that follows
patterns.npz, certainty.npz, summary.txt, left_out.csv, review.html, thumbnails/, large/, training/
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.sparse import csr_matrix

from ..errors import UserError
from ..escape import visible
from ..files import content_hash, make_folder, replacing
from ..local import LocalFeatures, verified_matches, verifying
from ..local.calibrate import Curve
from ..locks import exclusive_lock
from ..runs.checked import DamagedError
from .candidates import Gallery, gallery_of, verdict
from .certainty import calibrate
from .crops import crop_of, displaced_in, file_of, own_crop
from .encode import Encoder, Features, encoder_named
from .links import active, decided_pairs
from .patterns import Patterns, foreground_keypoints, keypoints, keypoints_of_file, pair_similarities
from .rows import Change, Decision, Individual, Photograph, restored_animals
from .storage import CURE, read_table, table_text

COMPARED = 150  # known photographs that one is matched with, spot by spot: about a second on one core
TRAINING = "training"  # folder of runs that were trained on the project
TABLES = {
    "decisions.csv": Decision,
    "individuals.csv": Individual,
    "photographs.csv": Photograph,
    "changes.csv": Change,
}


class Project:
    """Photographs of animals, the animals that they show, and what a person decided about them.

    Attributes:
        folder: where all of it lies.
        settings: of project.json: name, prefix, encoder, fingerprint, species, timezone, seed, levels,
            levels_of (the `rule` of the scores that the levels belong to), local (weight of local matches), ...
        encoder_options: of `encode.encoder_named`, for this command only.
        photographs, animals, decisions, changes: the rows of the tables.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], encoder: Encoder | None = None):
        self.folder, self.settings = folder, settings
        self.photographs: list[Photograph] = []
        self.animals: list[Individual] = []
        self.decisions: list[Decision] = []
        self.changes: list[Change] = []
        self.encoder_options: dict[str, Any] = {}
        self._encoder = encoder
        self._displaced: tuple[list[Photograph], dict[str, str]] | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder of the project's features, built at its first use."""
        if self._encoder is None:
            self._encoder = encoder_named(self.settings["encoder"], **self.encoder_options)
        return self._encoder

    def change_encoder(self, name: str, encoder: Encoder | None = None) -> None:
        """Take another encoder, which may be built already; scores by it have other levels."""
        self.settings["encoder"], self._encoder = name, encoder

    def individuals(self) -> list[Individual]:
        """The animals, those that were merged into another one included."""
        return list(self.animals)

    def image_of(self, key: str) -> Image.Image:
        """The upright crop of one animal.

        Raises:
            ValueError: on an unknown key, or an unreadable photograph.
        """
        row = self.by_key.get(key)
        if row is None:
            raise UserError(f"Expected the key of a photograph of {self.folder}, got {key!r}: see photographs.csv.")
        return own_crop(row, self.displaced)

    @property
    def displaced(self) -> dict[str, str]:
        """Photographs whose file now holds another one, see `crops.displaced_in`; found once for a list of them."""
        if self._displaced is None or self._displaced[0] is not self.photographs:
            self._displaced = self.photographs, displaced_in(self.photographs)
        return self._displaced[1]

    @property
    def by_key(self) -> dict[str, Photograph]:
        """The photographs by key."""
        return {row.key: row for row in self.photographs}

    @cached_property
    def known_features(self) -> Features:
        """What is stored of the photographs' features."""
        return Features.read(self.folder, self.settings["fingerprint"])

    def forget_features(self) -> None:
        """Read stored features and local matches again at their next use."""
        for name in ("known_features", "gallery", "patterns"):
            self.__dict__.pop(name, None)

    def stored_features(self) -> tuple[list[str], np.ndarray]:
        """Keys and features (N, D), at unit length, of all usable photographs that are encoded."""
        return self.known_features.of([row for row in self.photographs if row.usable])

    @cached_property
    def gallery(self) -> Gallery:
        """The photographs that are evidence of an animal, ready to be searched."""
        keys, values = self.stored_features()
        known = self.by_key
        return gallery_of([known[key] for key in keys], values)

    @cached_property
    def patterns(self) -> Patterns | None:
        """What local matches say of pairs of the photographs; None for a project without."""
        return Patterns.read(self.folder)

    @property
    def rule(self) -> str:
        """What scores are made from beside the features, as `levels_of` in the settings names it; "" for nothing."""
        return "" if self.patterns is None else self.patterns.rule

    def features(self, path: str | os.PathLike | Sequence[str | os.PathLike]) -> np.ndarray:
        """Encode a photograph, taken whole: (D,) at unit length. Several give (N, D).

        Raises:
            UserError: if one is unreadable, or the encoder's weights are others than those of the stored features.
        """
        if isinstance(path, str | os.PathLike):
            return self.features([path])[0]
        crops = [crop_of(one) for one in path]  # first, as building the encoder takes seconds
        if self.encoder.fingerprint != self.settings["fingerprint"]:
            name = self.settings["encoder"]
            option = f"--run {name.removeprefix('run:')}" if name.startswith("run:") else f"--encoder {name}"
            raise UserError(
                f"The weights of {visible(name)} have changed since the known photographs were encoded: `fancl "
                f"discover {visible(self.folder)} {visible(option)}` encodes them again."
            )
        return self.encoder.encode(crops)

    def match(self, path: str | os.PathLike, top: int = 5) -> list[dict[str, Any]]:
        """The known animals that a photograph is most alike, best first.

        Returns:
            A dictionary for each of the `top` animals, and for every animal that the project already gives this
            photograph, so there may be more than `top`: individual, name, score,
            probability that it is this animal (None until enough pairs are decided), verdict (proposed, unsure or new;
            known if the project has this very photograph as one of the animal), photograph and key of its photograph
            that is most alike, and matched_points with that photograph (None if they were not compared).
            Local matches are compared with the COMPARED known photographs that are nearest by the features.

        Raises:
            UserError: if the project has no animals or no features yet, or the photograph is unreadable.
        """
        if not len(self.gallery.names):
            if any(row.counts for row in self.photographs):
                raise UserError(
                    f"{visible(self.folder)} lacks the features of its photographs: `fancl discover "
                    f"{visible(self.folder)} --photos FOLDER` computes them again."
                )
            raise UserError(f"{visible(self.folder)} has no animals yet: `fancl discover` finds them.")
        names = {animal.individual: animal.name for animal in self.animals}
        known, values = self.by_key, self.features(path)
        likely = self.calibration()
        owners = {row.individual for row in self.rows_of(path) if row.counts}
        extra, points = (
            self._compared(self.patterns, values, keypoints_of_file(file_of(path))) if self.patterns else (None, {})
        )
        return [
            {
                "individual": one.individual,
                "name": names.get(one.individual, ""),
                "score": round(one.score, 4),
                "probability": likely and round(float(likely(one.score)), 4),
                "verdict": "known" if one.individual in owners else verdict(one.score, self.settings["levels"]),
                "photograph": known[one.key].path,
                "key": one.key,
                "matched_points": points.get(one.key),
            }
            for n, one in enumerate(self.gallery.candidates(values[None], top=len(names), extra=extra)[0])
            if n < top or one.individual in owners
        ]

    def rows_of(self, path: str | os.PathLike) -> list[Photograph]:
        """The rows of the project that are of this very photograph, by its content."""
        with open(file_of(path), "rb") as opened:
            content = content_hash(opened)
        return [row for row in self.photographs if row.hash == content]

    def calibration(self) -> Curve | None:
        """From a score to the probability that two photographs show one animal, by the decisions on pairs.

        None until enough pairs are decided.
        """
        decisions = active(self.decisions)
        named = {key for one in decisions for key in (one.a, one.b)}
        keys, features = self.known_features.of(row for row in self.photographs if row.usable and row.key in named)
        pairs, same = decided_pairs(decisions, keys)
        scores = pair_similarities(self.patterns, keys, features, pairs)
        return calibrate(scores.tolist(), same.tolist())

    def _compared(
        self, patterns: Patterns, features: np.ndarray, spots: LocalFeatures
    ) -> tuple[csr_matrix, dict[str, int]]:
        """What matches add to the scores of the known photographs (1, M), and how many there are by key."""
        near = np.argsort(-(self.gallery.features @ features), kind="stable")[:COMPARED]
        by_key = self.by_key
        known = [by_key[key] for key in self.gallery.keys[near].tolist()]
        there = foreground_keypoints(patterns, known, keypoints(self.folder, known, {}, self.displaced))
        with verifying() as pool:
            inliers = np.array([len(found) for found in pool.map(partial(verified_matches, spots), there)])
        extra = csr_matrix((patterns.worth(inliers), ([0] * len(near), near)), shape=(1, len(self.gallery.keys)))
        return extra, {row.key: int(number) for row, number in zip(known, inliers, strict=True)}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other discoveries out. What fails before a new project is written leaves no empty folder.

        Raises:
            ValueError: if another one is at work in this folder.
        """
        new = not self.folder.exists()
        make_folder(self.folder)
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(os.fspath(self.folder / ".lock"), wait=0))
            except BlockingIOError as error:
                raise UserError(
                    f"Another command is changing {visible(self.folder)}: wait until it ends, then run this one again."
                ) from error
            try:
                yield
            finally:
                if not (self.folder / "project.json").exists():
                    self._leave_nothing(new)

    def _leave_nothing(self, new: bool) -> None:
        """Remove the lock of a project that was never written, and its folder if it is new and empty."""
        with suppress(OSError):
            (self.folder / ".lock").unlink()
            if new:
                self.folder.rmdir()  # which keeps what is not empty, such as features of an interrupted discovery

    def write(self) -> None:
        """Write all tables; each is there whole before any of them takes the place of an older one."""
        contents: dict[str, Sequence[Any]] = {
            "decisions.csv": self.decisions,
            "changes.csv": self.changes,
            "photographs.csv": sorted(self.photographs, key=lambda row: (row.season, row.path, row.key)),
            "individuals.csv": sorted(self.animals, key=lambda animal: animal.individual),
        }
        with ExitStack() as stack:
            # Contexts end in reverse order, so files are replaced in this order: settings, animals, the photographs
            # that name them, changes, decisions. A decision recorded before it is applied would be skipped when it is
            # given again after a kill.
            for name, content in contents.items():
                temporary = stack.enter_context(replacing(self.folder / name))
                Path(temporary).write_bytes(table_text(content, TABLES[name]).encode())
            temporary = stack.enter_context(replacing(self.folder / "project.json"))
            text = json.dumps(self.settings, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
            Path(temporary).write_text(text, encoding="utf-8")

    def read(self) -> None:
        """Read all tables.

        Raises:
            DamagedError: (a ValueError) if one is not what `write` wrote.
        """
        tables = {name: read_table(self.folder / name, kind) for name, kind in TABLES.items()}
        self.decisions, self.animals = tables["decisions.csv"], tables["individuals.csv"]
        self.photographs, self.changes = tables["photographs.csv"], tables["changes.csv"]
        if not (self.folder / "individuals.csv").exists():
            self.animals = restored_animals(self.photographs, self.decisions, self.changes)
        self._check()

    def _check(self) -> None:
        """Raise DamagedError if the tables do not fit each other."""
        photographs, individuals = self.folder / "photographs.csv", self.folder / "individuals.csv"
        names = [animal.individual for animal in self.animals]
        for path, keys in ((photographs, [row.key for row in self.photographs]), (individuals, names)):
            if twice := sorted(key for key, number in Counter(keys).items() if number > 1):
                raise DamagedError(path, f"{twice[0]} is there twice", CURE)
        named = {name for row in self.photographs for name in (row.individual, row.second)}
        heirs = {animal.individual: animal.merged_into for animal in self.animals}
        for path, used in ((photographs, named), (individuals, set(heirs.values()))):
            if unknown := used - heirs.keys() - {""}:
                problem = (
                    f"it names {min(unknown)}, which individuals.csv does not have (IDs stay; column name is free)"
                )
                raise DamagedError(path, problem, CURE)
        try:
            tuple(TopologicalSorter({name: [heir] for name, heir in heirs.items() if heir}).static_order())
        except CycleError as error:
            raise DamagedError(individuals, f"merged into each other: {', '.join(error.args[1])}", CURE) from error
