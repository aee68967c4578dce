"""fast-reid's stock trainer with what unsupervised, resumable and reproducible training adds to it."""

import json
import logging
import os

from fastreid.data.transforms import build_transforms
from fastreid.engine import DefaultTrainer, hooks
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils import comm

from ..data.loaders import ReIDDataset
from ..data.training import training_items
from ..methods import PseudoLabelMethod
from .hooks import EpochSeed, IdentityBatches, PhaseSeconds, PseudoLabels, identity_batches
from .loader import EpochLoader

logger = logging.getLogger(__name__)


def is_unsupervised(cfg) -> bool:
    """Whether MODEL.META_ARCHITECTURE learns from pseudo-labels."""
    return issubclass(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), PseudoLabelMethod)


class Trainer(DefaultTrainer):
    """`DefaultTrainer` whose every epoch is a function of the weights, the seed and the epoch's number.

    The batches of an epoch, and for pseudo-label methods the labels, are made by a hook before it.
    """

    @classmethod
    def build_train_loader(cls, cfg) -> EpochLoader:
        """The training set behind an iterator that a hook fills epoch by epoch.

        Raises:
            ValueError: on unreadable images or a data set that cannot train this method.
        """
        unsupervised = is_unsupervised(cfg)
        items = training_items(cfg, labelled=not unsupervised)
        loader = EpochLoader(ReIDDataset(items, build_transforms(cfg, is_train=True)), cfg)
        if not unsupervised and cfg.TEST.PRECISE_BN.ENABLED:
            # The stock hook reads such a loader outside the epochs.
            loader.start(identity_batches(loader.dataset.targets, cfg, cfg.TEST.PRECISE_BN.NUM_ITER, epoch=0), epoch=0)
        return loader

    def build_lr_scheduler(self, cfg, optimizer, iters_per_epoch):
        # The stock engine knows only one pass an epoch; this is where it asks for what depends on that number.
        self.iters_per_epoch = cfg.SOLVER.ITERS_PER_EPOCH or max(1, iters_per_epoch)
        return super().build_lr_scheduler(cfg, optimizer, self.iters_per_epoch)

    def build_hooks(self) -> list[hooks.HookBase]:
        """The stock hooks after those that begin an epoch, and the clocks of training and evaluation."""
        batches = PseudoLabels(self.cfg) if is_unsupervised(self.cfg) else IdentityBatches(self.cfg)
        training = PhaseSeconds("training")
        stock = super().build_hooks()
        after_evaluation = 1 + next(n for n, hook in enumerate(stock) if isinstance(hook, hooks.EvalHook))
        stock.insert(after_evaluation, PhaseSeconds("evaluation", after=training))
        return [EpochSeed(self.cfg.SEED), batches, training, *stock]

    def register_hooks(self, hook_list: list) -> None:
        """Also put what resuming needs, the best metric and the gradient scale, into the checkpoints."""
        super().register_hooks(hook_list)
        states = {"best": next((h for h in hook_list if isinstance(h, hooks.PeriodicCheckpointer)), None)}
        states["grad_scaler"] = self.grad_scaler
        self.checkpointer.checkpointables.update({name: state for name, state in states.items() if state is not None})

    def resume_or_load(self, resume: bool = True) -> None:
        """Load MODEL.WEIGHTS, or with `resume` the last checkpoint, and then forget what was logged after it."""
        super().resume_or_load(resume)
        if resume and comm.is_main_process():
            first = self.start_epoch * self.iters_per_epoch
            forget_metrics(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json"), first)


def forget_metrics(path: str, first_iteration: int) -> None:
    """Cut metrics.json before the first line of `first_iteration` or later: a resumed run writes these again.

    The file is cut in place because its writer holds it open. A last line broken by a crash goes as well.
    """
    if not os.path.exists(path):
        return
    kept = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                if json.loads(line)["iteration"] >= first_iteration:
                    break
            except ValueError:
                break
            kept += len(line)
    os.truncate(path, kept)
