"""PSEUDO_LABELS.LOCAL end to end, on drawn coats: training, resume, processes, groups, plan, picture."""

import csv
import json
import logging
import os
import re
import runpy
from datetime import timedelta
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO, on_two_ranks
from PIL import Image
from support.coats import SIZE, coat, under_text
from support.runs import arguments, configured, same, weights

from fastreid_fancl import clustering, local
from fastreid_fancl.compat import launch
from fastreid_fancl.data.datasets.photos import Photo
from fastreid_fancl.engine import pseudo_labels
from fastreid_fancl.engine.fused import learned_evidence, local_pairs, photos_of
from fastreid_fancl.engine.labels import assign_labels, distance_alone, distance_together, linked_labels
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.individuals.grouping import command_line as group
from fastreid_fancl.local import calibrate
from fastreid_fancl.visualize.command import command_line as visualize

ANIMALS, IMAGES = 6, 5
KEYS = {
    "DATASETS__NAMES": "('Coats',)",
    "DATASETS__TESTS": "()",
    "PSEUDO_LABELS__LOCAL": 0.5,
    "PSEUDO_LABELS__K1": 5,
    "PSEUDO_LABELS__MIN_SAMPLES": 2,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root of data sets with `Coats` in it: turned photographs of spotted animals, each under another light."""
    root = tmp_path_factory.mktemp("coats")
    (root / "Coats").mkdir()
    rows = ["path,identity,split"]
    for animal in range(ANIMALS):
        for number in range(IMAGES):
            turn = cv2.getRotationMatrix2D((100, 75), 12 * number - 24, 1 - 0.04 * number)
            picture = cv2.warpAffine(coat(animal), turn, SIZE, borderValue=128).astype(float) * (1 - 0.12 * number)
            picture = cv2.resize(picture.astype(np.uint8), (120, 90), interpolation=cv2.INTER_AREA)
            Image.fromarray(picture).save(root / f"Coats/{animal}_{number}.png")
            rows.append(f"{animal}_{number}.png,{animal},train")
    (root / "Coats/metadata.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def coats(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(root))
    return root


def logged(folder, name: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def test_a_run_in_two_parts_ends_with_the_weights_of_one(coats, tmp_path, monkeypatch):
    command_line(arguments("cluster_contrast", tmp_path / "whole", **KEYS))
    assert logged(tmp_path / "whole", "ari_all") == [1.0, 1.0], "an untrained network, but local matches"
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))  # the second part finds keypoints again
    command_line(arguments("cluster_contrast", tmp_path / "parts", **KEYS, SOLVER__MAX_EPOCH=1))
    command_line(arguments("cluster_contrast", tmp_path / "parts", "--resume", **KEYS))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))

    group(["--run", os.fspath(tmp_path / "whole")])
    with open(tmp_path / "whole/groups.csv") as file:
        rows = list(csv.DictReader(file))
    groups = {(os.path.basename(row["path"])[0], row["cluster"]) for row in rows}
    assert len(groups) == ANIMALS and "" not in {cluster for _, cluster in groups}


def test_keypoints_are_found_once_and_pairs_are_verified_in_every_epoch(coats, tmp_path, monkeypatch):
    built, ranked = [], []
    plain = local.LocalPairs.rank

    def rank(self, features, neighbors, weight, k):
        ranked.append((weight, k, neighbors.shape))
        return plain(self, features, neighbors, weight, k)

    monkeypatch.setattr(local.LocalPairs, "rank", rank)
    monkeypatch.setattr(pseudo_labels, "local_pairs", lambda *a: built.append(local_pairs(*a)) or built[-1])
    command_line(arguments("spcl", tmp_path, **KEYS))
    assert len(built) == 1
    assert ranked[:2] == [(0.5, 5, (ANIMALS * IMAGES, 5 + local.EXTRA))] * 2


def test_without_the_key_nothing_is_asked_of_local_matches(coats, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "local_features", None)
    command_line(arguments("cluster_contrast", tmp_path, **KEYS | {"PSEUDO_LABELS__LOCAL": 0, "SOLVER__MAX_EPOCH": 1}))
    oracle = {"PSEUDO_LABELS__ALGORITHM": "oracle", "SOLVER__MAX_EPOCH": 1}
    command_line(arguments("cluster_contrast", tmp_path, **KEYS | oracle))


def made_up() -> tuple[torch.Tensor, list[tuple]]:
    features = torch.randn(ANIMALS * IMAGES, 32, generator=torch.Generator().manual_seed(0))
    folder = os.path.join(os.environ["FASTREID_DATASETS"], "Coats")
    items = [(os.path.join(folder, f"{a}_{n}.png"), str(a), "0") for a in range(ANIMALS) for n in range(IMAGES)]
    return torch.nn.functional.normalize(features), items


def one_of_two(rank: int) -> torch.Tensor:
    features, items = made_up()
    cfg = configured("cluster_contrast", **KEYS)
    pairs = local_pairs(cfg, items) if rank == 0 else None
    distance = distance_together(features, cfg.PSEUDO_LABELS, pairs)
    return torch.empty(0) if distance is None else torch.from_numpy(distance.toarray())


def test_two_processes_have_the_distance_of_one(coats, tmp_path):
    features, items = made_up()
    cfg = configured("cluster_contrast", **KEYS)
    alone = distance_alone(features, cfg.PSEUDO_LABELS, local_pairs(cfg, items))
    assert not np.array_equal(alone.toarray(), clustering.jaccard_distance(features, 5, 2, 0.95).toarray())
    first, second = on_two_ranks(one_of_two, tmp_path)
    assert np.array_equal(first.numpy(), alone.toarray()) and len(second) == 0


def two_epochs_of_two(rank: int) -> torch.Tensor:
    features, items = made_up()
    method = SimpleNamespace(stored_features=lambda: {"original": features}, device=features.device)
    dataset = SimpleNamespace(img_items=items)
    hook = pseudo_labels.PseudoLabels(configured("cluster_contrast", **KEYS))
    hook.trainer = SimpleNamespace(model=method, data_loader=SimpleNamespace(dataset=dataset))
    distances = [hook.snapshot(epoch).distance for epoch in range(2)]
    return torch.tensor([distance.nnz for distance in distances if distance is not None])


def test_two_processes_go_on_to_a_second_epoch(coats, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "COLLECTIVE_TIMEOUT", timedelta(minutes=1))  # for processes that wait for each other
    first, second = on_two_ranks(two_epochs_of_two, tmp_path)
    assert len(first) == 2 and first[0] == first[1] > 0
    assert len(second) == 0, "the main process has the distances"


def test_local_matches_group_what_the_features_do_not(coats):
    features, items = made_up()
    cfg = configured("cluster_contrast", **KEYS)
    animals = np.repeat(np.arange(ANIMALS), IMAGES)

    def ari(pairs):
        labels = assign_labels(
            features, animals, None, cfg.PSEUDO_LABELS, lambda labels, *_: labels, pairs=pairs
        ).labels
        return clustering.grouping_scores(labels, animals)["ARI"]

    assert ari(local_pairs(cfg, items)) == 1.0
    assert ari(None) < 0.2


def test_links_move_images_and_make_clusters():
    # 5 is linked to 0 and 1 of cluster 0, which has two of the three; 3 and 4 are of two clusters of one image each
    # among the linked ones, and the first one wins; 8 and 9 are in no cluster, so they make one; 7 is left out.
    labels = np.array([0, 0, 0, 1, 2, 2, 1, -1, -1, -1])
    links = np.array([[0, 5], [1, 5], [3, 4], [8, 9]])
    assert linked_labels(labels, links).tolist() == [0, 0, 0, 1, 1, 0, 1, -1, 2, 2]
    assert linked_labels(labels, links[:0]).tolist() == labels.tolist()


def test_between_two_clusters_of_linked_images_no_order_of_images_decides():
    labels, links, keys = np.array([0, 0, 0, 1, 1, 1]), np.array([[2, 3]]), np.array([5, 1, 4, 3, 0, 2], np.uint64)
    assert linked_labels(labels, links, keys).tolist() == [0, 0, 1, 1, 1, 1], "3 has a smaller key than 2"
    assert linked_labels(labels[::-1].copy(), links, keys[::-1]).tolist() == [1, 1, 1, 1, 0, 0], "the same, reversed"


def test_links_that_join_most_images_are_left_out(caplog):
    # A chain of links would make one cluster of all.
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert linked_labels(labels, np.stack([np.arange(7), np.arange(1, 8)], axis=1)) is labels
    assert "Local links are left out" in caplog.text


def test_links_are_pairs_of_one_animal_in_every_epoch(coats, tmp_path):
    features, items = made_up()
    animals = np.repeat(np.arange(ANIMALS), IMAGES)
    pairs = local_pairs(configured("cluster_contrast", **KEYS), items)
    links = pairs.links(20)
    assert len(links) >= ANIMALS and (animals[links[:, 0]] == animals[links[:, 1]]).all()
    assert len(pairs.links(10**6)) == 0
    pairs.fuse(features, np.arange(len(features))[:, None] - 7, 1.0)  # verifies further pairs, as another encoder would
    assert np.array_equal(pairs.links(20), links)

    cfg = configured("cluster_contrast", **KEYS, PSEUDO_LABELS__LOCAL_LINKS=20)
    own = np.arange(len(features)) % 3  # the clusters of a method that makes its own, such as SpCL
    labels = assign_labels(features, animals, None, cfg.PSEUDO_LABELS, lambda *_: own, pairs=pairs).labels
    assert (labels[links[:, 0]] == labels[links[:, 1]]).all()

    keys = KEYS | {"PSEUDO_LABELS__LOCAL": 1e-6, "SOLVER__MAX_EPOCH": 1}
    for number in (0, 20):
        command_line(arguments("cluster_contrast", tmp_path / str(number), **keys, PSEUDO_LABELS__LOCAL_LINKS=number))
    without, with_links = (logged(tmp_path / str(number), "ari_all")[0] for number in (0, 20))
    assert with_links > without


def test_stations_and_sequences_of_two_data_sets_are_two(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path))
    for name in ("Kenya", "Nepal"):
        (tmp_path / name).mkdir()
        Image.fromarray(coat(0)).save(tmp_path / name / "a.png")
        (tmp_path / name / "metadata.csv").write_text("path,identity,split,station,sequence\na.png,1,train,01,1\n")
    known = photos_of(["Kenya", "Nepal"], [os.fspath(tmp_path / name / "a.png") for name in ("Kenya", "Nepal")])
    assert sorted((one.station, one.sequence) for one in known) == [("Kenya 01", "Kenya 1"), ("Nepal 01", "Nepal 1")]


@pytest.mark.parametrize("column", ["station", "camera"])
def test_what_repeats_at_a_station_or_a_camera_is_left_out(tmp_path, monkeypatch, column):
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path))
    (tmp_path / "Coats").mkdir()
    for n in range(3):
        Image.fromarray(under_text(coat(n))).save(tmp_path / f"Coats/{n}.png")
    (tmp_path / "Coats/metadata.csv").write_text(f"path,{column}\n0.png,04\n1.png,04\n2.png,04\n")
    items = [(os.fspath(tmp_path / f"Coats/{n}.png"), 0, 0) for n in range(3)]
    pairs = local_pairs(configured("cluster_contrast", **KEYS), items)
    alone = local.local_features([path for path, *_ in items])
    for left, before in zip(pairs.features, alone, strict=True):
        assert (left.points[:, 1] < 0.15).sum() < 0.2 * (before.points[:, 1] < 0.15).sum()


def test_what_pairs_of_a_data_set_are_known_to_show(monkeypatch):
    """a and b may be cut from one frame, g and h are of two cameras that may stand at one place: nothing is known."""
    monkeypatch.setattr(calibrate, "FEWEST", 1)
    photos = [
        Photo("a", sequence="s", camera="x", taken="2024-05-01 12:00:00"),
        Photo("b", sequence="s", camera="x", taken="2024-05-01 12:00:00"),
        Photo("c", sequence="t", camera="x", taken="2024-05-01 12:10:00"),
        Photo("d", sequence="t", camera="x", taken="2024-05-01 12:10:01"),
        Photo("e", station="1", taken="2024-05-01 13:00:00"),
        Photo("f", station="2", taken="2024-05-01 13:00:30"),
        Photo("g", camera="x", taken="2024-05-01 14:00:00"),
        Photo("h", camera="y", taken="2024-05-01 14:00:00"),
    ]
    asked = []

    def inliers(pairs):
        asked.append(["".join(photos[n].path for n in pair) for pair in pairs])
        return np.array([30 if len(asked) == 1 else 0])

    curve = learned_evidence(SimpleNamespace(inliers=inliers), photos)
    assert asked == [["cd"], ["ef"]] and curve(np.array([0, 30])).tolist() == pytest.approx([0, np.log(21)])


def test_links_without_local_matches_are_refused(coats, tmp_path):
    keys = KEYS | {"PSEUDO_LABELS__LOCAL": 0, "PSEUDO_LABELS__LOCAL_LINKS": 20}
    with pytest.raises(SystemExit, match="LOCAL_LINKS 20: needs local matches; set PSEUDO_LABELS.LOCAL to 0.2"):
        command_line(arguments("cluster_contrast", tmp_path, **keys))


def test_known_pairs_are_counted_and_the_rule_is_said(coats, caplog):
    with caplog.at_level(logging.INFO):
        local_pairs(configured("cluster_contrast", **KEYS), made_up()[1])
    assert "fixed rule w log(1 + inliers)" in caplog.text


def test_a_plan_counts_local_matches(coats, tmp_path, capsys):
    command_line(arguments("cluster_contrast", tmp_path / "run", "--plan", **KEYS))
    rows = re.findall(r"^\| ([\w ]+) \| (\d+) \| (\S+)", capsys.readouterr().out, flags=re.MULTILINE)
    times = {name: int(number) for name, number, _ in rows}
    assert (times["keypoints"], times["local matches"], times["clustering"]) == (1, 1, 3), "no pair is verified twice"
    assert all(float(seconds) > 0 for _, _, seconds in rows)


def test_a_negative_weight_is_refused(coats, tmp_path):
    with pytest.raises(SystemExit, match="PSEUDO_LABELS.LOCAL -0.1: expected at least 0"):
        command_line(arguments("cluster_contrast", tmp_path, **KEYS | {"PSEUDO_LABELS__LOCAL": -0.1}))


def test_matches_are_drawn(coats, tmp_path, capsys):
    visualize(["matches", "--number", "3", *arguments("cluster_contrast", tmp_path, **KEYS)])
    assert capsys.readouterr().out.strip().endswith(".png")
    entry = json.loads((tmp_path / "pictures/index.json").read_text())[0]
    assert entry["kind"] == "matches" and "3 of the 30 training images of Coats" in entry["caption"]
    assert "Solid green: one identity" in entry["caption"]
    with Image.open(tmp_path / "pictures" / entry["file"]) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100


def test_where_nothing_matches_there_is_nothing_to_draw(tmp_path, monkeypatch):
    (tmp_path / "Coats").mkdir()
    for n in range(3):
        Image.fromarray(coat(n)).save(tmp_path / f"Coats/{n}.png")
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path))
    with pytest.raises(SystemExit, match="No two of the 3 photographs have 5 local matches"):
        visualize(["matches", *arguments("cluster_contrast", tmp_path / "run", **KEYS)])


def test_the_benchmark_measures_what_local_matches_add(coats, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(REPO / "benchmarks")
    benchmark = runpy.run_path(os.fspath(REPO / "benchmarks/local.py"))
    options = ["INPUT.SIZE_TEST", "[64,64]", "PSEUDO_LABELS.K1", "5", "PSEUDO_LABELS.MIN_SAMPLES", "2"]
    monkeypatch.setattr("sys.argv", ["local.py", "Coats", "--weights", "0.5", "--opts", *options])
    benchmark["main"]()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    ari = {row[1]: float(row[3]) for row in cells if row[2:3] == ["Jaccard and DBSCAN"]}
    assert ari["fused, w 0.5"] == 1.0 > ari["frozen"]
    links = {row[1]: row for row in cells if row[:1] == ["Coats"] and row[1] in ("10", "15", "20", "30")}
    assert len(links) == 4 and {row[3] for row in links.values()} == {"1"}
    assert int(links["10"][2]) >= int(links["30"][2]) > 0
