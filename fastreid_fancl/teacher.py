"""A mean teacher: a second encoder whose weights are the exponential moving average (EMA) of the first one's."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .memory import check_momentum


class MeanTeacher(nn.Module):
    """A gradient-free copy of trained modules (Mean Teacher, Tarvainen and Valpola, NeurIPS 2017; MoCo).

    Only parameters are averaged. As in the released code of ICE, the running statistics of BatchNorm come from what the
    teacher itself sees in training: averaged statistics would fit the activations of neither network.
    """

    def __init__(self, momentum: float, **modules: nn.Module):
        """Copy the modules of the student.

        Args:
            momentum: alpha, the weight of the old teacher.
            **modules: the student's modules, under the names that they have in the student.

        Raises:
            ValueError: if the momentum is outside [0, 1].
        """
        super().__init__()
        check_momentum(momentum, "a teacher's momentum")
        self.average = get_ema_multi_avg_fn(momentum)
        for name, module in modules.items():
            self.add_module(name, copy.deepcopy(module))
        self.requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Average: theta_T <- alpha theta_T + (1 - alpha) theta, theta the student's parameters of the same names."""
        names, own = zip(*self.named_parameters(), strict=True)
        self.average(own, [student.get_parameter(name) for name in names], None)
