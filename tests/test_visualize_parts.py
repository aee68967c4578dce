"""The parts of pictures: the sheet, the search and its order, Grad-CAM, FANA's panels, contact sheets."""

import io
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from PIL import Image
from torch import nn

from fastreid_fancl.data import UNLABELLED
from fastreid_fancl.engine.trained_model import RunLabel, TrainedModel
from fastreid_fancl.methods import FANCL
from fastreid_fancl.ranking import market1501
from fastreid_fancl.runs.tables import write_clusters
from fastreid_fancl.visualize import attention, clusters, fana, retrieval
from fastreid_fancl.visualize.drawing import IGNORED, NEUTRAL, RIGHT, WRONG, Sheet, cell_height, photograph
from fastreid_fancl.visualize.search import Match, Search, choose, mean_feature, spread


def render(figure) -> np.ndarray:
    """(H, W, 3) in [0, 1] of a figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB")) / 255


def frame(mark) -> np.ndarray:
    """The top edge (W, 3) of a black photograph of 4 x 2 cm in the corner of a sheet, framed with a mark."""
    sheet = Sheet(3)
    sheet.picture((0, 0, 4, 2), np.zeros((2, 4, 3)), aspect=2, mark=mark)
    pixels = render(sheet.figure)
    centimetre = 200 / 2.54
    row = round(0.1 * centimetre)  # the margin
    return pixels[row, round(0.2 * centimetre) : round(4 * centimetre)]


@pytest.mark.parametrize(("mark", "solid"), [(RIGHT, True), (WRONG, False), (IGNORED, False)])
def test_frames_differ_in_colour_and_in_line(mark, solid):
    coloured = np.isclose(frame(mark), to_rgb(mark.colour), atol=0.05).all(axis=1)
    assert coloured.any()
    assert coloured.all() == solid


def test_a_picture_fills_its_box_in_its_own_proportions():
    sheet = Sheet(5)
    sheet.picture((1, 1, 6, 2), np.zeros((30, 40, 3)), aspect=4 / 3)
    black = render(sheet.figure).sum(axis=2) < 0.1
    width, height = (int(black.any(axis=axis).sum()) for axis in (0, 1))
    assert height == pytest.approx(2 / 2.54 * 200, abs=2)
    assert width / height == pytest.approx(4 / 3, rel=0.03)


def test_text_is_at_least_seven_points_on_sixteen_centimetres():
    sheet = Sheet(2)
    sheet.text(0, 0, "query")
    sheet.legend(1, [(RIGHT, "same")])
    texts = [*sheet.figure.texts, *sheet.figure.legends[0].get_texts()]
    assert min(text.get_fontsize() for text in texts) >= 7
    assert sheet.figure.get_figwidth() == pytest.approx(16 / 2.54)


def test_a_large_photograph_is_read_small_in_its_own_proportions(tmp_path):
    Image.new("RGB", (3000, 1000)).save(tmp_path / "wide.jpg")
    assert photograph(tmp_path / "wide.jpg", width=1).shape == (52, 157, 3)  # 2 x 200 / 2.54 pixels a centimetre
    Image.new("RGB", (30, 10)).save(tmp_path / "small.png")
    assert photograph(tmp_path / "small.png", width=1).shape == (10, 30, 3)


def test_cells_fit_most_photographs_and_end_somewhere():
    assert cell_height(2, [2, 2, 0.5]) == 1
    assert cell_height(2, [0.1]) == 4


def test_images_are_spread_over_as_many_groups_as_possible_by_the_seed():
    groups = list("aaaaaaaabbbc")
    for number, expected in ((3, {"a": 1, "b": 1, "c": 1}), (5, {"a": 2, "b": 2, "c": 1})):
        assert Counter(groups[index] for index in spread(groups, number, seed=0)) == expected
    assert spread(groups, 5, seed=0) == spread(groups, 5, seed=0)
    assert len({tuple(spread(groups, 5, seed)) for seed in range(5)}) > 1
    assert sorted(spread(groups, 99, seed=0)) == list(range(12)), "no more than there are"


def random_search(seed=0, queries=6, gallery=30, labelled=True) -> Search:
    rng = np.random.default_rng(seed)
    items = [(f"{n}.png", int(rng.integers(4)), int(rng.integers(2))) for n in range(queries + gallery)]
    distances = rng.random((queries, gallery))
    (_, q_pids, q_cams), (_, g_pids, g_cams) = (
        map(np.array, zip(*part, strict=True)) for part in (items[:queries], items[queries:])
    )
    ranking = market1501(distances, q_pids, g_pids, q_cams, g_cams) if labelled else None
    return Search(items[:queries], items[queries:], torch.zeros(len(items), 2), distances, ranking, [])


def test_matches_are_in_the_order_of_their_distances_and_ranked_without_those_of_the_same_camera():
    search = random_search()
    for query, (_, pid, camid) in enumerate(search.queries):
        expected, rank = [], 0
        for index in sorted(range(30), key=lambda g: search.distances[query, g]):
            path, other, camera = search.gallery[index]
            if other == pid and camera == camid:
                expected.append(Match(path, True, None))
            else:
                rank += 1
                expected.append(Match(path, other == pid, rank))
        assert search.nearest(query, 8) == expected[:8]


def test_the_average_precision_beside_a_query_is_that_of_its_matches():
    search = random_search(seed=1)
    for query in range(6):
        ranks = [match.rank for match in search.nearest(query, 30) if match.same and match.rank]
        assert search.ranking.first[query] == ranks[0]
        precision = np.mean([number / rank for number, rank in enumerate(ranks, start=1)])
        assert search.ranking.precision[query] == pytest.approx(precision)
        assert f"AP {100 * precision:.1f}%\nfirst match: {ranks[0]}" in retrieval.words(search, query)


def test_an_image_is_not_its_own_match():
    search = random_search(labelled=False)
    search.gallery[3] = search.queries[0]
    search.distances[0, 3] = 0
    matches = search.nearest(0, 29)
    assert search.queries[0][0] not in {match.path for match in matches}
    assert [match.rank for match in matches] == list(range(1, 30))
    assert {retrieval.mark_of(match) for match in matches} == {NEUTRAL}


def test_the_hardest_queries_have_the_lowest_average_precision_and_a_match():
    search = random_search(seed=2, queries=9)
    search.queries[4] = ("4.png", 99, 0)  # an identity that the gallery lacks
    pids, cameras = (np.array([item[column] for item in search.queries]) for column in (1, 2))
    others = (np.array([item[column] for item in search.gallery]) for column in (1, 2))
    g_pids, g_cameras = others
    search = Search(
        search.queries,
        search.gallery,
        search.features,
        search.distances,
        market1501(search.distances, pids, g_pids, cameras, g_cameras),
        [],
    )
    chosen = choose(search, 9, seed=0, hardest=True)
    assert sorted(chosen) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (np.diff(search.ranking.precision[chosen]) >= 0).all()
    assert 4 not in choose(search, 9, seed=0, hardest=False)


def test_frames_of_a_retrieval_are_green_red_and_grey_by_the_rule(tmp_path):
    # From near to far: the query's animal by another camera, another animal, the query's animal by its camera.
    items = [("q", 0, 0), ("a", 0, 1), ("b", 1, 0), ("c", 0, 0)]
    paths = [(str(tmp_path / f"{name}.png"), pid, camid) for name, pid, camid in items]
    for path, _, _ in paths:
        Image.new("RGB", (8, 4)).save(path)
    distances = np.array([[0.1, 0.2, 0.3]])
    ranking = market1501(distances, *(np.array(values) for values in ([0], [0, 1, 0], [0], [1, 0, 0])))
    search = Search(paths[:1], paths[1:], torch.zeros(4, 2), distances, ranking, ["panda"])
    rows = [(0, search.nearest(0, 3))]
    figure = retrieval.layout(search, rows)
    frames = [axes.spines["top"] for axes in figure.axes]
    assert [frame.get_edgecolor()[:3] for frame in frames] == [
        to_rgb(mark.colour) for mark in (NEUTRAL, RIGHT, WRONG, IGNORED)
    ]
    lefts = [axes.get_position().x0 for axes in figure.axes]
    assert lefts == sorted(lefts)
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["panda\nAP 100.0%\nfirst match: 1", "query", "1 ✓", "2 ✗", "–"]
    assert "1 of 2 that count" in retrieval.describe(search, rows)


def test_identities_that_are_numbers_are_called_so():
    search = random_search()
    assert search.name(0) == f"identity {search.queries[0][1]}"
    named = Search(search.queries, search.gallery, search.features, search.distances, None, ["a", "b", "c", "d"])
    assert named.name(0) == "abcd"[search.queries[0][1]]


class Colours(nn.Module):
    """A re-ID model whose feature is the mean colour at unit length."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.AvgPool2d(2)
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        return F.normalize(self.backbone(batch["images"]).mean((2, 3)), dim=1)


def as_trained(model, size=(4, 4)) -> TrainedModel:
    return TrainedModel(RunLabel("system", 0, "epoch 1"), model, model.backbone, (), size)


def test_grad_cam_is_bright_where_the_image_speaks_for_the_identity():
    image = torch.zeros(1, 3, 4, 4)
    image[:, 0, :2, :2], image[:, 1, 2:, 2:] = 80, 40  # red in the upper left, green in the lower right
    red, green = torch.eye(3)[:1], torch.eye(3)[1:2]
    model = Colours()
    # Weights are (1, -1, 0) over the length: A is 80 of red, 0, 0 and 40 of green, which make 80, 0, 0 and -40.
    maps = attention.grad_cam(as_trained(model), model.backbone, image, red, green)
    np.testing.assert_allclose(maps, [[[1, 40 / 120], [40 / 120, 0]]], atol=1e-6)
    np.testing.assert_allclose(
        attention.grad_cam(as_trained(model), model.backbone, image, green, red), 1 - maps, atol=1e-6
    )


def test_lengths_are_constant_to_the_gradient_only():
    vector = torch.tensor([[3.0, 4.0]], requires_grad=True)
    with attention.ConstantLengths():
        unit = F.normalize(vector, dim=1)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8]]))
    unit.sum().backward()
    torch.testing.assert_close(vector.grad, torch.tensor([[0.2, 0.2]]))  # 1 / 5


def test_an_overlay_has_the_photographs_size_and_shows_both():
    white, black = np.full((6, 9, 3), 255, np.uint8), np.zeros((6, 9, 3), np.uint8)
    ramp = np.array([[0.0, 1.0]], dtype=np.float32)
    bright, dark = attention.overlay(white, ramp), attention.overlay(black, ramp)
    assert bright.shape == (6, 9, 3)
    np.testing.assert_allclose(bright - dark, 0.4, atol=1e-6)
    assert dark[0, -1].sum() > dark[0, 0].sum() + 0.3, "viridis gets brighter"


def test_the_reference_of_a_query_leaves_its_own_camera_out():
    items = [("q", 0, 0), ("same camera", 0, 0), ("match", 0, 1), ("other", 1, 0), ("another", 2, 1)]
    features = torch.tensor([[9.0, 9], [7, 7], [0, 5], [2, 0], [0, -3]])
    search = Search(items[:1], items[1:], features, np.zeros((1, 4)), None, [])
    positive, negative = attention.reference(search, 0)
    torch.testing.assert_close(positive, torch.tensor([0.0, 1]))
    torch.testing.assert_close(negative, F.normalize(torch.tensor([1.0, -1]), dim=0))  # lengths do not count


def test_the_mean_feature_of_no_images_is_zero():
    assert mean_feature(torch.zeros(0, 3)).tolist() == [0, 0, 0]


def test_the_panels_of_fana_are_what_fancl_itself_makes(monkeypatch):
    torch.manual_seed(0)
    backbone = nn.Sequential()
    backbone.add_module("conv1", nn.Conv2d(3, 4, 3, stride=2, padding=1))
    kwargs = {"heads": nn.Flatten(), "pixel_mean": [100.0] * 3, "pixel_std": [50.0] * 3}
    twins = {
        "noised_backbone": nn.Identity(),
        "noised_heads": nn.Flatten(),
        "feat_dim": 1,
        "fana": fana.fana.FANA("conv1", 0.1),
    }
    bank = {"temperature": 1.0, "momentum": 0.0, "update": "mean", "instance": True, "cluster": True}
    model = FANCL(backbone=backbone, **kwargs, **twins, **bank).eval()
    images = torch.randint(0, 256, (2, 3, 10, 20)).float()
    seen = []
    monkeypatch.setattr(model, "encode_noised", lambda noised: seen.append(noised) or noised.flatten(1))
    monkeypatch.setattr(model, "fuse", lambda *features: None)
    with torch.no_grad():
        model.encode_branches(images)
    panels = fana.noise(as_trained(model, (10, 20)), images, "conv1", 0.1)
    for (activation, region, noised), expected, image in zip(panels, seen[0], images, strict=True):
        assert activation.shape == region.shape == (10, 20)
        assert region.sum() == 20
        assert activation[region].min() >= activation[~region].max()
        np.testing.assert_array_equal(noised, expected.permute(1, 2, 0))
        np.testing.assert_array_equal(noised[~region], image.permute(1, 2, 0)[~region])
        assert not noised[region].any()


def test_a_cluster_says_its_size_its_purity_and_whose_it_is():
    group = clusters.Group("7", list("abcde"), ["x", "y", "x", "x", UNLABELLED])
    assert clusters.heading(group) == "cluster 7: 5 images, purity 75% (x)"  # three of four that are known
    assert [group.mark(n) for n in range(5)] == [RIGHT, WRONG, RIGHT, RIGHT, NEUTRAL]
    unknown = clusters.Group("0", ["a", "b"], [UNLABELLED] * 2)
    assert clusters.heading(unknown) == "cluster 0: 2 images"
    assert unknown.mark(0) == NEUTRAL
    left_out = clusters.Group("", ["a"], ["x"])
    assert clusters.heading(left_out) == "left out: 1 image"
    assert left_out.mark(0) == NEUTRAL


def test_clusters_are_read_in_the_order_of_the_table(tmp_path):
    write_clusters(tmp_path, 0, [("a",), ("b",), ("c",), ("d",)], np.array([0, 5, -1, 5]))
    groups = clusters.read_clusters(clusters.find_cluster_table(tmp_path, 1)[1], dict.fromkeys("abcd", "x"))
    assert [(group.cluster, group.paths) for group in groups] == [("5", ["b", "d"]), ("0", ["a"]), ("", ["c"])]


def test_a_sheet_shows_some_of_a_large_cluster_and_counts_the_rest(tmp_path):
    Image.new("RGB", (4, 2)).save(tmp_path / "a.png")
    large = clusters.Group("0", [str(tmp_path / "a.png")] * 30, ["x"] * 30)
    small = clusters.Group("1", [str(tmp_path / "a.png")] * 4, ["y"] * 4)
    figure = clusters.layout([large, small], [small, small], [])
    assert len(figure.axes) == 9 + 4
    texts = [text.get_text() for text in figure.texts]
    assert "and 21\nmore" in texts
    assert "and 2 more clusters with 8 images" in texts
