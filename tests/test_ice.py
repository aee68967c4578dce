"""ICE's losses against the paper's loops and the released code's numbers; its method on one and two processes."""

import math

import numpy as np
import pytest
import torch
from conftest import on_two_ranks
from support import oracles
from support.models import COMMON, Backbone, batch, cluster_contrast, head

from fastreid_fancl.batchnorm import virtual_groups
from fastreid_fancl.methods import ICE
from fastreid_fancl.methods.ice import (
    camera_contrast,
    cluster_proxy_contrast,
    hard_instance_contrast,
    similarity_consistency,
)


def ice(seed=0, momentum=0.9):
    torch.manual_seed(seed)
    return ICE(
        backbone=Backbone(), heads=head(), momentum=momentum, cluster={"temperature": 0.5, "smoothing": 0.1},
        instance_temperature=0.1, consistency_scale=0.4, consistency_weight=10.0,
        camera={"temperature": 0.07, "hard": 2}, camera_weight=0.5, **COMMON,
    )  # fmt: skip


def views(size=8):
    data, generator = batch(size), torch.Generator().manual_seed(2)
    for name in ICE.VIEWS:
        data[name] = (data["images"] + 40 * torch.randn(data["images"].shape, generator=generator)).clamp(0, 255)
    return {**data, "camids": torch.tensor([0, 1, 1, 0, 2, 1, 0, 0])[:size]}


def start(model, data, cameras=True):
    with torch.no_grad():
        features = model.eval().cluster_features(data)
    model.start_epoch(features, data["targets"], data["camids"] if cameras else None)
    model.train()
    return features["original"]


@pytest.fixture
def released(golden):
    return {name: torch.as_tensor(value) for name, value in golden("ice_losses").items()}


def test_the_cluster_loss_is_that_of_the_released_code(released):
    loss = cluster_proxy_contrast(released["student"], released["centers"], released["targets"], 0.5, 0.1)
    assert loss.item() == pytest.approx(released["loss_cluster_tau_0.5_eps_0.1"].item(), abs=1e-5)


def test_the_hard_instance_loss_is_that_of_the_released_code(released):
    loss = hard_instance_contrast(released["student"], released["teacher"], released["targets"], 0.1)
    assert loss.item() == pytest.approx(released["loss_hard_instance_tau_0.1"].item(), abs=1e-5)


def test_the_consistency_is_that_of_the_released_code(released):
    loss = 10 * similarity_consistency(released["student"], released["teacher"], released["teacher_weak"], 0.4)
    assert loss.item() == pytest.approx(released["loss_consistency_scale_0.4_weight_10"].item(), abs=1e-5)


def test_the_camera_loss_is_that_of_the_released_code(released):
    proxies = released["proxies"], released["proxy_labels"]
    loss = 0.5 * camera_contrast(released["student"], released["targets"], released["cams"], *proxies, 0.07, 25)
    assert loss.item() == pytest.approx(released["loss_camera_beta_0.07_knn_25"].item(), abs=1e-5)


@pytest.fixture
def uneven():
    """Clusters of 1 to 6 images, cameras of unequal shares, proxies of some clusters in some cameras."""
    rng = np.random.default_rng(0)
    return {
        **{name: rng.normal(size=(16, 7)) for name in ("student", "teacher", "weak")},
        "targets": np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4]),
        "cameras": rng.choice(4, size=16, p=[0.6, 0.2, 0.1, 0.1]),
        "proxies": rng.normal(size=(11, 7)),
        "proxy_clusters": np.array([0, 0, 1, 2, 2, 2, 3, 3, 5, 5, 5]),  # none of cluster 4
    }


def tensors(uneven, *names):
    return [torch.tensor(uneven[name]) for name in names]


def test_the_cluster_loss_equals_the_loop(uneven):
    loss = cluster_proxy_contrast(*tensors(uneven, "student", "proxies", "targets"), 0.5, 0.3)
    logits = uneven["student"] @ uneven["proxies"].T / 0.5
    assert loss.item() == pytest.approx(oracles.smoothed_cross_entropy(logits, uneven["targets"], 0.3), rel=1e-5)


def test_the_hard_instance_loss_equals_the_loop(uneven):
    names = "student", "teacher", "targets"
    expected = oracles.hard_instance_contrast(*(uneven[name] for name in names), 0.1)
    assert hard_instance_contrast(*tensors(uneven, *names), 0.1).item() == pytest.approx(expected, rel=1e-5)


def test_the_consistency_equals_the_loop(uneven):
    names = "student", "teacher", "weak"
    expected = oracles.similarity_consistency(*(uneven[name] for name in names), 0.4)
    assert similarity_consistency(*tensors(uneven, *names), 0.4).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("hard", [3, 50])
def test_the_camera_loss_equals_the_loop_over_cameras(uneven, hard):
    names = "student", "targets", "cameras", "proxies", "proxy_clusters"
    expected = oracles.camera_contrast(*(uneven[name] for name in names), 0.07, hard)
    assert camera_contrast(*tensors(uneven, *names), 0.07, hard).item() == pytest.approx(expected, rel=1e-5)


def test_the_hard_instance_loss_by_hand():
    # Of cluster 0 the student (1, 0) meets (1, 0) and (0, 1), hardest cosine 0, and outside it (-1, 0): with tau = 1
    # log(1 + e^-1). Its neighbour (0, 1) likewise has 0 and 0: log 2. The image of cluster 1, (-1, 0), has itself, 1,
    # against -1 and 0: log(e + e^-1 + 1) - 1.
    features, targets = torch.tensor([[1.0, 0], [0, 1], [-1, 0]]), torch.tensor([0, 0, 1])
    expected = [math.log(1 + math.exp(-1)), math.log(2), math.log(math.e + 1 / math.e + 1) - 1]
    loss = hard_instance_contrast(features, features, targets, 1.0)
    assert loss.item() == pytest.approx(sum(expected) / 3, abs=1e-6)


def test_with_one_cluster_the_hard_instances_have_nothing_to_be_told_from():
    features = torch.randn(4, 3)
    assert hard_instance_contrast(features, features, torch.zeros(4, dtype=torch.long), 0.1).item() == 0


def test_views_that_resemble_each_other_alike_are_consistent():
    weak, turn = torch.randn(6, 4), torch.linalg.qr(torch.randn(4, 4)).Q
    strong = 3 * weak @ turn
    assert similarity_consistency(strong, strong, weak, 0.4).item() == pytest.approx(0, abs=1e-6)
    assert similarity_consistency(torch.randn(6, 4), strong, weak, 0.4).item() > 1e-3


def test_with_one_camera_the_camera_loss_is_a_mean(uneven):
    names = "student", "targets", "cameras", "proxies", "proxy_clusters"
    values = dict(zip(names, tensors(uneven, *names), strict=True))
    values["cameras"] = torch.full((16,), 5)
    single = [
        camera_contrast(*(v[n : n + 1] if i < 3 else v for i, v in enumerate(values.values())), 0.07, 3)
        for n in range(16)
    ]
    assert camera_contrast(*values.values(), 0.07, 3).item() == pytest.approx(torch.stack(single).mean().item())


def test_the_mean_of_the_losses_of_two_halves_is_that_of_the_whole(uneven):
    student, teacher, weak, targets, cameras, proxies, clusters = tensors(uneven, *uneven)
    losses = {
        "instance": lambda own: hard_instance_contrast(student[own], teacher, targets, 0.1, own),
        "consistency": lambda own: similarity_consistency(student[own], teacher, weak, 0.4, own),
        "camera": lambda own: camera_contrast(student[own], targets, cameras, proxies, clusters, 0.07, 3, own),
    }
    for name, loss in losses.items():
        halves = (loss(slice(0, 8)) + loss(slice(8, 16))) / 2
        torch.testing.assert_close(halves, loss(slice(None)), msg=name)


def test_in_autocast_the_losses_are_those_of_float32():
    student, teacher, weak, targets = torch.randn(8, 16), torch.randn(8, 16), torch.randn(8, 16), torch.arange(8) % 3
    proxies = teacher[:6], torch.arange(6) % 3

    def losses():
        return [
            cluster_proxy_contrast(student, teacher, targets, 0.5, 0.1),
            hard_instance_contrast(student, teacher, targets, 0.1),
            similarity_consistency(student, teacher, weak, 0.4),
            camera_contrast(student, targets, targets, *proxies, 0.07, 2),
        ]

    outside = losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = losses()
    assert all(torch.equal(out, within) for out, within in zip(outside, inside, strict=True))


def test_a_step_sums_the_four_losses_of_the_views():
    model, data = ice(), views()
    features = start(model, data).numpy()
    with torch.no_grad():
        student = model.heads.embed(model.backbone(model.normalise(data["images"]))).numpy()
        teacher, weak = (model.represent(data[name]).numpy() for name in ("images_teacher", "images_weak"))
        losses = {name: value.item() for name, value in model(data).items()}

    targets, cameras = data["targets"].numpy(), data["camids"].numpy()
    means = np.stack([features[targets == cluster].mean(0) for cluster in range(3)])
    pairs = sorted({*zip(targets.tolist(), cameras.tolist(), strict=True)})
    proxies = np.stack([features[(targets == t) & (cameras == c)].mean(0) for t, c in pairs])
    clusters = np.array([cluster for cluster, _ in pairs])
    expected = {
        "loss_cluster": oracles.smoothed_cross_entropy(student @ means.T / 0.5, targets, 0.1),
        "loss_instance": oracles.hard_instance_contrast(student, teacher, targets, 0.1),
        "loss_consistency": 10 * oracles.similarity_consistency(student, teacher, weak, 0.4),
        "loss_camera": 0.5 * oracles.camera_contrast(student, targets, cameras, proxies, clusters, 0.07, 2),
    }
    assert losses == pytest.approx(expected, rel=1e-4)


def test_without_cameras_there_is_no_camera_loss_not_even_after_an_epoch_with_them():
    model, data = ice(), views()
    start(model, data)
    start(model, data, cameras=False)
    assert set(model(data)) == {"loss_cluster", "loss_instance", "loss_consistency"}


def test_every_weight_of_the_student_gets_a_gradient_and_none_of_the_teacher():
    model, data = ice(), views()
    start(model, data)
    sum(model(data).values()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("teacher."):
            assert parameter.grad is None, name
        elif parameter.requires_grad:
            assert parameter.grad.abs().sum() > 0, name


def test_the_teacher_is_what_is_clustered_and_tested():
    model, data = ice().eval(), views()
    with torch.no_grad():
        before = model(data)
        for parameter in (*model.backbone.parameters(), *model.heads.parameters()):
            parameter.mul_(-2)
        assert torch.equal(model(data), before)
        assert torch.equal(model.cluster_features(data)["original"], before)
        for parameter in model.teacher.parameters():
            parameter.mul_(-2)
        assert not torch.allclose(model(data), before)


def test_the_teacher_follows_at_the_next_step():
    model, data = ice(momentum=0.9), views()
    start(model, data)
    own, taught = model.backbone.conv1.weight, model.teacher.backbone.conv1.weight
    first = own.detach().clone()
    model(data)
    assert torch.equal(taught, first), "nothing was learned yet"
    with torch.no_grad():
        own.add_(1)
    model(data)
    torch.testing.assert_close(taught, first + 0.1)


def test_a_checkpoint_of_one_encoder_starts_the_teacher_and_a_whole_one_keeps_it():
    source, model = cluster_contrast(seed=7), ice()
    model.load_state_dict(source.state_dict())
    assert torch.equal(model.teacher.backbone.conv1.weight, source.backbone.conv1.weight)

    with torch.no_grad():
        model.backbone.conv1.weight.zero_()
    other = ice(seed=3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.teacher.backbone.conv1.weight, source.backbone.conv1.weight)
    assert not other.backbone.conv1.weight.any()


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def step(part):
    """The gradients of a step on a part of the batch, with normalisation by running statistics as FrozenBN has it."""
    model, data = ice(), views()
    start(model, data)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    sum(model({name: values[part] for name, values in data.items()}).values()).backward()
    return gradients(model)


def one_of_two(rank):
    part = slice(4 * rank, 4 * rank + 4)
    torch.manual_seed(rank)  # ranks that drew different orders would not agree
    model, images = ice().eval(), views()["images_teacher"]
    found = {"taught": model.teacher_features(images[part])}
    torch.manual_seed(rank)
    found["shuffled"] = [model.train().teacher_features(images[part]) for _ in range(4)]
    found["gradients"] = step(part)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(one_of_two, tmp_path_factory.mktemp("ice"))


def test_two_processes_have_the_gradients_of_one(ranks):
    alone = step(slice(None))
    for name, gradient in alone.items():
        together = (ranks[0]["gradients"][name] + ranks[1]["gradients"][name]) / 2
        torch.testing.assert_close(together, gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_shuffled_images_come_back_in_order_on_every_rank(ranks):
    with torch.no_grad():
        expected = ice().eval().represent(views()["images_teacher"])
    for rank in ranks:
        torch.testing.assert_close(rank["taught"], expected)


def test_virtual_groups_of_one_process_are_shuffled_too():
    torch.manual_seed(0)
    model, images = virtual_groups(ice(), 4).train(), views()["images_teacher"]
    found = [model.teacher_features(images) for _ in range(4)]
    assert any(not torch.allclose(found[0], later) for later in found[1:])


def test_batchnorm_of_the_teacher_sees_new_neighbours_at_each_step(ranks):
    first, second = (rank["shuffled"] for rank in ranks)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert any(not torch.allclose(first[0], later) for later in first[1:])
