"""The stock trainer: learning, evaluating, writing, saving and resuming."""

import json
import logging
import os
import pickle
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from bag_of_tricks import refuse, stock_cfg, stock_trainer
from conftest import on_two_ranks
from fastreid.engine import default_argument_parser, default_setup, hooks, launch
from fastreid.engine.defaults import DistributedDataParallel
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from fastreid.modeling import build_model
from fastreid.solver import build_lr_scheduler, build_optimizer
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import CommonMetricPrinter, EventStorage, JSONWriter
from fastreid.utils.logger import setup_logger

from fastreid_fancl.compat.launch import distributed_worker
from fastreid_fancl.data.check import check_items
from fastreid_fancl.processes import BACKEND, choose_backend


@pytest.fixture(autouse=True)
def quiet_loggers():
    """Take off the handlers that a run put on; they hold pytest's captured output."""
    yield
    for name in ("fastreid", "fastreid_fancl"):
        log = logging.getLogger(name)
        log.handlers.clear()
        log.propagate = True


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.parametrize(
    "changes",
    [
        {"SOLVER__OPT": "SGD"},
        {"SOLVER__OPT": "Adam"},
        {"SOLVER__CLIP_GRADIENTS__ENABLED": True},
        {"MODEL__FREEZE_LAYERS": ["backbone"], "SOLVER__FREEZE_ITERS": 1},
    ],
    ids=["SGD", "Adam", "clipping", "freezing"],
)
def test_two_steps_change_every_weight_and_gradients_do_not_pile_up(changes):
    torch.manual_seed(0)
    model = build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=3)).train()
    optimizer, params = build_optimizer(stock_cfg(**changes), model)
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    batch = {"images": torch.rand(4, 3, 32, 16) * 255, "targets": torch.tensor([0, 0, 1, 1])}
    trainer = SimpleTrainer(model, [batch] * 2, optimizer, params)
    for step in range(2):
        trainer.iter = step
        with EventStorage():
            trainer.run_step()
    after = dict(model.named_parameters())
    assert [name for name in before if torch.equal(after[name], before[name])] == []
    optimizer.zero_grad()
    assert all(after[name].grad.abs().sum() == 0 for name in before)


def test_a_part_of_the_backbone_stays_as_it_was(datasets, tmp_path):
    trainer = stock_trainer(tmp_path, MODEL__FREEZE_LAYERS=["backbone.layer1"], SOLVER__FREEZE_ITERS=100)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("backbone.layer1.") for name in changed), "statistics of BatchNorm included"
    assert {name.split(".")[1] for name in changed if name.startswith("backbone.")} >= {"conv1", "layer2", "layer4"}


def test_the_optimiser_can_be_pickled_and_restored():
    model = build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=3))
    optimizer, _ = build_optimizer(stock_cfg(), model)
    optimizer.param_groups[0]["lr"] = 0.5
    again, _ = build_optimizer(stock_cfg(), model)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == pickle.loads(pickle.dumps(optimizer)).param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    "iterations, changes, message",
    [
        (0, {}, "fewer training images than SOLVER.IMS_PER_BATCH 16: lower it"),
        (5, {"SOLVER__SCHED": "CosineAnnealingLR", "SOLVER__WARMUP_ITERS": 6}, "take 2 of SOLVER.MAX_EPOCH 2 epochs"),
    ],
)
def test_schedules_without_room_are_refused(iterations, changes, message):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match=message):
        build_lr_scheduler(stock_cfg(**changes), optimizer, iterations)


def test_mixed_precision_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="needs a GPU, the model is on cpu: use SOLVER.AMP.ENABLED False"):
        AMPTrainer(torch.nn.Linear(1, 1), [], None, None)


@pytest.mark.cuda
def test_mixed_precision_trains_on_a_gpu_without_warnings(datasets, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        trainer = stock_trainer(tmp_path, MODEL__DEVICE="cuda", SOLVER__AMP__ENABLED=True)
        assert trainer.train()["mAP"] > 0
    assert "grad_scaler" in torch.load(tmp_path / "model_final.pth", weights_only=True)


def put(storage, iteration: int, data_time: float, **losses: float) -> None:
    """What the trainer does with the losses of an iteration."""
    storage.iter = iteration
    SimpleTrainer._write_metrics(None, {name: torch.tensor(value) for name, value in losses.items()}, data_time)


def histories(storage) -> dict[str, list[tuple[float, int]]]:
    """Each scalar's values and their iterations."""
    return {name: values.values() for name, values in storage.histories().items()}


def test_losses_come_to_the_storage_together_each_with_its_iteration():
    with EventStorage() as storage:
        for iteration in range(22):
            put(storage, iteration, iteration / 4, loss_a=float(iteration), loss_b=0.5)
            storage.put_later("accuracy", torch.tensor([iteration / 32]))
            assert ("loss_a" in storage.latest()) == (iteration >= 19), "the twentieth brings them all"
        assert storage.latest()["total_loss"] == (19.5, 19)
        storage.settle()
    assert histories(storage) == {
        "loss_a": [(iteration, iteration) for iteration in range(22)],
        "loss_b": [(0.5, iteration) for iteration in range(22)],
        "total_loss": [(iteration + 0.5, iteration) for iteration in range(22)],
        "data_time": [(iteration / 4, iteration) for iteration in range(22)],
        "accuracy": [(iteration / 32, iteration) for iteration in range(22)],
    }
    assert storage.iter == 21


def losses_of_a_rank(rank: int) -> tuple[dict, list[int]]:
    """The histories of 20 steps of one of two processes, and of how many steps it sent to the other at once."""
    sent, gather = [], comm.all_gather
    comm.all_gather = lambda data: sent.append(len(data)) or gather(data)
    with EventStorage() as storage:
        for iteration in range(20):
            put(storage, iteration, (0.25, 0.5)[(rank + iteration) % 2], loss=1.0 + 2 * rank + iteration)
    return histories(storage), sent


def test_two_processes_put_the_mean_losses_and_the_longest_time(tmp_path):
    (main, sent), (other, _) = on_two_ranks(losses_of_a_rank, tmp_path)
    # Losses 1 + i and 3 + i, times 0.25 and 0.5 in turn.
    assert main["total_loss"] == [(2 + iteration, iteration) for iteration in range(20)]
    assert main["data_time"] == [(0.5, iteration) for iteration in range(20)]
    assert sent == [20]
    assert other == main


def test_a_writer_that_would_come_before_the_losses_is_refused():
    with pytest.raises(ValueError, match="a multiple of 20 iterations, got 30"):
        hooks.PeriodicWriter([], 30)


@pytest.mark.parametrize("period, evaluations", [(-1, 1), (0, 1), (1, 3), (2, 2), (3, 1), (9, 1)])
def test_evaluations_come_every_period_and_after_the_last_epoch(period, evaluations):
    calls = []
    hook = hooks.EvalHook(period, lambda: calls.append(1) or {})
    hook.trainer = SimpleNamespace(max_epoch=3)
    for epoch in range(3):
        hook.trainer.epoch = epoch
        hook.after_epoch()
    hook.after_train()
    assert len(calls) == evaluations


@pytest.mark.parametrize("period", [0, 2, 5])
def test_a_failed_run_raises_its_own_error_and_does_not_evaluate(period, datasets, tmp_path, monkeypatch):
    trainer = stock_trainer(tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=period)
    monkeypatch.setattr(type(trainer), "test", lambda *a: pytest.fail("evaluated after a failure"))
    monkeypatch.setattr(trainer, "run_step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.train()


@pytest.mark.parametrize("period", [0, 2])
def test_the_last_evaluation_is_in_the_checkpoint_the_metrics_and_tensorboard(period, datasets, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    results = stock_trainer(tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=period).train()
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert content["metric"] == pytest.approx(results["metric"])
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["epoch"] == 0
    assert metrics(tmp_path)[-1]["mAP"] == pytest.approx(results["mAP"])
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("mAP")[-1].value == pytest.approx(results["mAP"], rel=1e-5)


def test_a_run_of_one_iteration_trains(datasets, tmp_path):
    assert stock_trainer(tmp_path, SOLVER__MAX_EPOCH=1, SOLVER__IMS_PER_BATCH=24).train()["mAP"] > 0


def test_the_printer_does_not_divide_by_no_iterations():
    printer = CommonMetricPrinter(10)
    with EventStorage() as storage:
        storage.epoch = 0
        printer.write()
        printer.write()


@pytest.mark.parametrize(
    ("fail", "traceback"),
    [(lambda: check_items([], True), False), (lambda: int("x"), True), (lambda: 1 / 0, True)],
)
def test_only_a_wrong_input_that_stops_training_is_logged_without_a_traceback(caplog, fail, traceback):
    trainer = TrainerBase()
    trainer.register_hooks([hooks.CallbackHook(before_epoch=lambda _: fail())])
    with pytest.raises((ValueError, ZeroDivisionError)) as stop:
        trainer.train(0, 1, 1)
    assert ("Traceback" in caplog.text) == traceback and str(stop.value) in caplog.text


def test_a_loss_that_diverges_is_a_wrong_input_of_its_iteration():
    with EventStorage() as storage:
        for iteration, loss in enumerate([1.0, 2.0, float("nan"), float("inf"), 3.0]):
            put(storage, iteration, 0.0, loss_a=loss)
        with pytest.raises(ValueError, match="(?s)NaN at iteration=2!.*loss_a.*Lower SOLVER.BASE_LR"):
            storage.settle()
    assert histories(storage)["total_loss"] == [(1, 0), (2, 1)]


def test_what_a_hook_logs_before_an_epoch_reaches_the_metrics(datasets, tmp_path):
    trainer = stock_trainer(tmp_path)
    log = hooks.CallbackHook(before_epoch=lambda t: t.storage.put_scalar("clusters", 10 + t.epoch))
    trainer.register_hooks([log])
    trainer.train()
    logged = {line["iteration"]: line["clusters"] for line in metrics(tmp_path) if "clusters" in line}
    assert list(logged.values()) == [10, 11], "each of its epoch alone"


def test_a_resumed_run_knows_its_best_metric_and_repeats_or_loses_no_line(datasets, tmp_path):
    stock_trainer(tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1).train()
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)["metric"]
    with open(tmp_path / "metrics.json", "a") as file:
        file.write('{"iteration": 2, "mAP": 1}\n{"iteration": 3, "mA')  # of a second epoch that was killed
    trainer = stock_trainer(tmp_path, TEST__EVAL_PERIOD=1)
    trainer.resume_or_load(resume=True)
    checkpointer = next(hook for hook in trainer._hooks if isinstance(hook, hooks.PeriodicCheckpointer))
    assert trainer.start_epoch == 1 and checkpointer.best_metric == best
    written = []
    trainer.checkpointer.tag_last_checkpoint = lambda _: written.append(metrics(tmp_path)[-1]["iteration"])
    trainer.train()
    assert written == [3], "before there is a checkpoint to resume from"
    iterations = [line["iteration"] for line in metrics(tmp_path)]
    assert iterations == sorted(set(iterations)) and iterations[-1] == 3


def test_a_new_run_in_an_old_folder_keeps_the_old_metrics_aside(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 5}\n')
    writer = JSONWriter(str(tmp_path / "metrics.json"))
    hook = hooks.PeriodicWriter([writer])
    hook.trainer = SimpleNamespace(start_iter=0)
    hook.before_train()
    with EventStorage(1) as storage:
        storage.put_scalar("loss", 1.0)
        writer.write()
    assert metrics(tmp_path) == [{"iteration": 1, "loss": 1.0}]
    assert (tmp_path / "metrics.previous.json").read_text() == '{"iteration": 5}\n'


def test_a_finished_run_resumes_to_its_evaluation(datasets, tmp_path):
    results = stock_trainer(tmp_path, SOLVER__MAX_EPOCH=1).train()
    lines = metrics(tmp_path)
    again = stock_trainer(tmp_path, SOLVER__MAX_EPOCH=1)
    again.resume_or_load(resume=True)
    assert again.train()["mAP"] == pytest.approx(results["mAP"])
    assert metrics(tmp_path) == lines


def scored_by(*tests, transductive=False):
    return SimpleNamespace(DATASETS=SimpleNamespace(TESTS=tests), TEST=SimpleNamespace(TRANSDUCTIVE=transductive))


@pytest.mark.parametrize(
    "period, tests, names",
    [
        (0, ("A",), ["model_best", "model_final"]),
        (1, (), ["model_best", "model_0000", "model_final"]),
        (1, ("A", "B"), ["model_best", "model_0000", "model_final"]),
    ],
)
def test_checkpoints_come_every_period_and_at_the_end(period, tests, names):
    saved = []
    hook = hooks.PeriodicCheckpointer(SimpleNamespace(save=lambda name, **state: saved.append(name)), period)
    hook.trainer = SimpleNamespace(max_epoch=2, cfg=scored_by(*tests))
    hook.before_train()
    with EventStorage() as storage:
        storage.put_scalar("A/metric" if len(tests) > 1 else "metric", 50.0)
        for hook.trainer.epoch in range(2):
            hook.after_epoch()
    assert saved == names


def test_an_epoch_that_was_not_evaluated_is_not_the_best():
    saved = {}
    save = lambda name, **state: saved.update({(name, state["epoch"]): state["metric"]})  # noqa: E731
    hook = hooks.PeriodicCheckpointer(SimpleNamespace(save=save), 2)
    hook.trainer = SimpleNamespace(max_epoch=6, cfg=scored_by("A"))
    hook.before_train()
    with EventStorage() as storage:
        for storage.iter, hook.trainer.epoch in enumerate(range(6)):
            if hook.trainer.epoch % 3 == 2:
                storage.put_scalar("metric", 50.0 - storage.iter)
            hook.after_epoch()
    assert saved == {("model_0001", 1): -1, ("model_best", 2): 48, ("model_0003", 3): -1, ("model_final", 5): 45}


def test_the_best_metric_is_known_before_the_best_model_is_saved():
    states = []
    hook = hooks.PeriodicCheckpointer(SimpleNamespace(save=lambda name, **_: states.append(hook.state_dict())), 1, 9)
    hook.step(0, metric=40.0)
    assert states == [{"best_metric": 40.0, "metric_of": None}] * 2


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        (scored_by("A"), scored_by("A"), True),
        (scored_by("A", "B"), scored_by("A"), True),
        (scored_by("A"), scored_by(), False),
        (scored_by(), scored_by("A"), False),
        (scored_by("A"), scored_by("A", transductive=True), False),
        (None, scored_by(), True),  # a checkpoint that does not say
    ],
)
def test_a_best_of_another_metric_is_forgotten(caplog, before, now, kept):
    def checkpointer(cfg):
        hook = hooks.PeriodicCheckpointer(SimpleNamespace(save=lambda *_, **__: None), 1)
        hook.trainer = SimpleNamespace(max_epoch=4, cfg=cfg)
        return hook

    first, second = checkpointer(before), checkpointer(now)
    if before:
        first.before_train()
        first.step(0, metric=70.0)
        state = first.state_dict()
    second.load_state_dict(state if before else {"best_metric": 70.0})
    second.before_train()
    assert second.best_metric == (70.0 if kept else -1)
    assert ("The best epoch so far was chosen by" in caplog.text) != kept


def test_a_second_trainer_logs_each_line_once_and_to_its_own_file(tmp_path, capsys):
    for name in ("one", "two", "one"):
        setup_logger(str(tmp_path / name)).info(f"line of {name}")
    assert capsys.readouterr().out.count("line of two") == 1
    assert (tmp_path / "one/log.txt").read_text().count("line of") == 2
    assert (tmp_path / "two/log.txt").read_text().count("line of") == 1


def test_evaluation_does_not_overwrite_the_configuration_of_the_training(tmp_path):
    cfg = stock_cfg(tmp_path)
    default_setup(cfg, SimpleNamespace(eval_only=False))
    cfg.SOLVER.MAX_EPOCH = 77
    default_setup(cfg, SimpleNamespace(eval_only=True))
    assert "MAX_EPOCH: 2" in (tmp_path / "config.yaml").read_text()
    assert "MAX_EPOCH: 77" in (tmp_path / "config_eval.yaml").read_text()
    logging.getLogger("fastreid_fancl.clustering").info("seen as well")
    assert "seen as well" in (tmp_path / "log.txt").read_text()


def test_the_seed_of_the_configuration_decides_random_numbers(tmp_path):
    cfg = stock_cfg()
    cfg.SEED = 3
    drawn = []
    for _ in range(2):
        default_setup(cfg, SimpleNamespace(eval_only=False))
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


def test_a_free_port_is_the_default():
    assert default_argument_parser().parse_args([]).dist_url == "auto"


@pytest.mark.parametrize("device, backend", [("cpu", "gloo"), ("cuda", "nccl"), ("cuda:0", "nccl")])
def test_the_device_chooses_what_processes_talk_with(device, backend, monkeypatch):
    monkeypatch.setenv(BACKEND, "")
    choose_backend(device)
    assert os.environ[BACKEND] == backend


def test_a_process_leaves_its_group_when_it_is_done(tmp_path, monkeypatch):
    monkeypatch.setenv(BACKEND, "gloo")
    ranks = []
    for turn in ("first", "second"):
        distributed_worker(0, lambda: ranks.append(comm.get_local_rank()), 1, 1, 0, f"file://{tmp_path}/{turn}", ())
        assert not dist.is_initialized()
    assert ranks == [0, 0]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv(BACKEND, "nccl")
    many = torch.cuda.device_count() + 2
    with pytest.raises(ValueError, match=f"^Expected at least {many} GPUs, got {many - 2}: lower --num-gpus, or use"):
        launch(print, many, dist_url="auto")


def test_a_wrong_input_in_a_process_is_the_same_error_in_the_launcher(monkeypatch):
    monkeypatch.setenv(BACKEND, "gloo")
    with pytest.raises(ValueError, match="(?s)^two lines\nof advice$"):
        launch(refuse, 2, dist_url="auto", args=("two lines\nof advice",))


def test_models_on_the_cpu_are_wrapped_and_objects_gathered_without_a_warning(tmp_path, monkeypatch):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model = DistributedDataParallel(torch.nn.Linear(2, 2), device_ids=[0], broadcast_buffers=False)
        assert model.device_ids is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            buffer = comm._serialize_to_tensor({"a": 1}, dist.group.WORLD)
        assert pickle.loads(buffer.numpy().tobytes()) == {"a": 1}
        assert Checkpointer(model).model is model.module
    finally:
        dist.destroy_process_group()
