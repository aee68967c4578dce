"""Items of benchmarks/gpu.py that run whole trainings: resumed, planned, distributed, by the paper's schedule."""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import fastreid_fancl  # noqa: F401 (fixes fast-reid before it is imported)

# isort: split
import numpy as np
import torch
import torch.multiprocessing as mp
from clocks import timed
from fastreid.utils import comm
from gpu_items import ROOT, configuration, keys_of, opts, speed_up
from gpu_plan import Report, Setting
from plan import planned as read_plan

from fastreid_fancl import clustering
from fastreid_fancl.compat.launch import distributed_worker
from fastreid_fancl.engine.estimate import clustered, estimate_run
from fastreid_fancl.engine.labels import distance_options, distance_together
from fastreid_fancl.engine.run import command_line, evaluate
from fastreid_fancl.engine.trainer import Trainer, check_data
from fastreid_fancl.processes import choose_backend
from fastreid_fancl.runs.read import read_epochs

PAPER_EPOCHS = 60


def train(file: str, keys: dict[str, object], *flags: str) -> None:
    """Train in this process as tools/train_net.py does."""
    command_line(["--config-file", str(ROOT / "configs" / file), *flags, *opts(keys)])


def in_own_process(function: Callable, *args):
    """Call a function in a new process, so that its peak memory is only its own, and return its result."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(function, *args).result()


def data(report: Report, setting: Setting) -> None:
    """Draw, check and decode the photographs that the next items read."""
    began = time.perf_counter()
    cfg = configuration("Synthetic/fancl.yml", keys_of(setting))
    check_data(cfg)
    report("drawn and checked", time.perf_counter() - began, "s")
    began = time.perf_counter()
    loader = Trainer.build_train_loader(cfg)
    Trainer.build_test_loader(cfg, cfg.DATASETS.TESTS[0])
    report("decoded", time.perf_counter() - began, "s", f"{len(loader.dataset)} training images")


def resume(report: Report, setting: Setting) -> None:
    """Compare the weights of a run of 2 epochs with those of the same run repeated, and of one resumed after 1 epoch.

    Labels are the true ones, so that no clustering makes small differences large.
    """
    iterations = 2 if setting.rehearsal else 8
    keys = keys_of(setting, DATASETS__TESTS="()", PSEUDO_LABELS__ALGORITHM="oracle", SOLVER__ITERS_PER_EPOCH=iterations)
    keys |= {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.MAX_EPOCH": 2}
    runs = {name: {"OUTPUT_DIR": f"{setting.scratch}/{name}"} for name in ("whole", "again", "parts")}
    train("Synthetic/fancl.yml", keys | runs["whole"])
    train("Synthetic/fancl.yml", keys | runs["again"])
    train("Synthetic/fancl.yml", keys | runs["parts"] | {"SOLVER.MAX_EPOCH": 1})
    train("Synthetic/fancl.yml", keys | runs["parts"], "--resume")
    whole, again, parts = (weights(f"{run['OUTPUT_DIR']}/model_final.pth") for run in runs.values())
    compare(report, "run repeated", whole, again)
    compare(report, "run resumed", whole, parts)


def weights(path: str) -> dict[str, torch.Tensor]:
    """Read the model's weights from a checkpoint."""
    return torch.load(path, map_location="cpu", weights_only=True)["model"]


def compare(report: Report, what: str, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    """Report the largest difference of two models' weights."""
    differences = {name: (expected[name].double() - found[name].double()).abs().max().item() for name in expected}
    name = max(differences, key=differences.get)
    report(what, differences[name], "largest difference", f"in {name}" if differences[name] else "bit-identical")


def plan_and_run(report: Report, setting: Setting, method: str) -> None:
    """Compare the seconds and the GPU memory that --plan expects with those of the run."""
    file = f"Synthetic/{method}.yml"
    keys = keys_of(setting, SOLVER__MAX_EPOCH=2, SOLVER__STEPS="[1]", TEST__EVAL_PERIOD=2, DATASETS__TESTS="()")
    keys |= {"SOLVER.ITERS_PER_EPOCH": 2} if setting.rehearsal else {}
    expected, found = in_own_process(expected_usage, file, keys), in_own_process(actual_usage, file, keys)
    for what, unit in (("GPU memory", "GiB"), ("phases", "s")):
        planned, actual = expected[what], found[what]
        note = "" if setting.gpus or what == "phases" else "needs CUDA"
        report(f"{what}, planned", planned, unit, note)
        report(f"{what}, actual", actual, unit, f"{actual / planned:.2f} of the plan" if planned and actual else note)


def expected_usage(file: str, keys: dict[str, object]) -> dict[str, float | None]:
    """Return the GiB of GPU memory and the seconds of all phases, without checkpoints, that a plan expects."""
    expected = read_plan(str(estimate_run(configuration(file, keys))))
    phases = ("features, s", "clustering, s", "memory, s", "training, s")
    return {"GPU memory": expected.get("GPU memory, GiB"), "phases": sum(expected.get(phase, 0) for phase in phases)}


def actual_usage(file: str, keys: dict[str, object]) -> dict[str, float | None]:
    """Train and return what `expected_usage` expects."""
    train(file, keys)
    epochs = read_epochs(Path(keys["OUTPUT_DIR"]))
    on_gpu = keys["MODEL.DEVICE"] == "cuda"
    seconds = sum(sum(epoch.seconds.values()) for epoch in epochs)
    return {"GPU memory": max(epoch.peak_memory for epoch in epochs) if on_gpu else None, "phases": seconds}


def one_rank(report: Report, setting: Setting) -> None:
    """Train as the only process of a torchrun job, with NCCL on a GPU."""
    variables = {"TORCHELASTIC_RUN_ID": "gpu", "WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    variables |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    os.environ.update({name: str(value) for name, value in variables.items()})
    keys = keys_of(setting, DATASETS__TESTS="()", SOLVER__MAX_EPOCH=1, SOLVER__ITERS_PER_EPOCH=4, SOLVER__STEPS="[1]")
    train("Synthetic/fancl.yml", keys | {"PSEUDO_LABELS.ALGORITHM": "oracle"})
    report("trained", 1, "epoch", "NCCL" if setting.gpus else "gloo")


def free_port() -> int:
    """Return a free TCP port of this machine."""
    return sys.modules["fastreid.engine.launch"]._find_free_port()


def two_ranks(report: Report, setting: Setting) -> None:
    """Compare Jaccard distances that two processes share, with a GPU each, with those of one process."""
    rows = 500 if setting.rehearsal else 100_000
    choose_backend(setting.device)
    results = mp.get_context("fork").SimpleQueue()
    url, args = f"tcp://127.0.0.1:{free_port()}", (rows, 2048, setting, results)
    # This process may fork: it has not initialised CUDA.
    mp.start_processes(distributed_worker, (shared_and_alone, 2, 2, 0, url, args), nprocs=2, start_method="fork")
    alone, shared, equal = results.get()
    report("distances alone and shared", equal, "share equal")
    speed_up(report, setting, "clustering shared by two processes", shared, alone)


def shared_and_alone(rows: int, dimensions: int, setting: Setting, results) -> None:
    """Compute the distances together, then all of them on the first process."""
    device = torch.device(setting.device, comm.get_local_rank()) if setting.gpus else torch.device("cpu")
    options = configuration("Synthetic/fancl.yml", keys_of(setting)).PSEUDO_LABELS
    features = clustered(rows, dimensions, 0).to(device)
    distance_together(features[:500], options)  # compiles
    shared, together = timed(lambda: distance_together(features, options), device)
    if comm.is_main_process():
        alone, own = timed(lambda: clustering.jaccard_distance(features, **distance_options(options)), device)
        results.put((alone, shared, float(np.isclose(own.data, together.data).mean())))
    comm.synchronize()


def schedule(report: Report, setting: Setting, method: str, share: float) -> None:
    """Train on drawn pandas from ImageNet weights by the paper's schedule, in as many epochs as fit.

    Args:
        method: a file of configs/Photographs.
        share: part of the remaining time for the training.
    """
    file, began = f"Photographs/{method}.yml", time.perf_counter()
    keys = keys_of(setting, tiny_encoder=False, MODEL__BACKBONE__PRETRAIN=True)
    keys |= {"SOLVER.ITERS_PER_EPOCH": 1} if setting.rehearsal else {}
    report_scores(report, "at the start", evaluate(configuration(file, keys)))
    planned = read_plan(str(estimate_run(configuration(file, keys | epochs_of(PAPER_EPOCHS)))))["the run, s"]
    left = share * (setting.seconds - (time.perf_counter() - began))
    epochs = 3 if setting.rehearsal else max(3, min(PAPER_EPOCHS, int(PAPER_EPOCHS * left / planned)))
    report("epochs", epochs, f"of {PAPER_EPOCHS}", f"planned: {planned:.0f} s for all")
    train(file, keys | epochs_of(epochs))
    found = read_epochs(Path(setting.scratch))
    seconds = sum(sum(epoch.seconds.values()) for epoch in found) / len(found)
    last = ", ".join(f"{phase} {taken:.3g}" for phase, taken in found[-1].seconds.items())
    report("seconds per epoch", seconds, "s", f"the last: {last}")
    report_scores(report, "at the end", found[-1].scores)
    report("clusters", found[-1].clustering.get("clusters"))


def epochs_of(number: int) -> dict[str, object]:
    """Keys of the paper's schedule in this number of epochs, with one evaluation and one checkpoint at the end."""
    keys = {"SOLVER.MAX_EPOCH": number, "SOLVER.STEPS": [number // 3, 2 * number // 3]}
    return keys | {"TEST.EVAL_PERIOD": number, "SOLVER.CHECKPOINT_PERIOD": number}


def report_scores(report: Report, when: str, found: dict) -> None:
    """Report mAP and Rank-1."""
    for name in ("mAP", "Rank-1"):
        report(f"{name} {when}", found.get(name), "%")
