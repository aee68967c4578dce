"""A second encoder that follows the first as a running mean."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .memory import check_momentum


class MeanTeacher(nn.Module):
    """A copy, without gradients, of modules that are trained (Mean Teacher, Tarvainen and Valpola, NeurIPS 2017; MoCo).

    Only parameters are averaged. BatchNorm's running statistics are the teacher's own, of what it sees when training,
    as in the released code of ICE: a mean of statistics would belong to no network's activations.
    """

    def __init__(self, momentum: float, **modules: nn.Module):
        """
        Args:
            momentum: alpha, the share of the old teacher that stays.
            **modules: the student's, by the names that they have there.

        Raises:
            ValueError: on a momentum outside [0, 1].
        """
        super().__init__()
        check_momentum(momentum, "a teacher's momentum")
        self.average = get_ema_multi_avg_fn(momentum)
        for name, module in modules.items():
            self.add_module(name, copy.deepcopy(module))
        self.requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """theta_T <- alpha theta_T + (1 - alpha) theta, with the parameters of the same names of `student`."""
        names, own = zip(*self.named_parameters(), strict=True)
        self.average(own, [student.get_parameter(name) for name in names], None)
