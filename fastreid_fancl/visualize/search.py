"""The gallery search behind a picture, equal to the evaluator's. Q queries, G gallery images, D dimensions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.data.transforms import build_transforms
from fastreid.evaluation import ReidEvaluator, inference_on_dataset
from fastreid.utils.compute_dist import build_dist
from torch import Tensor, nn

from ..data.check import preflight
from ..data.loaders import Item, ReIDDataset, feature_loader
from ..engine.evaluation import protocol
from ..engine.seeds import derive_seed
from ..engine.trainer import Trainer, check_data, training_items, training_splits
from ..errors import UserError
from ..ranking import Ranking, market1501
from .drawing import as_pixels, photograph


class Match(NamedTuple):
    """A gallery image near a query.

    Attributes:
        same: whether it shows the query's identity; None if identities are unknown.
        rank: from 1; None if the Market-1501 rule drops it, as it shows the query's identity by the same camera.
    """

    path: str
    same: bool | None
    rank: int | None


@dataclass(frozen=True)
class Search:
    """Queries and their distances to a gallery.

    Attributes:
        queries, gallery: (path, pid, camid) of each image.
        features: (Q + G, D), queries first, of any length.
        distances: (Q, G) by TEST.METRIC.
        ranking: by the Market-1501 protocol; None if identities are unknown.
        names: the names of the pids, if the data set has them.
    """

    queries: list[Item]
    gallery: list[Item]
    features: Tensor = field(repr=False)
    distances: np.ndarray = field(repr=False)
    ranking: Ranking | None
    names: list[str]

    def name(self, query: int) -> str:
        """The name of a query's identity."""
        pid = self.queries[query][1]
        name = str(self.names[pid] if self.names else pid)
        return f"identity {name}" if name.isdigit() else name

    def nearest(self, query: int, number: int) -> list[Match]:
        """The gallery images nearest to a query, in the evaluator's order, without the query itself."""
        matches, rank = [], 0
        path, pid, camid = self.queries[query]
        for index in np.argsort(self.distances[query]):
            other, other_pid, other_camid = self.gallery[index]
            if other == path:
                continue
            same = pid == other_pid if self.ranking else None
            dropped = bool(same) and camid == other_camid
            rank += not dropped
            matches.append(Match(other, same, None if dropped else rank))
            if len(matches) == number:
                break
        return matches


def choose(search: Search, number: int, seed: int, hardest: bool = False) -> list[int]:
    """Choose queries that have a match: those with the lowest average precision, or some spread over identities.

    Raises:
        UserError: on `hardest` without identities.
    """
    if search.ranking is None:
        if hardest:
            raise UserError("--hardest goes by average precision, which needs identities: leave it out.")
        return spread([pid for _, pid, _ in search.queries], number, seed)
    matched = np.flatnonzero(np.isfinite(search.ranking.first))
    if hardest:
        return matched[np.argsort(search.ranking.precision[matched], kind="stable")][:number].tolist()
    return matched[spread([search.queries[query][1] for query in matched], number, seed)].tolist()


class Features(ReidEvaluator):
    """An evaluator that returns the features instead of scoring them."""

    def evaluate(self) -> dict[str, Tensor]:
        return {"features": torch.cat([prediction["feats"] for prediction in self._predictions])}


def search_tests(cfg, model: nn.Module) -> Search:
    """Search the gallery of DATASETS.TESTS for its queries, and score it.

    Raises:
        UserError: unless there is one test set with queries that have a match, or if settings change the order.
    """
    if len(cfg.DATASETS.TESTS) != 1:
        raise UserError(f"Expected one test set, got DATASETS.TESTS {tuple(cfg.DATASETS.TESTS)}: name one.")
    check_data(cfg, train=False)
    name = cfg.DATASETS.TESTS[0]
    test, loader = protocol(cfg, name), Trainer.build_test_loader(cfg, name)[0]
    features, distances = compare(cfg, model, loader, test.rows, len(test.query))
    labels = test.labels()
    labelled = (labels[1] >= 0).any()
    ranking = market1501(distances, *labels) if labelled else None
    return Search(test.query, test.gallery, features, distances, ranking, test.names)


def search_training(cfg, model: nn.Module, number: int) -> Search:
    """Search the training images of DATASETS.NAMES for those most similar to some of them, without identities."""
    gallery = checked_training_items(cfg)
    queries = [gallery[index] for index in spread([item[1] for item in gallery], number, cfg.SEED)]
    images = ReIDDataset(queries + gallery, build_transforms(cfg, is_train=False))
    loader = feature_loader(images, cfg.TEST.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS)
    features, distances = compare(cfg, model, loader, range(len(images)), len(queries))
    return Search(queries, gallery, features, distances, None, [])


def checked_training_items(cfg) -> list[Item]:
    """The training images; unreadable ones are skipped or refused as DATASETS.ON_BAD_IMAGE says."""
    preflight(training_splits(cfg), on_bad_image=cfg.DATASETS.ON_BAD_IMAGE)
    return training_items(cfg)


def compare(cfg, model: nn.Module, loader, rows: Sequence[int], queries: int) -> tuple[Tensor, np.ndarray]:
    """The features (Q + G, D) of these rows of a loader's images, and distances (Q, G) of the first Q to the others."""
    for name in ("AQE", "RERANK"):
        if cfg.TEST[name].ENABLED:
            raise UserError(f"Expected the plain search, got TEST.{name}.ENABLED True: set it to False for pictures.")
    features = inference_on_dataset(model, loader, Features(cfg, queries), flip_test=cfg.TEST.FLIP.ENABLED)["features"]
    features = features[list(rows)]
    return features, build_dist(features[:queries], features[queries:], cfg.TEST.METRIC)


def spread(groups: list, number: int, seed: int) -> list[int]:
    """Draw `number` indices from as many groups as possible: one from each group, then a second one."""
    taken: Counter = Counter()
    turns = []
    for index in np.random.default_rng(derive_seed(seed, 0)).permutation(len(groups)).tolist():
        turns.append((taken[groups[index]], index))
        taken[groups[index]] += 1
    return [index for _, index in sorted(turns, key=lambda turn: turn[0])[:number]]


def inputs(cfg, items: list[Item]) -> Tensor:
    """The network's input (B, 3, H, W) in [0, 255] for these images at test time."""
    dataset = ReIDDataset(items, build_transforms(cfg, is_train=False))
    return torch.stack([dataset[index]["images"] for index in range(len(dataset))])


def mean_feature(features: Tensor) -> Tensor:
    """Mean direction of features (N, D) of any length, as a unit vector (D,); zero if N is 0."""
    return F.normalize(F.normalize(features, dim=1).sum(0), dim=0)


def photographs(cfg, items: list[Item], images: Tensor) -> list[np.ndarray]:
    """The photographs (H, W, 3) of `inputs`; with INPUT.CROP the inputs themselves, which lack the margins."""
    if cfg.INPUT.CROP.ENABLED:
        return [as_pixels(image) for image in images]
    return [photograph(path) for path, *_ in items]
