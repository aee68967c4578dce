"""What local matches add to a frozen encoder, without any training or label: retrieval and groups.

    FASTREID_DATASETS=FOLDER python benchmarks/local.py NAME [NAME ...] [--weights 0.05 0.1 0.2] [--opts KEY VALUE ...]

Retrieval by the data set's queries and gallery, or by leave-one-out over all its photographs, burst-mates not counted.
Groups of the same photographs by the Jaccard distance and DBSCAN, as the engine makes them, by the average linkage of
this distance, as `fancl discover` makes them, and by two other clusterings of the fused similarity: average linkage,
and Louvain communities where networkx is installed. Seconds are of one process's processor time. Prints Markdown. How
seconds and memory grow with the photographs: discovery.py.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import fastreid_fancl  # noqa: E402, F401, I001 (fixes fast-reid before it is imported)
from fastreid_fancl import clustering, load_config, local  # noqa: E402
from fastreid_fancl.ranking import market1501  # noqa: E402
from fastreid_fancl.data.datasets import load  # noqa: E402
from fastreid_fancl.data.datasets.protocols import Protocol  # noqa: E402
from fastreid_fancl.data.keys import image_keys  # noqa: E402
from fastreid_fancl.engine.evaluation import protocol  # noqa: E402
from fastreid_fancl.engine.fused import learned_evidence, photos_of  # noqa: E402
from fastreid_fancl.engine.labels import cluster, distance_options, linked_labels  # noqa: E402
from fastreid_fancl.data.loaders import ReIDDataset, feature_loader  # noqa: E402
from fastreid_fancl.engine.features import extract_features  # noqa: E402
from fastreid_fancl.engine.record import peak_resident  # noqa: E402
from fastreid_fancl.engine.trained_model import load_model  # noqa: E402
from fastreid_fancl.clustering.constraints import Constraints  # noqa: E402
from fastreid_fancl.individuals.certainty import group  # noqa: E402
from fastreid_fancl.individuals.patterns import COUNTS, NEAREST, Patterns  # noqa: E402
from fastreid_fancl.local.pairs import unordered_pairs  # noqa: E402
from fastreid.data.transforms import build_transforms  # noqa: E402
from scipy.cluster.hierarchy import fcluster, linkage  # noqa: E402
from scipy.spatial.distance import squareform  # noqa: E402
from tables import Tables, add_output  # noqa: E402

NEIGHBORS = 20  # of the encoder, that are verified for a retrieval
LINKS = (10, 15, 20, 30)  # inliers from which pairs are linked
RANDOM = 0.99  # of random pairs are less alike than where average linkage stops


class Case(NamedTuple):
    """A data set as it is measured: N photographs, their features (N, D) of unit length, and what compares them."""

    name: str
    test: Protocol
    features: torch.Tensor
    pairs: local.LocalPairs
    calibrated: local.Calibration | None
    sequences: list[str | None]
    cfg: object


def main() -> None:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="NAME", help="under FASTREID_DATASETS, or a synthetic one")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.05, 0.1, 0.2])
    parser.add_argument("--config-file", default=str(ROOT / "configs/Photographs/fancl.yml"))
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="settings, as for train_net.py")
    parser.add_argument("--threads", type=int, default=1)
    add_output(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables = Tables(args.output, "CPU", args.threads)
    for name in args.datasets:
        measure(name, args, tables)


def measure(name: str, args, tables: Tables) -> None:
    """Print the tables of a data set."""
    case = prepare(name, args, tables)
    tables.say(f"\n{name}: retrieval\n")
    tables.add([{"data set": name, "similarity": how, **retrieval(case, *which)} for how, which in kinds(case, args)])
    tables.say(f"\n{name}: groups\n")
    tables.add([row for how, which in kinds(case, args, alone=False) for row in groupings(case, how, *which)])
    tables.say(f"\n{name}: links, w {args.weights[-1]:g}, burst-mates not counted\n")
    tables.add([linked(case, args.weights[-1], inliers) for inliers in LINKS])


def kinds(case: Case, args, alone: bool = True) -> list[tuple[str, tuple]]:
    """Names of similarities, each with its weight and whether it is calibrated."""
    found = [("frozen", (0.0, False)), *((f"fused, w {w:g}", (w, False)) for w in args.weights)]
    if case.calibrated:
        found += [(f"fused and calibrated, w {w:g}", (w, True)) for w in args.weights]
    return found + [("inliers first, ties by cosine", (1000.0, False))] * alone


def prepare(name: str, args, tables: Tables) -> Case:
    """Encode a data set's test photographs and find their keypoints."""
    dataset = load(name)
    transductive = getattr(dataset, "leaves_one_out", True) or not dataset.query
    keys = ["DATASETS.NAMES", (name,), "DATASETS.TESTS", (name,), "TEST.TRANSDUCTIVE", transductive]
    keys += ["DATASETS.COMBINEALL", True, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", tempfile.gettempdir()]
    cfg = load_config(args.config_file, [str(word) for word in keys] + args.opts)
    test = protocol(cfg, name)
    items = test.photographs
    began = time.process_time()
    images = ReIDDataset(items, build_transforms(cfg, is_train=False), relabel=False)
    loader = feature_loader(images, cfg.TEST.IMS_PER_BATCH, 0)
    features = extract_features(load_model(cfg), loader)["original"]
    encoded = time.process_time()
    photos = photos_of([name], [path for path, *_ in items])
    found = local.local_features([photo.path for photo in photos])
    kept = local.without_background(found, [photo.background for photo in photos], [photo.sequence for photo in photos])
    described = time.process_time()
    pairs = local.LocalPairs(kept)
    searched = time.process_time()
    calibrated = learned_evidence(pairs, photos)
    case = Case(name, test, features, pairs, calibrated, [photo.sequence for photo in photos], cfg)
    verifying = time.process_time()
    verified = case.pairs.fuse(features, nearest(features, NEIGHBORS), 1.0).nnz // 2
    row = {"data set": name, "photographs": len(items), "animals": len({pid for _, pid, _ in items})}
    row |= {"encoder s": encoded - began, "keypoints s": described - encoded, "search s": searched - described}
    row |= {"pairs": verified, "verification s": time.process_time() - verifying, "peak GiB": peak_resident()}
    row["keypoints of the background"] = 1 - sum(len(f.points) for f in kept) / sum(len(f.points) for f in found)
    tables.add([row])
    return case


def nearest(features: torch.Tensor, k: int) -> np.ndarray:
    """(N, k + 1) row numbers of the nearest rows, the row itself first."""
    return clustering.knn(features, k + 1)[1]


def evidence_of(case: Case, calibrated: bool) -> local.LocalPairs:
    """The case's pairs with their evidence by the rule, or calibrated."""
    case.pairs.evidence = case.calibrated if calibrated else np.log1p
    return case.pairs


def dense(case: Case, weight: float, calibrated: bool) -> np.ndarray:
    """(N, N) similarities, fused for the pairs that were verified. For scores only: nothing else is N x N."""
    similarity = (case.features @ case.features.T).numpy().astype(np.float64)
    fused = evidence_of(case, calibrated).fuse(case.features, nearest(case.features, NEIGHBORS), weight).tocoo()
    similarity[fused.row, fused.col] = fused.data
    return similarity


def retrieval(case: Case, weight: float, calibrated: bool) -> dict[str, float]:
    """mAP and Rank-1 in percent of the data set's protocol."""
    rows, queries = np.array(case.test.rows), len(case.test.query)
    distance = -dense(case, weight, calibrated)[np.ix_(rows[:queries], rows[queries:])]
    ranking = market1501(distance, *case.test.labels())
    counted = np.isfinite(ranking.first)
    first, precision = ranking.first[counted], ranking.precision[counted]
    return {"mAP": 100 * precision.mean(), "1-NN": 100 * (first == 1).mean(), "Rank-5": 100 * (first <= 5).mean()}


def groupings(case: Case, how: str, weight: float, calibrated: bool) -> list[dict]:
    """A row for each clustering."""
    truth = np.array([pid for _, pid, _ in case.test.photographs])
    similarity = dense(case, weight, calibrated)
    by_name = {"Jaccard and DBSCAN": jaccard_labels(case, weight, calibrated)}
    by_name |= {
        "Jaccard and average linkage": discovered(case, weight, calibrated),
        "average linkage": average(similarity),
    }
    by_name |= louvain(case, weight, calibrated)
    return [
        {"data set": case.name, "similarity": how, "clustering": name} | scores(labels, truth)
        for name, labels in by_name.items()
        if labels is not None
    ]


def scores(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """ARI, the groups, and the animals found: a group is mostly one of them and has most of its photographs."""
    found = 0
    for animal in np.unique(truth):
        own = labels[(truth == animal) & (labels >= 0)]
        if len(own):
            group = np.bincount(own).argmax()
            shared = ((labels == group) & (truth == animal)).sum()
            found += 2 * shared > max((labels == group).sum(), (truth == animal).sum())
    numbers = clustering.grouping_scores(labels, truth)
    return {name: numbers[name] for name in ("ARI", "groups", "ungrouped", "animals")} | {"animals found": int(found)}


def jaccard_labels(case: Case, weight: float, calibrated: bool) -> np.ndarray | None:
    """As the engine clusters; None where that gives no groups."""
    options, lists = case.cfg.PSEUDO_LABELS, None
    if weight:
        near = nearest(case.features, options.K1 + local.EXTRA)
        lists = evidence_of(case, calibrated).rank(case.features, near, weight, options.K1)
    distance = clustering.jaccard_distance(case.features, **distance_options(options), neighbors=lists)
    try:
        return cluster(distance, options, case.cfg.SEED, image_keys(path for path, *_ in case.test.photographs)).labels
    except ValueError:
        return None


def discovered(case: Case, weight: float, calibrated: bool) -> np.ndarray:
    """As `fancl discover` groups photographs of which nothing is known; a photograph alone is left out."""
    keys, patterns = [str(n) for n in range(len(case.features))], None
    if weight:
        near = nearest(case.features, NEAREST + local.EXTRA - 1)
        pairs = unordered_pairs(np.concatenate([near, case.pairs.proposed], axis=1))
        evidence = evidence_of(case, calibrated).evidence(np.arange(COUNTS)).astype(np.float32)
        kept = np.ones((len(keys), COUNTS), dtype=bool)
        patterns = Patterns(keys, keys, pairs, case.pairs.inliers(pairs), evidence, weight, kept)
    grouping = group(case.features.numpy(), Constraints(), patterns=patterns, keys=keys, seed=case.cfg.SEED)
    return np.where(np.bincount(grouping.labels)[grouping.labels] > 1, grouping.labels, -1)


def linked(case: Case, weight: float, inliers: int) -> dict:
    """How many linked pairs show one animal, and the groups with PSEUDO_LABELS.LOCAL_LINKS."""
    truth = np.array([pid for _, pid, _ in case.test.photographs])
    links = case.pairs.links(inliers)
    apart = [a is None or a != b for a, b in (map(case.sequences.__getitem__, pair) for pair in links.tolist())]
    one, other = links[apart].T
    labels = jaccard_labels(case, weight, calibrated=False)
    row = {"data set": case.name, "inliers from": inliers, "pairs": len(one)}
    row["of one animal"] = (truth[one] == truth[other]).mean() if len(one) else float("nan")
    return row if labels is None else row | scores(linked_labels(labels, links), truth)


def average(similarity: np.ndarray) -> np.ndarray:
    """Average linkage up to where RANDOM of the pairs are less alike; a photograph alone is left out."""
    upper = similarity[np.triu_indices(len(similarity), 1)]
    distance = similarity.max() - similarity
    np.fill_diagonal(distance, 0)
    merged = linkage(squareform((distance + distance.T) / 2, checks=False), "average")
    labels = fcluster(merged, similarity.max() - np.quantile(upper, RANDOM), "distance") - 1
    sizes = np.bincount(labels)
    return np.where(sizes[labels] > 1, labels, -1)


def louvain(case: Case, weight: float, calibrated: bool) -> dict[str, np.ndarray]:
    """Louvain communities of each photograph's k1 nearest, weighted by similarity above that of random pairs."""
    try:
        import networkx
    except ImportError:
        return {}
    k1 = case.cfg.PSEUDO_LABELS.K1
    squared, index = evidence_of(case, calibrated).rank(case.features, nearest(case.features, k1 + 10), weight, k1)
    mean = float(case.features.mean(dim=0).square().sum())
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(index)))
    for row, (distances, others) in enumerate(zip(squared, index, strict=True)):
        for value, other in zip(distances[1:].tolist(), others[1:].tolist(), strict=True):
            graph.add_edge(row, other, weight=max(1e-6, 1 - value / 2 - mean) ** 2)
    labels = np.empty(len(index), dtype=np.int64)
    for number, members in enumerate(networkx.community.louvain_communities(graph, seed=0)):
        labels[list(members)] = number
    return {"Louvain": labels}


if __name__ == "__main__":
    main()
