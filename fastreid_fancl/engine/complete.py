"""Weights that must hold all that a feature is made of: what else would be evaluated or drawn is in part random."""

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import nn


def input_size(cfg) -> tuple[int, int]:
    """(H, W) in pixels of what the network is given at test time."""
    size = cfg.INPUT.CROP.SIZE if cfg.INPUT.CROP.ENABLED else cfg.INPUT.SIZE_TEST
    return size[0], size[-1]


@torch.no_grad()
def modules_run(model: nn.Module, size: tuple[int, int]) -> list[str]:
    """The names of the modules that take part in the test-time feature, in the order in which they finish."""
    names: dict[str, None] = {}
    handles = [
        module.register_forward_hook(lambda *_, name=name: names.setdefault(name))
        for name, module in model.named_modules()
    ]
    model({"images": torch.zeros(1, 3, *size)})
    for handle in handles:
        handle.remove()
    return list(names)


class CompleteCheckpointer(Checkpointer):
    """Refuses weights that lack any of the modules needed; the stock one leaves those as they were built."""

    def __init__(self, model: nn.Module, needed: list[str]):
        super().__init__(model)
        self.needed = set(needed)

    def _log_incompatible_keys(self, incompatible) -> None:
        built = {key: shape for key, _, shape in incompatible.incorrect_shapes}
        # Classifiers are built for no classes here, and counters of batches came with PyTorch 0.4.
        excused = {key for key, shape in built.items() if 0 in shape}
        lost = [
            key
            for key in dict.fromkeys([*incompatible.missing_keys, *built])
            if key.rpartition(".")[0] in self.needed and key not in excused and "num_batches" not in key
        ]
        if lost:
            raise ValueError(
                f"{self._path} does not fit {type(self.model).__name__}: {len(lost)} weights of the test-time feature "
                f"are missing or of another shape, such as {lost[0]}.{self._other} Check MODEL.META_ARCHITECTURE, "
                "MODEL.BACKBONE and MODEL.HEADS, or take the run's own configuration by --run."
            )
        self._require_same_network()
