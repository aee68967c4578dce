"""Forward passes, pretrained weights and evaluation of stock fast-reid."""

import subprocess
import urllib.error
import warnings

import numpy as np
import pytest
import torch
import torchvision
from bag_of_tricks import stock_cfg
from fastreid.data import build_reid_test_loader
from fastreid.engine import DefaultPredictor
from fastreid.evaluation import ReidEvaluator, inference_on_dataset
from fastreid.evaluation import rank as fastreid_rank
from fastreid.evaluation.query_expansion import aqe
from fastreid.modeling import build_backbone, build_model
from fastreid.modeling.losses import cross_entropy_loss
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.compute_dist import build_dist

from fastreid_fancl.compat.evaluation import TorchIndex


def model_and_images(**changes):
    torch.manual_seed(0)
    return build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=3, **changes)), torch.rand(4, 3, 32, 16) * 255


@pytest.mark.parametrize("wrap", [lambda images: images, lambda images: {"images": images}], ids=["tensor", "dict"])
def test_a_model_leaves_its_batch_as_it_was(wrap):
    model, images = model_and_images()
    before = images.clone()
    model.eval()(wrap(images))
    assert torch.equal(images, before)


def test_flipped_features_average_those_of_both_sides(datasets):
    model, _ = model_and_images()
    cfg = stock_cfg()
    loader, num_query = build_reid_test_loader(cfg, dataset_name="Stripes")
    evaluator = ReidEvaluator(cfg, num_query)
    inference_on_dataset(model, loader, evaluator, flip_test=True)
    measured = torch.cat([part["feats"] for part in evaluator._predictions])
    images = torch.cat([batch["images"] for batch in loader])
    with torch.no_grad():
        expected = (model.eval()(images) + model(images.flip(3))) / 2
    assert torch.allclose(measured, expected, atol=1e-4)


def test_the_predictor_leaves_its_image_as_it_was(tmp_path):
    model, images = model_and_images()
    Checkpointer(model, str(tmp_path)).save("weights")
    predictor = DefaultPredictor(stock_cfg(MODEL__WEIGHTS=str(tmp_path / "weights.pth")))
    before = images.clone()
    assert torch.allclose(predictor(images), model.eval()(images), atol=1e-5)
    assert torch.equal(images, before)


def test_a_forward_pass_in_training_mode_needs_no_trainer():
    model, images = model_and_images()
    losses = model.train()({"images": images, "targets": torch.tensor([0, 0, 1, 1])})
    assert set(losses) == {"loss_cls", "loss_triplet"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error_with_the_cure():
    with pytest.raises(ValueError, match="sees no CUDA device: use"):
        build_model(stock_cfg(MODEL__DEVICE="cuda"))


@pytest.mark.cuda
def test_batches_from_the_host_reach_the_gpu():
    model, images = model_and_images(MODEL__DEVICE="cuda")
    assert model.eval()({"images": images}).device.type == "cuda"


def smoothed_cross_entropy(logits, targets, eps, alpha):
    """The loops of fast-reid's definition; images without a loss do not count in the mean."""
    losses = []
    for row, target in zip(logits.astype(np.float64), targets, strict=True):
        probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        share = eps if eps >= 0 else alpha * probabilities[target]
        wanted = np.full(len(row), share / (len(row) - 1))
        wanted[target] = 1 - share
        losses.append(-(wanted * np.log(probabilities)).sum())
    return np.sum(losses) / max(np.count_nonzero(losses), 1)


@pytest.mark.parametrize("eps", [0.0, 0.1, -1.0])
def test_the_cross_entropy_of_fast_reid_equals_the_loops(eps):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(5, size=8)
    logits[3] = 0
    logits[3, targets[3]] = 60  # without smoothing no loss at all
    loss = cross_entropy_loss(torch.tensor(logits), torch.tensor(targets), eps, 0.3)
    expected = smoothed_cross_entropy(logits, targets, eps, 0.3)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_images_of_no_loss_have_the_mean_zero():
    assert cross_entropy_loss(torch.eye(3) * 200, torch.arange(3), 0.0).item() == 0


def test_unknown_targets_count_as_the_first_identity():
    model, images = model_and_images()
    unknown, first = (
        model.train()({"images": images, "targets": torch.full((4,), target)})["loss_cls"] for target in (-1, 0)
    )
    assert torch.equal(unknown, first)


def test_a_single_identity_is_an_error_of_the_loss():
    with pytest.raises(ValueError, match="at least 2 training identities, got 1"):
        cross_entropy_loss(torch.zeros(4, 1), torch.zeros(4, dtype=torch.long), 0.1)


def pretrained(path, **changes):
    return stock_cfg(MODEL__BACKBONE__PRETRAIN=True, MODEL__BACKBONE__PRETRAIN_PATH=str(path), **changes)


def test_torchvision_weights_fill_the_backbone(tmp_path):
    source = torchvision.models.resnet18().state_dict()
    torch.save(source, tmp_path / "resnet18.pth")
    state = build_backbone(pretrained(tmp_path / "resnet18.pth")).state_dict()
    assert all(torch.equal(state[name], value) for name, value in source.items() if not name.startswith("fc."))


def test_a_checkpoint_of_a_whole_model_fills_the_backbone(tmp_path):
    model, _ = model_and_images()
    Checkpointer(model, str(tmp_path)).save("whole")
    state = build_backbone(pretrained(tmp_path / "whole.pth")).state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.backbone.state_dict().items())


@pytest.mark.parametrize(
    "content, message",
    [
        ({"unrelated.weight": torch.zeros(3)}, "No weight of .* fits the backbone: the file has .'unrelated.weight'"),
        (
            torchvision.models.resnet50().state_dict(),
            "another architecture: the backbone lacks .* Check MODEL.BACKBONE and",
        ),
        ({"epoch": 3}, "Expected weights in .* got the keys .'epoch'."),
    ],
)
def test_weights_of_something_else_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message):
        build_backbone(pretrained(tmp_path / "other.pth"))


def test_without_a_network_the_error_says_where_to_put_the_weights(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    place = tmp_path / "checkpoints" / "resnet18-5c106cde.pth"
    with pytest.raises(ValueError, match=f"Put the file at {place}, or set MODEL.BACKBONE.PRETRAIN_PATH"):
        build_backbone(pretrained(""))
    torch.save(torchvision.models.resnet18().state_dict(), place)
    assert build_backbone(pretrained("")).conv1.weight.equal(torch.load(place, weights_only=True)["conv1.weight"])


def test_a_backbone_without_published_weights_asks_for_a_path():
    with pytest.raises(ValueError, match="No ImageNet weights are known for build_resnet_backbone 34x.*PRETRAIN_PATH"):
        build_backbone(pretrained("", MODEL__BACKBONE__DEPTH="34x", MODEL__BACKBONE__WITH_SE=True))


def test_regnet_is_built_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = build_backbone(stock_cfg(MODEL__BACKBONE__NAME="build_regnet_backbone", MODEL__BACKBONE__DEPTH="200x"))
    assert sum(p.numel() for p in backbone.parameters()) > 1e6


@pytest.mark.parametrize("name, value", [("DEPTH", "60x"), ("NORM", "batch")])
def test_an_unknown_depth_or_norm_is_named(name, value):
    with pytest.raises(ValueError, match=f"MODEL.BACKBONE.{name} '{value}' is unknown to build_resnet_backbone"):
        build_backbone(stock_cfg(**{f"MODEL__BACKBONE__{name}": value}))


def random_ranking(seed, queries=12, gallery=80, identities=6, cameras=3):
    rng = np.random.default_rng(seed)
    distance = rng.random((queries, gallery)).astype(np.float32)
    pids, camids = rng.integers(identities, size=queries + gallery), rng.integers(cameras, size=queries + gallery)
    return distance, pids[:queries], pids[queries:], camids[:queries], camids[queries:]


@pytest.mark.parametrize("seed", range(4))
def test_ranking_equals_fastreids_own(seed):
    arguments = random_ranking(seed)
    expected = fastreid_rank.eval_market1501(*arguments, 50)
    for ours, stock in zip(fastreid_rank.evaluate_rank(*arguments), expected, strict=True):
        assert np.allclose(ours, stock, atol=1e-7)


def test_ranks_beyond_a_small_gallery_count_as_found():
    # Query of identity 1: the gallery holds a stranger nearer than its match, so rank 1 fails and ranks 2.. succeed.
    # AP = 1/2, inverse negative penalty = 1 match / last match at rank 2.
    cmc, precisions, penalties = fastreid_rank.evaluate_rank(
        np.array([[0.2, 0.1]]), np.array([1]), np.array([1, 2]), np.array([0]), np.array([1, 1])
    )
    assert cmc.tolist() == [0] + [1] * 49 and precisions.tolist() == [0.5] and penalties.tolist() == [0.5]


def test_no_match_within_other_cameras_is_explained():
    same_camera = (np.array([[0.1, 0.2]]), np.array([1]), np.array([1, 2]), np.array([0]), np.array([0, 0]))
    with pytest.raises(ValueError, match="1 of 1 query identities are there.* give queries camera 0 and gallery 1"):
        fastreid_rank.evaluate_rank(*same_camera)


def test_queries_without_a_match_are_left_out_with_a_warning(caplog):
    arguments = (np.array([[0.1, 0.2], [0.2, 0.1]]), np.array([1, 9]), np.array([1, 2]), np.zeros(2), np.ones(2))
    assert len(fastreid_rank.evaluate_rank(*arguments)[1]) == 1
    assert "1 of 2 queries have no match" in caplog.text


@pytest.mark.parametrize("bad, message", [(np.nan, "diverged"), (None, "got 0 and 2")])
def test_rankings_that_mean_nothing_are_refused(bad, message):
    distance = np.zeros((0, 2)) if bad is None else np.array([[bad, 0.2]])
    with pytest.raises(ValueError, match=message):
        fastreid_rank.evaluate_rank(distance, np.array([1]), np.array([1, 2]), np.array([0]), np.array([1, 1]))


@pytest.mark.parametrize(
    "option", ["TEST__RERANK__ENABLED", "TEST__AQE__ENABLED", "TEST__ROC__ENABLED", "TEST__FLIP__ENABLED"]
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_way_of_testing_runs_on_the_cpu_quietly_and_compiles_nothing(option, metric, datasets, monkeypatch):
    def compilation(*args, **kwargs):
        raise AssertionError("a compiler was started")

    monkeypatch.setattr(subprocess, "run", compilation)
    model, _ = model_and_images()
    cfg = stock_cfg(TEST__METRIC=metric, TEST__RERANK__K1=50, TEST__AQE__QE_K=50, **{option: True})
    loader, num_query = build_reid_test_loader(cfg, dataset_name="Stripes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = inference_on_dataset(model, loader, ReidEvaluator(cfg, num_query), cfg.TEST.FLIP.ENABLED)
    assert 0 < results["mAP"] <= 100


def test_reranking_by_pytorch_searches_as_faiss_does():
    faiss = pytest.importorskip("faiss")
    features = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).numpy()
    index, ours = faiss.IndexFlatL2(8), TorchIndex(8)
    for one in (index, ours):
        one.add(features)
    (distances, neighbours), (our_distances, our_neighbours) = index.search(features, 5), ours.search(features, 5)
    assert np.array_equal(neighbours, our_neighbours) and np.allclose(distances, our_distances, atol=1e-4)


def test_reranking_takes_no_more_neighbours_than_there_are():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    everything = build_dist(features[:2], features[2:], "jaccard", k1=6, k2=6)
    assert np.array_equal(build_dist(features[:2], features[2:], "jaccard", k1=20, k2=9), everything)


def test_euclidean_distances_are_squared():
    # (3, 4) from the origin: 9 + 16.
    assert build_dist(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), "euclidean").tolist() == [[25.0]]


def test_query_expansion_takes_no_more_neighbours_than_there_are():
    queries, gallery = aqe(torch.eye(3)[:1], torch.eye(3)[1:], qe_k=9)
    assert queries.shape == (1, 3) and gallery.shape == (2, 3)
