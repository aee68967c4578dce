"""A training step never waits for the device: what would wait on a GPU is looked for on the CPU."""

import contextlib
import os
import traceback
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from conftest import write_animals
from fastreid.utils.events import EventStorage
from support.runs import METHODS, configured
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastreid_fancl.engine.features import extract_features, send
from fastreid_fancl.engine.trainer import Trainer

aten = torch.ops.aten
# Their results have a size that the values decide, or are values themselves.
WAITING = {
    *(aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.nonzero, aten.masked_select, aten.bincount),
    *(aten._unique, aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.segment_reduce, aten.multinomial),
}
# They take a tensor to the host, or make one of what lies there.
TO_HOST = {torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}
FROM_HOST = {torch.tensor, torch.as_tensor, torch.from_numpy}
DRAWN = {torch.arange, torch.rand, torch.randn, torch.randint, torch.randperm, torch.zeros, torch.ones, torch.full}
# On a GPU it trusts its input.
TRUSTING = {F.one_hot}


class Watch:
    """While open, collects into `found` where a step would wait for a GPU.

    On a CPU all tensors lie on the host. Here those are of the host that a batch comes with or that are made without a
    `device`: they may be read, and may not meet tensors of the device, as which all others count.
    """

    def __init__(self):
        self.found: list[str] = []
        self.of_host: list[torch.Tensor] = []
        self.trusted = False

    def report(self, what: object) -> None:
        lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()]
        own = [line for line in lines if "/fastreid" in line or "optim" in line]
        self.found.append(f"{what} at {' < '.join(own[-3:][::-1])}")

    def is_host(self, value: object) -> bool:
        return any(value is known for known in self.of_host)

    @contextlib.contextmanager
    def open(self, batch: dict | None = None):
        self.of_host = [value for value in (batch or {}).values() if torch.is_tensor(value)]
        with Calls(self), Operations(self):
            yield self.found


class Calls(TorchFunctionMode):
    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, watch = kwargs or {}, self.watch
        to_host = function in TO_HOST or (function is torch.Tensor.to and "cpu" in (*args[1:], *kwargs.values()))
        from_host = function is torch.Tensor.to and not kwargs.get("non_blocking")
        if function in FROM_HOST or (from_host if watch.is_host(next(iter(args), None)) else to_host):
            watch.report(function.__name__)
        watch.trusted = function in TRUSTING
        result = function(*args, **kwargs)
        watch.trusted = False
        if function in DRAWN and kwargs.get("device") is None:
            watch.of_host.append(result)
        return result


class Operations(TorchDispatchMode):
    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs, packet, watch = kwargs or {}, operation.overloadpacket, self.watch
        tensors = [value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if torch.is_tensor(value)]
        of_host = [value for value in tensors if watch.is_host(value)]
        waits = packet in WAITING and len(of_host) < len(tensors)
        waits |= operation is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
        masks = args[1] if packet in (aten.index, aten.index_put, aten.index_put_) else ()
        waits |= any(mask is not None and mask.dtype in (torch.bool, torch.uint8) for mask in masks)
        waits |= 0 < len(of_host) < len(tensors) and any(value.dim() for value in of_host)
        if waits and not watch.trusted:
            watch.report(operation)
        return operation(*args, **kwargs)


def second_step(trainer: Trainer, watched: Callable) -> None:
    """Run two steps with their hooks, the second of them in `watched(batch)`; the batches have been loaded before."""
    loop = trainer._trainer
    with EventStorage() as trainer.storage:
        trainer.iter = trainer.start_iter = trainer.epoch = 0
        trainer.before_train()
        trainer.before_epoch()
        batches = [next(loop._data_loader_iter) for _ in range(2)]
        loop._data_loader_iter = iter(batches)
        for trainer.iter, around in enumerate((contextlib.nullcontext, watched)):
            with around(batches[trainer.iter]):
                trainer.before_step()
                trainer.run_step()
                trainer.after_step()
        trainer.after_train()


CASES = [
    *((method, {}) for method in METHODS),
    ("cluster_contrast", {"MEMORY__UPDATE": "hard"}),
    ("fancl", {"SOLVER__MICRO_BATCHES": 2, "MODEL__BATCHNORM_GROUPS": 2, "MODEL__PRECISION": "bfloat16"}),
    ("pplr", {"PPLR__AALS_EPOCH": 0}),
    ("resnet50", {"SOLVER__CLIP_GRADIENTS__ENABLED": True, "MODEL__LOSSES__CE__EPSILON": -1.0}),
    ("resnet50", {"SOLVER__FREEZE_ITERS": 2, "MODEL__FREEZE_LAYERS": "('backbone',)", "SOLVER__WARMUP_ITERS": 5}),
    ("pcb", {"PARTS__REFINED": True}),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *case[1]]))
def trainer_of(request, tmp_path, monkeypatch):
    """A trainer of one case, by the device, on images whose cameras are known."""
    write_animals(tmp_path / "Stripes", identity=lambda number: number // 6, cameras=2)
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path))
    (tmp_path / "run").mkdir()
    method, changes = request.param
    return lambda device: Trainer(
        configured(method, tmp_path / "run", MODEL__DEVICE=device, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=0, **changes)
    )


def test_a_step_does_nothing_that_waits_on_a_gpu(trainer_of):
    watch = Watch()
    second_step(trainer_of("cpu"), watch.open)
    assert watch.found == []


@contextlib.contextmanager
def waiting_raises(batch):
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_a_step_on_a_gpu_does_not_wait_for_it(trainer_of):
    second_step(trainer_of("cuda"), waiting_raises)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.sum() > 0),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: x[x > 1],
        lambda x: x.masked_fill(x > 1, 0).nonzero(),
        lambda x: torch.where(x > 1),
        lambda x: x.unique(),
        lambda x: x.repeat_interleave(x.long()),
        lambda x: torch.equal(x, x),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
        lambda x: x[torch.arange(2)],
        lambda x: torch.ones(3).to(x.device),
        lambda x: x.index_put_((x > 1,), x.new_zeros(())),
    ],
)
def test_what_waits_is_seen(wait):
    x = torch.tensor([1.0, 2.0, 3.0])
    with Watch().open() as found:
        wait(x)
    assert found


def test_what_does_not_wait_is_not_reported():
    x = torch.tensor([1.0, 2.0, 3.0])
    with Watch().open() as found:
        int(torch.randint(5, ()))
        x + torch.arange(3, device=x.device)
        x[torch.arange(3, device=x.device)].masked_fill(x > 1, 0)
        torch.ones(3).to(x.device, copy=True, non_blocking=True).double() + x.to(x.device)
        F.one_hot(x.long(), 4)
    assert found == []


def test_the_features_of_a_batch_are_waited_for_when_the_next_is_under_way(monkeypatch):
    events = []

    class Method(torch.nn.Module):
        device = torch.device("cpu")

        def cluster_features(self, batch):
            events.append(f"begins {int(batch['images'][0])}")
            return {"original": batch["images"] + 10}

    def telling(features):
        arrived, number = send(features), int(features["original"][0]) - 10
        return lambda: events.append(f"waits {number}") or arrived()

    monkeypatch.setattr("fastreid_fancl.engine.features.send", telling)
    features = extract_features(Method(), [{"images": torch.full((2,), number)} for number in range(3)])
    assert features["original"].tolist() == [10, 10, 11, 11, 12, 12]
    assert events == ["begins 0", "begins 1", "waits 0", "begins 2", "waits 1", "waits 2"]


@pytest.mark.cuda
def test_features_of_a_gpu_arrive_whole_and_without_pinned_memory():
    values = torch.rand(4000, 2048, device="cuda")
    arrived = send({"original": values})()["original"]
    assert torch.equal(arrived, values.cpu())
    assert not arrived.is_pinned()
