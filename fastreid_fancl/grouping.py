"""tools/group.py: which photographs show one animal, by trained weights."""

import argparse
import sys
from pathlib import Path

from fastreid.data.transforms import build_transforms

from .config import load_config
from .data.loaders import ReIDDataset, feature_loader
from .engine.hooks import extract_features
from .engine.labels import Labels, assign_labels, write_table
from .engine.seeds import derive
from .engine.trainer import check_data, is_unsupervised, training_items
from .visualize.origin import load_subject, run_config


def command_line(argv: list[str] | None = None) -> None:
    """Write the groups by the arguments; wrong input ends in its message without a traceback."""
    args = parser().parse_args(argv)
    try:
        cfg = run_config(args.run, args.opts) if args.run else load_config(args.config_file, args.opts)
        items, found = group(cfg)
        output = args.output or Path(cfg.OUTPUT_DIR, "groups.csv")
        output.parent.mkdir(parents=True, exist_ok=True)
        write_table(output, items, found.labels)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    radius = "" if found.eps is None else f", eps {found.eps:g}"
    left_out = int((found.labels < 0).sum())
    print(f"{len(items)} photographs, {found.labels.max() + 1} groups, {left_out} left out{radius}: {output}")


def parser() -> argparse.ArgumentParser:
    """The arguments of tools/group.py."""
    found = argparse.ArgumentParser(description="Group photographs by animal, with trained weights.")
    source = found.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", metavar="FILE", help="with MODEL.WEIGHTS FILE among the options")
    source.add_argument("--run", type=Path, metavar="FOLDER", help="of a run: its config.yaml and last checkpoint")
    found.add_argument("--output", type=Path, metavar="FILE", help="default: groups.csv in OUTPUT_DIR")
    found.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="settings, as for train_net.py")
    return found


def group(cfg) -> tuple[list[tuple[str, str, str]], Labels]:
    """All photographs of DATASETS.NAMES, of every split, clustered as at the beginning of an epoch.

    Returns:
        N items (path, pid, camid), and their labels.

    Raises:
        ValueError: of a supervised configuration, without weights, without usable clusters.
    """
    if not is_unsupervised(cfg):
        name = cfg.MODEL.META_ARCHITECTURE
        raise ValueError(f"Expected a method that clusters, got MODEL.META_ARCHITECTURE {name}: use a run of another.")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.COMBINEALL, cfg.DATASETS.TESTS = True, ()
    check_data(cfg)
    items, model = training_items(cfg), load_subject(cfg).model
    images = ReIDDataset(items, build_transforms(cfg, is_train=False))
    features = extract_features(model, feature_loader(images, cfg.TEST.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS))
    cameras = images.cameras if images.cameras_tell else None
    original = features["original"].to(model.device)
    seed = derive(cfg.SEED, 0, 2)
    return items, assign_labels(original, images.targets, cameras, cfg.PSEUDO_LABELS, model.refine_labels, seed)
