"""fast-reid's trainer, extended for unsupervised, resumable and reproducible training."""

import copy
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch
from fastreid.data import build_reid_test_loader
from fastreid.data.datasets.bases import ImageDataset
from fastreid.data.transforms import build_transforms
from fastreid.engine import DefaultTrainer, hooks
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils import comm
from torch import nn

from ..backbones.probe import encode_blank
from ..batchnorm import rows_checked, set_batchnorm_mode, virtual_groups
from ..config.access import value_of
from ..data.cache import image_reader
from ..data.check import check_items, preflight, require_identities
from ..data.datasets import load
from ..data.duplicates import warn_of_copies_in_test
from ..data.loaders import ReIDDataset
from ..data.transforms import train_transforms
from ..errors import UserError
from ..methods import PseudoLabelMethod
from ..progress import ShownLoader
from ..runs.read import is_transductive, last_checkpoint
from ..weights import fresh_parts
from .console import EpochLine, TrainingProgress, describe_test, describe_training
from .evaluation import ProtocolEvaluator, check_protocols, protocol
from .hooks import EpochSeed, IdentityBatches, MeanStatistics, PhaseSeconds, identity_batches
from .label_free_score import LabelFreeScore
from .loader import EpochLoader
from .pseudo_labels import PseudoLabels
from .record import RunRecord
from .starts import seen_whole, start_of, warning_of_freeze, warning_of_start, without_pretraining
from .throughput import BackboneOptions, accelerate, backbones, fuse, lay_out, lay_out_state

logger = logging.getLogger(__name__)
TRANSDUCTIVE = (
    "TRANSDUCTIVE: the scores are of the photographs that were trained on, not of unseen animals; compare them with "
    "transductive scores only."
)


def scores_groups(cfg) -> bool:
    """Whether a run scores its groups without labels, as it has no test."""
    return not cfg.DATASETS.TESTS and is_unsupervised(cfg) and cfg.PSEUDO_LABELS.ALGORITHM != "oracle"


def is_unsupervised(cfg) -> bool:
    """Whether MODEL.META_ARCHITECTURE learns from pseudo-labels."""
    return issubclass(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), PseudoLabelMethod)


def check_data(cfg, train: bool = True) -> None:
    """Check all data that the run will need, and read every image once.

    Raises:
        UserError: on unreadable images (unless DATASETS.ON_BAD_IMAGE is "skip"), empty splits, missing identities,
            identities and cameras of mixed types.
    """
    if train and not cfg.DATASETS.NAMES:
        raise UserError("DATASETS.NAMES is empty: name a data set to train on.")
    scored = [] if cfg.TEST.TRANSDUCTIVE else [load(name) for name in cfg.DATASETS.TESTS]
    wanted = [(dataset, ("query", "gallery")) for dataset in scored]
    wanted += training_splits(cfg) if train or cfg.TEST.TRANSDUCTIVE else []
    preflight(wanted, on_bad_image=cfg.DATASETS.ON_BAD_IMAGE)
    check_protocols(cfg)
    if train:
        items = training_items(cfg)
        check_items(items, relabel=True)
        logger.info(describe_training(cfg.DATASETS.NAMES, items))
    for name in cfg.DATASETS.TESTS:
        test = protocol(cfg, name)
        if cfg.TEST.TRANSDUCTIVE:  # `preflight` saw these photographs as training data
            warn_of_copies_in_test(name, test.query, test.gallery)
        check_items(test.photographs, relabel=False)
        logger.info(describe_test(cfg, name))
    if train and not is_unsupervised(cfg):
        for name in cfg.DATASETS.NAMES:
            require_identities(load(name))


def training_splits(cfg) -> list[tuple[ImageDataset, tuple[str]]]:
    """The splits that `training_items` come from, for `preflight`; each alone, as no query needs a match here."""
    datasets = [load(name) for name in cfg.DATASETS.NAMES]
    tests = ("query", "gallery") if cfg.DATASETS.COMBINEALL else ()
    wanted = [(dataset, ("train",)) for dataset in datasets]
    return wanted + [(dataset, (split,)) for dataset in datasets for split in tests if getattr(dataset, split)]


def training_items(cfg) -> list[tuple[str, str, str]]:
    """(path, pid, camid) of the training images of DATASETS.NAMES; with COMBINEALL also of query and gallery."""
    datasets = [copy.copy(load(name)) for name in cfg.DATASETS.NAMES]
    if cfg.DATASETS.COMBINEALL:
        for dataset in datasets:
            dataset.combine_all()
    return [item for dataset in datasets for item in dataset.train]


def share_of_batch(cfg, key: str) -> int:
    """The number of images in each of the equal parts into which `key` divides a process's batch.

    Raises:
        UserError: if the batch cannot be divided so.
    """
    batch, parts = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(), value_of(cfg, key)
    if batch % parts:
        raise UserError(
            f"Expected {key} {parts} to divide the {batch} images of SOLVER.IMS_PER_BATCH that each process takes."
        )
    return batch // parts


def check_state(optimizer: torch.optim.Optimizer) -> None:
    """Raise UserError if the restored state has other shapes than the weights: a fused step would write past them."""
    for parameter, state in optimizer.state.items():
        wrong = [v for v in state.values() if torch.is_tensor(v) and v.dim() and v.shape != parameter.shape]
        if wrong:
            raise UserError(
                f"The checkpoint's optimiser has {wrong[0].numel()} weights, the model {parameter.numel()}: it is of "
                "another model, or of another number of identities. Resume with the same configuration and images, or "
                "start again without --resume."
            )


class Trainer(DefaultTrainer):
    """`DefaultTrainer` whose every epoch is a function of the weights, the seed and the epoch's number.

    A hook makes the batches of an epoch, and the labels of pseudo-label methods, before the epoch begins.

    Attributes:
        begin: called when all checks have passed; only then may the run write to OUTPUT_DIR.
    """

    begin: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, cfg, resume: bool = False):
        """Build what the training needs.

        Args:
            cfg: the configuration.
            resume: whether `resume_or_load` will continue from OUTPUT_DIR's last checkpoint, if there is one.
        """
        from_file = cfg.MODEL.WEIGHTS or resume and last_checkpoint(Path(cfg.OUTPUT_DIR))
        super().__init__(without_pretraining(cfg) if from_file else cfg)

    @classmethod
    def build_model(cls, cfg) -> nn.Module:
        """Build fast-reid's model and make it run as this package's keys in MODEL and SOLVER say.

        Raises:
            UserError: if MODEL.BATCHNORM_GROUPS or SOLVER.MICRO_BATCHES do not fit the batch or the backbone.
        """
        model = super().build_model(cfg)
        for backbone in backbones(model):
            set_batchnorm_mode(backbone, cfg.MODEL.BACKBONE.BATCHNORM, fresh_parts(backbone, ()))
        group, _ = (share_of_batch(cfg, key) for key in ("MODEL.BATCHNORM_GROUPS", "SOLVER.MICRO_BATCHES"))
        if cfg.MODEL.BATCHNORM_GROUPS > 1:
            for backbone in backbones(model):
                with rows_checked(backbone, images=2):
                    encode_blank(backbone, tuple(cfg.INPUT.SIZE_TRAIN), images=2)
            virtual_groups(model, group)
        options = BackboneOptions(cfg.MODEL.PRECISION, cfg.MODEL.CHANNELS_LAST, cfg.SOLVER.MICRO_BATCHES)
        return accelerate(model, options)

    @classmethod
    def build_optimizer(cls, cfg, model: nn.Module):
        """fast-reid's optimiser and parameters, in the order of MODEL.CHANNELS_LAST; one kernel with SOLVER.FUSED."""
        optimizer, params = super().build_optimizer(cfg, model)
        lay_out(model, optimizer, cfg.MODEL.CHANNELS_LAST)
        if cfg.SOLVER.FUSED:
            fuse(optimizer)
        return optimizer, params

    @classmethod
    def build_train_loader(cls, cfg) -> EpochLoader:
        """The training set in a loader that a hook fills with the batches of each epoch."""
        transforms = {"train": train_transforms(cfg), "test": build_transforms(cfg, is_train=False)}
        wanted = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE).VIEWS if is_unsupervised(cfg) else {}
        views = {name: transforms[kind] for name, kind in wanted.items()}
        items = training_items(cfg)
        read = image_reader((path for path, *_ in items), list(transforms.values()), cfg.DATALOADER.CACHE_GIB)
        loader = EpochLoader(ReIDDataset(items, transforms["train"], views=views, read=read), cfg)
        if cfg.TEST.PRECISE_BN.ENABLED and not is_unsupervised(cfg):
            # The stock hook reads such a loader outside the epochs.
            loader.start(identity_batches(loader.dataset.targets, cfg, cfg.TEST.PRECISE_BN.NUM_ITER, epoch=0), epoch=0)
        return loader

    @classmethod
    def build_test_loader(cls, cfg, dataset_name: str):
        """fast-reid's loader over the test's usable photographs, each once."""
        test, transform = protocol(cfg, dataset_name), build_transforms(cfg, is_train=False)
        items = test.photographs
        read = image_reader((path for path, *_ in items), [transform], cfg.DATALOADER.CACHE_GIB)
        images = ReIDDataset(items, transform, relabel=False, read=read)
        return build_reid_test_loader(
            images, cfg.TEST.IMS_PER_BATCH, len(test.query), num_workers=cfg.DATALOADER.NUM_WORKERS
        )

    @classmethod
    def build_evaluator(cls, cfg, dataset_name: str, output_dir: str | None = None):
        """The test loader, and an evaluator that also writes queries.csv (one per data set if there are several)."""
        loader, _ = cls.build_test_loader(cfg, dataset_name)
        own = "" if len(cfg.DATASETS.TESTS) == 1 else "_" + dataset_name.replace("/", "_")
        path = os.path.join(output_dir or cfg.OUTPUT_DIR, f"queries{own}.csv")
        if is_transductive(cfg, dataset_name, seen_whole(cfg.MODEL)):
            logger.warning(TRANSDUCTIVE)
        evaluator = ProtocolEvaluator(cfg, protocol(cfg, dataset_name), path)
        return ShownLoader(loader, f"Testing on {dataset_name}"), evaluator

    def build_lr_scheduler(self, cfg, optimizer, iters_per_epoch):
        # fast-reid makes an epoch one pass over the images; this is where it uses the number of iterations.
        self.iters_per_epoch = cfg.SOLVER.ITERS_PER_EPOCH or max(1, iters_per_epoch)
        return super().build_lr_scheduler(cfg, optimizer, self.iters_per_epoch)

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the checkpoint to resume from, or the starting weights, and log which.

        Raises:
            UserError: if only some of the processes see the checkpoint, if it is of another model, or if the processes
                would train in different precisions.
        """
        super().resume_or_load(resume)
        logger.info("Training %s.", start_of(self.cfg, self.start_epoch))
        start = warning_of_start(self.cfg, self.start_epoch, is_unsupervised(self.cfg))
        for warning in filter(None, (start, warning_of_freeze(self.cfg, self.iters_per_epoch))):
            logger.warning(warning)
        check_state(self.optimizer)
        lay_out_state(self.model, self.optimizer)
        epochs = comm.all_gather(self.start_epoch)
        if len(set(epochs)) > 1:
            raise UserError(
                f"Expected all processes to resume from one checkpoint, but they would start at the epochs {epochs}: "
                f"let the machines share OUTPUT_DIR {self.cfg.OUTPUT_DIR}."
            )
        precisions = comm.all_gather(self.cfg.MODEL.PRECISION)
        if len(set(precisions)) > 1:
            raise UserError(
                f"Expected one MODEL.PRECISION, but auto gives the processes {precisions}: set it to float32."
            )

    def build_hooks(self) -> list[hooks.HookBase]:
        """fast-reid's hooks, after those that prepare an epoch, with clocks and the run's record among them."""
        batches = PseudoLabels(self.cfg) if is_unsupervised(self.cfg) else IdentityBatches(self.cfg)
        training = PhaseSeconds("training")
        stock = super().build_hooks()
        evaluation = next(n for n, hook in enumerate(stock) if isinstance(hook, hooks.EvalHook))
        if scores_groups(self.cfg):
            self._last_eval_results = {}  # which `train` returns: a label-free score is no evaluation
            stock[evaluation] = hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, LabelFreeScore(self.cfg, batches))
        begin = hooks.CallbackHook(before_train=lambda trainer: trainer.begin())
        stock[evaluation + 1 : evaluation + 1] = [
            PhaseSeconds("evaluation", after=training),
            EpochLine(),
            begin,  # hooks before it may refuse to train; hooks after it write
            RunRecord(self.cfg.OUTPUT_DIR, seen_whole(self.cfg.MODEL)),
        ]
        return [EpochSeed(self.cfg.SEED), batches, training, TrainingProgress(), MeanStatistics(), *stock]
