"""The command line that groups photographs by animal, with trained weights."""

import argparse
from pathlib import Path
from typing import cast

from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from torch import Tensor

from ..clustering import NoClustersError, grouping_scores
from ..data.loaders import Item, ReIDDataset, feature_loader
from ..engine.evaluation import in_words
from ..engine.features import extract_test_features
from ..engine.fused import local_pairs
from ..engine.labels import Labels, assign_labels, by_size, clustering_device, explain_cuda_oom
from ..engine.seeds import Stream, derive_seed
from ..engine.starts import seen_by, weights_in_use
from ..engine.trained_model import (
    add_source,
    configuration_of,
    load_start_or_trained_model,
)
from ..engine.trainer import check_data, is_unsupervised, training_items
from ..errors import UserError, exit_with_message
from ..escape import visible
from ..files import make_folder
from ..methods import PseudoLabelMethod
from ..runs.tables import write_groups


def command_line(argv: list[str] | None = None) -> None:
    """Write the groups that the arguments ask for; wrong input ends in a message without a traceback."""
    args = parser().parse_args(argv)
    with exit_with_message():
        cfg = configuration_of(args)
        items, grouped = group(cfg, start=not args.run)
        output = args.output or Path(cfg.OUTPUT_DIR, "groups.csv")
        make_folder(output.parent)
        write_groups(output, items, grouped.labels)
    radius = "" if grouped.eps is None else f", eps {grouped.eps:g}"
    left_out = int((grouped.labels < 0).sum())
    print(
        f"{len(items)} photographs, {grouped.labels.max() + 1} groups, {left_out} left out{radius}: {visible(output)}"
    )
    print(f"Weights: {visible(weights_in_use(cfg))}")
    identities = ReIDDataset(items).targets
    if (identities >= 0).any():
        scores, known = in_words(grouping_scores(grouped.labels, identities)), int((identities >= 0).sum())
        print(f"Against the animals of {known} photographs, counting each ungrouped image as its own group: {scores}")
        if not seen_by(cfg.MODEL.WEIGHTS).isdisjoint(cfg.DATASETS.NAMES):
            print("The run was trained on some or all of these photographs: scores of unseen animals may be lower.")


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = argparse.ArgumentParser(description="Group photographs by animal, with trained weights.")
    add_source(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: groups.csv in OUTPUT_DIR")
    return parser


def group(cfg: CfgNode, start: bool = False) -> tuple[list[Item], Labels]:
    """Cluster all photographs of DATASETS.NAMES, of every split, as an epoch of training does.

    Args:
        cfg: the configuration.
        start: without MODEL.WEIGHTS, take the pretrained weights that a training would start from.

    Returns:
        N items (path, pid, camid), and their labels, numbered by the size of the groups and then by their first path.
        They do not depend on the order of a table's rows.

    Raises:
        UserError: on a supervised configuration, without weights, or without usable clusters.
    """
    if not is_unsupervised(cfg):
        name = cfg.MODEL.META_ARCHITECTURE
        raise UserError(f"Expected a method that clusters, got MODEL.META_ARCHITECTURE {name}: use a run of another.")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.COMBINEALL, cfg.DATASETS.TESTS = True, ()
    check_data(cfg)
    images, model, features = encode(cfg, start)
    cameras = images.cameras if images.has_usable_cameras else None
    seed = derive_seed(cfg.SEED, 0, Stream.CLUSTERING)
    options = cfg.PSEUDO_LABELS
    pairs = local_pairs(cfg, images.img_items)
    with explain_cuda_oom():
        features = features.to(clustering_device(options, model.device))
        try:
            grouped = assign_labels(
                features, images.targets, cameras, options, model.refine_labels, seed, keys=images.keys, pairs=pairs
            )
        except NoClustersError as error:
            raise UserError(no_groups(len(images), error.reason, options)) from error
    return images.img_items, grouped._replace(labels=by_size(grouped.labels, [path for path, *_ in images.img_items]))


def no_groups(photographs: int, reason: str, options: CfgNode) -> str:
    """Explain why photographs form no groups; `options` is the PSEUDO_LABELS node."""
    other = "dbscan" if options.ALGORITHM == "hdbscan" else "hdbscan"
    return (
        f"No groups among {photographs} photographs: {reason}. A group is PSEUDO_LABELS.MIN_SAMPLES "
        f"{options.MIN_SAMPLES} photographs or more that are alike, and there must be two groups at least. Give more "
        f"photographs, or try PSEUDO_LABELS.MIN_SAMPLES 2 and PSEUDO_LABELS.K1 near the photographs of one animal (now "
        f"{options.K1}), or PSEUDO_LABELS.ALGORITHM {other}."
    )


def encode(cfg: CfgNode, start: bool = False) -> tuple[ReIDDataset, PseudoLabelMethod, Tensor]:
    """The training images of DATASETS.NAMES, the method with its weights, and the features (N, D) to cluster."""
    images = ReIDDataset(training_items(cfg), build_transforms(cfg, is_train=False))
    model = cast(PseudoLabelMethod, load_start_or_trained_model(cfg, start))
    loader = feature_loader(images, cfg.TEST.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS)
    return images, model, extract_test_features(model, loader)
