"""Items of benchmarks/gpu.py that are whole runs: resumed, planned, of several processes, by the paper's schedule."""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import fastreid_fancl  # noqa: F401 (mends fast-reid before it is imported)

# isort: split
import numpy as np
import torch
import torch.multiprocessing as mp
import yaml
from fastreid.utils import comm
from gpu_items import ROOT, configuration, keys_of, timed, verdict, words
from gpu_plan import Report, Setting
from plan import planned as read_plan

from fastreid_fancl import clustering, compat
from fastreid_fancl.compat.launch import distributed_worker
from fastreid_fancl.engine.labels import distance_options, distance_together
from fastreid_fancl.engine.plan import clustered, plan
from fastreid_fancl.engine.run import command_line, evaluate
from fastreid_fancl.engine.trainer import Trainer, check_data
from fastreid_fancl.report.runs import read_epochs

# A schedule's encoder is that of its file.
OF_FILE = ("MODEL.BACKBONE.NAME", "MODEL.BACKBONE.DEPTH", "MODEL.BACKBONE.FEAT_DIM", "FANA.LAYER")
PAPER = 60  # epochs, with lower learning rates after a third and two thirds


def train(file: str, keys: dict[str, object], *flags: str) -> None:
    """A run of tools/train_net.py in this process."""
    command_line(["--config-file", str(ROOT / "configs" / file), *flags, *words(keys)])


def apart(function: Callable, *args):
    """What a function returns, from a process of its own: its memory and its GPU are not this one's."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(function, *args).result()


def data(report: Report, setting: Setting) -> None:
    """Draw, check and decode what the next items read."""
    began = time.perf_counter()
    cfg = configuration("Synthetic/fancl.yml", keys_of(setting))
    check_data(cfg)
    report("drawn and checked", time.perf_counter() - began, "s")
    began = time.perf_counter()
    loader = Trainer.build_train_loader(cfg)
    Trainer.build_test_loader(cfg, cfg.DATASETS.TESTS[0])
    report("decoded", time.perf_counter() - began, "s", f"{len(loader.dataset)} training images")


def resume(report: Report, setting: Setting) -> None:
    """Weights after 2 epochs, after 2 again, and after 1 and another resumed one, on the true labels."""
    iterations = 2 if setting.rehearsal else 8
    keys = keys_of(setting, DATASETS__TESTS="()", PSEUDO_LABELS__ALGORITHM="oracle", SOLVER__ITERS_PER_EPOCH=iterations)
    keys |= {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.MAX_EPOCH": 2}
    runs = {name: {"OUTPUT_DIR": f"{setting.scratch}/{name}"} for name in ("whole", "again", "parts")}
    train("Synthetic/fancl.yml", keys | runs["whole"])
    train("Synthetic/fancl.yml", keys | runs["again"])
    train("Synthetic/fancl.yml", keys | runs["parts"] | {"SOLVER.MAX_EPOCH": 1})
    train("Synthetic/fancl.yml", keys | runs["parts"], "--resume")
    whole, again, parts = (weights(f"{run['OUTPUT_DIR']}/model_final.pth") for run in runs.values())
    compare(report, "the same run again", whole, again)
    compare(report, "1 epoch and a resumed one", whole, parts)


def weights(path: str) -> dict[str, torch.Tensor]:
    """Of a checkpoint's model."""
    return torch.load(path, map_location="cpu", weights_only=True)["model"]


def compare(report: Report, what: str, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    """Report the largest difference of two models' weights."""
    differences = {name: (expected[name].double() - found[name].double()).abs().max().item() for name in expected}
    name = max(differences, key=differences.get)
    report(what, differences[name], "largest difference", f"in {name}" if differences[name] else "equal to the bit")


def planned(report: Report, setting: Setting, method: str) -> None:
    """What --plan says beside what the run takes: memory of the GPU, seconds."""
    file = f"Synthetic/{method}.yml"
    keys = keys_of(setting, SOLVER__MAX_EPOCH=2, SOLVER__STEPS="[1]", TEST__EVAL_PERIOD=2, DATASETS__TESTS="()")
    keys |= {"SOLVER.ITERS_PER_EPOCH": 2} if setting.rehearsal else {}
    expected, found = apart(foretell, file, keys), apart(take, file, keys)
    for what, unit in (("GPU memory", "GiB"), ("phases", "s")):
        said, taken = expected[what], found[what]
        report(f"{what}, planned", said, unit, "" if said is not None else "needs CUDA")
        report(f"{what}, taken", taken, unit, f"{taken / said:.2f} of the plan" if said and taken else "")


def foretell(file: str, keys: dict[str, object]) -> dict[str, float | None]:
    """The GiB of a GPU and the seconds of all phases but the checkpoints that a plan expects."""
    said = read_plan(str(plan(configuration(file, keys))))
    phases = ("features, s", "clustering, s", "memory, s", "training, s")
    return {"GPU memory": said.get("GPU memory, GiB"), "phases": sum(said.get(phase, 0) for phase in phases)}


def take(file: str, keys: dict[str, object]) -> dict[str, float | None]:
    """What a run took, by the same names."""
    train(file, keys)
    epochs = read_epochs(Path(keys["OUTPUT_DIR"]))
    on_gpu = keys["MODEL.DEVICE"] == "cuda"
    seconds = sum(sum(epoch.seconds.values()) for epoch in epochs)
    return {"GPU memory": max(epoch.peak_memory for epoch in epochs) if on_gpu else None, "phases": seconds}


def one_rank(report: Report, setting: Setting) -> None:
    """A run as torchrun starts it, as the one process of its job: NCCL on a GPU."""
    variables = {"TORCHELASTIC_RUN_ID": "gpu", "WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    variables |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    os.environ.update({name: str(value) for name, value in variables.items()})
    keys = keys_of(setting, DATASETS__TESTS="()", SOLVER__MAX_EPOCH=1, SOLVER__ITERS_PER_EPOCH=4, SOLVER__STEPS="[1]")
    train("Synthetic/fancl.yml", keys | {"PSEUDO_LABELS.ALGORITHM": "oracle"})
    report("trained", 1, "epoch", "NCCL" if setting.gpus else "gloo")


def free_port() -> int:
    return sys.modules["fastreid.engine.launch"]._find_free_port()


def two_ranks(report: Report, setting: Setting) -> None:
    """Seconds of a clustering that two processes share, each with a GPU, and of one alone."""
    rows = 500 if setting.rehearsal else 100_000
    compat.choose_backend(setting.device)
    results = mp.get_context("fork").SimpleQueue()
    url, args = f"tcp://127.0.0.1:{free_port()}", (rows, 2048, setting, results)
    # CUDA has not begun in this process, so that it may fork.
    mp.start_processes(distributed_worker, (both, 2, 2, 0, url, args), nprocs=2, start_method="fork")
    alone, shared, equal = results.get()
    report("distances alone and shared", equal, "share equal")
    verdict(report, setting, "clustering shared by two processes", shared, alone)


def both(rows: int, dimensions: int, setting: Setting, results) -> None:
    """One process's part: its share, then on the first one all of it."""
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
    """A method with the paper's schedule on drawn pandas, from weights of photographs, in as many epochs as fit."""
    keys = keys_of(setting, MODEL__META_ARCHITECTURE=method, MODEL__BACKBONE__PRETRAIN=True)
    keys = {key: value for key, value in keys.items() if key not in OF_FILE}
    keys |= {"SOLVER.ITERS_PER_EPOCH": 2} if setting.rehearsal else {}
    file, began = "Photographs/fancl.yml", time.perf_counter()
    scores(report, "at the start", evaluate(configuration(file, keys)))
    whole = read_plan(str(plan(configuration(file, keys | {"SOLVER.MAX_EPOCH": PAPER}))))["the run, s"]
    left = share * (setting.seconds - (time.perf_counter() - began))
    epochs = 3 if setting.rehearsal else max(3, min(PAPER, int(PAPER * left / whole)))
    keys |= {"SOLVER.MAX_EPOCH": epochs, "SOLVER.STEPS": [epochs // 3, 2 * epochs // 3]}
    keys |= {"TEST.EVAL_PERIOD": epochs, "SOLVER.CHECKPOINT_PERIOD": epochs}
    report("epochs", epochs, f"of {PAPER}", f"planned: {whole:.0f} s for all")
    train(file, keys)
    finished = read_epochs(Path(setting.scratch))
    seconds = sum(sum(epoch.seconds.values()) for epoch in finished) / len(finished)
    report("an epoch", seconds, "s", yaml.dump(finished[-1].seconds, default_flow_style=True))
    scores(report, "at the end", finished[-1].scores)
    report("clusters", finished[-1].clustering.get("clusters"))


def scores(report: Report, when: str, found: dict) -> None:
    """mAP and Rank-1, in percent."""
    for name in ("mAP", "Rank-1"):
        report(f"{name} {when}", found.get(name), "%")
