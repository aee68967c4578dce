"""Leave-one-out: from tables and folders to the queries, and the scores by plain loops."""

import csv
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import on_two_ranks
from support.photo_folders import names, rejected, table, tree, wild
from support.runs import TINY, arguments, by_name, configured

from fastreid_fancl import load_config
from fastreid_fancl.compare.jobs import list_jobs
from fastreid_fancl.data.datasets.photos import Photo
from fastreid_fancl.data.datasets.protocols import Protocol, leave_one_out
from fastreid_fancl.engine.evaluation import ProtocolEvaluator
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.logs import log_once
from fastreid_fancl.report.systems import check_datasets
from fastreid_fancl.runs.read import datasets as of_config
from fastreid_fancl.runs.read import read_run

pytestmark = pytest.mark.usefixtures("root")


def scores_by_loops(photos, features) -> dict[str, float]:
    """mAP, Rank-1, Rank-5, mINP in percent: each photograph against all others, without burst-mates of its animal."""
    precisions, first_right, five_right, penalties = [], [], [], []
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for one, photo in enumerate(photos):
        kept = []
        for other, candidate in enumerate(photos):
            same = candidate.identity == photo.identity
            mate = photo.sequence is not None and candidate.sequence == photo.sequence
            if other != one and not (same and mate):
                kept.append((-float(unit[one] @ unit[other]), same))
        kept.sort()
        hits = [rank for rank, (_, same) in enumerate(kept, start=1) if same]
        if hits:
            precisions.append(sum(n / rank for n, rank in enumerate(hits, start=1)) / len(hits))
            first_right.append(hits[0] == 1)
            five_right.append(hits[0] <= 5)
            penalties.append(len(hits) / hits[-1])
    means = (100 * float(np.mean(values)) for values in (precisions, first_right, five_right, penalties))
    return dict(zip(("mAP", "Rank-1", "Rank-5", "mINP"), means, strict=True))


def random_photos(seed: int = 0) -> tuple[list[Photo], np.ndarray]:
    """Animals of 1 to 8 photographs in sequences of which some are shared by animals and some are not known."""
    rng = np.random.default_rng(seed)
    photos, features = [], []
    for animal in range(12):
        centre = rng.normal(size=16)
        for number in range(rng.integers(1, 9)):
            sequence = None if rng.random() < 0.3 else f"s{rng.integers(20)}"
            photos.append(Photo(f"{animal}_{number}.jpg", f"animal {animal}", "test", sequence=sequence))
            features.append(centre + 1.2 * rng.normal(size=16))
    return photos, np.array(features, dtype=np.float32)


def evaluate(test: Protocol, features: dict[str, np.ndarray], path) -> dict[str, float]:
    """What the engine's evaluator says of photographs with these features, given in two batches."""
    evaluator = ProtocolEvaluator(load_config(), test, str(path))
    for items in (test.photographs[:2], test.photographs[2:]):
        rows, pids, camids = zip(*items, strict=True)
        batch = {"targets": torch.tensor(pids), "camids": torch.tensor(camids)}
        evaluator.process(batch, torch.from_numpy(np.stack([features[row] for row in rows])))
    return evaluator.evaluate()


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_plain_loops(tmp_path, seed):
    photos, features = random_photos(seed)
    by_path = dict(zip((photo.path for photo in photos), features, strict=True))
    found = evaluate(leave_one_out(photos), by_path, tmp_path / "queries.csv")
    expected = scores_by_loops(photos, features)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_no_number_depends_on_the_order_of_the_photographs(tmp_path):
    photos, features = random_photos()
    photos, features = [*photos, Photo("twin.jpg", "another", "test")], np.concatenate([features, features[:1]])
    by_path = dict(zip((photo.path for photo in photos), features, strict=True))
    scores = [evaluate(leave_one_out(own), by_path, tmp_path / "queries.csv") for own in (photos, photos[::-1])]
    assert scores[0] == scores[1]


def test_a_photograph_is_encoded_once_and_only_animals_of_one_photograph_are_no_queries():
    photos = [Photo("c", "Bo"), Photo("a", "Ada"), Photo("b", "Ada"), Photo("d", "Cy", sequence="s")]
    test = leave_one_out(photos)
    assert [path for path, *_ in test.query] == ["a", "b"]
    assert [path for path, *_ in test.gallery] == ["a", "b", "c", "d"]
    assert [path for path, *_ in test.photographs] == ["a", "b", "c", "d"]
    # a, b, then the whole gallery
    assert test.rows == [0, 1, 0, 1, 2, 3] and test.leaves_one_out and test.names == ["Ada", "Bo", "Cy"]
    assert not Protocol([("a", 0, 0)], [("a", 0, 1)], []).leaves_one_out


def test_each_query_has_a_row_with_the_name_of_its_animal(tmp_path):
    # a is nearest to b, its burst-mate, which does not count; then to c of the other animal; then to d.
    photos = [Photo("a", "Ada", sequence="s"), Photo("b", "Ada", sequence="s"), Photo("c", "Bo"), Photo("d", "Ada")]
    angles = {"a": 0.0, "b": 0.1, "c": 0.5, "d": 1.0}
    features = {path: np.array([np.cos(v), np.sin(v)], dtype=np.float32) for path, v in angles.items()}
    found = evaluate(leave_one_out(photos), features, tmp_path / "queries.csv")
    with open(tmp_path / "queries.csv") as file:
        rows = list(csv.reader(file))
    # d: c first, then b and a: precision (1/2 + 2/3) / 2
    assert rows == [
        ["path", "identity", "ap", "first_rank"],
        ["a", "Ada", "0.500000", "2"],
        ["b", "Ada", "0.500000", "2"],
        ["d", "Ada", f"{(1 / 2 + 2 / 3) / 2:.6f}", "2"],
    ]
    assert found["Rank-1"] == 0 and found["mAP"] == pytest.approx(100 * (1 + (1 / 2 + 2 / 3) / 2) / 3)


# tables and folders


def test_test_photographs_are_queries_against_each_other(root):
    table(root, "path,identity,split", "a.png,1,train", "d.png,2,test", "c.png,3,test", "b.png,2,test")
    data = wild()
    assert names(data.query).keys() == {"b.png", "d.png"} and names(data.gallery).keys() == {"b.png", "c.png", "d.png"}
    assert len({camid for _, camid in names(data.gallery).values()}) == 3, "each a sequence of its own"
    assert data.test_identities == ["2", "3"] and data.leaves_one_out
    assert all(type(value) is int for item in data.gallery for value in item[1:])


def test_a_table_may_be_all_test(root):
    table(root, "path,identity,split", "a.png,1,test", "b.png,1,test")
    data = wild()
    assert not data.train and len(data.query) == 2
    data.show_test()
    data.combine_all()
    assert [pid for _, pid, _ in data.train] == ["Wild_1"] * 2


def test_a_sequence_may_hold_two_animals_and_is_one_number(root):
    rows = ("a.png,1,test,s", "b.png,2,test,s", "c.png,1,test,", "d.png,2,test,t")
    table(root, "path,identity,split,sequence", *rows)
    camids = {name: camid for name, (_, camid) in names(wild().gallery).items()}
    assert camids["a.png"] == camids["b.png"] and len(set(camids.values())) == 3


@pytest.mark.parametrize(
    ("header", "moments"),
    [
        ("date_time,camera", ("2024:05:01 23:59:30,x", "2024:05:02 00:00:30,x", "2024:05:02 00:01:31,x")),
        ("date,time,station", ("2024-05-01,23:59:30,x", "2024-05-02,00:00:30,x", "2024-05-02,00:01:31,x")),
    ],
)
def test_photographs_of_a_camera_a_minute_apart_are_of_one_sequence(root, header, moments):
    # a and b are 60 s apart, b and c 61 s; d is another camera's
    rows = [f"{name}.png,1,test,{moment}" for name, moment in zip("abc", moments, strict=True)]
    table(root, f"path,identity,split,{header}", *rows[::-1], f"d.png,1,test,{moments[0][:-1]}y")
    sequences = {photo.path[-5]: photo.sequence for photo in wild().photos}
    assert sequences["a"] == sequences["b"] and len(set(sequences.values())) == 3


def test_cameras_of_the_same_name_at_two_stations_have_their_own_bursts(root):
    moment = "2024-05-01 10:00:00"
    rows = (f"a.png,ST01,left,{moment}", f"b.png,ST02,left,{moment}", f"c.png,ST01,right,{moment}")
    table(root, "path,station,camera,date_time", *rows, f"d.png,ST01,left,{moment}")
    sequences = {photo.path[-5]: photo.sequence for photo in wild().photos}
    assert sequences["a"] == sequences["d"] and len(set(sequences.values())) == 3


def test_a_sequence_number_of_two_cameras_is_two_sequences(root, caplog):
    rows = ("a.png,1,test,x,7", "b.png,1,test,y,7", "c.png,1,test,x,7", "d.png,1,test,x,8")
    table(root, "path,identity,split,camera,sequence", *rows)
    camids = {name: camid for name, (_, camid) in names(wild().gallery).items()}
    assert camids["a.png"] == camids["c.png"] and len(set(camids.values())) == 3
    assert "1 name of sequences at several stations or cameras\n  7\n" in caplog.text


def test_a_sequence_of_two_cameras_of_one_station_stays_one(root, caplog):
    rows = ("a.png,1,test,S,x,7", "b.png,1,test,S,y,7", "c.png,1,test,S,,7", "d.png,1,test,T,x,8")
    table(root, "path,identity,split,station,camera,sequence", *rows)
    assert [photo.sequence for photo in wild().photos] == ["7", "7", "7", "8"]
    assert "several stations" not in caplog.text


@pytest.mark.parametrize(
    ("header", "moment", "message"),
    [
        ("date,time", "2024-05-01,10:00:00", "from date and time, as no row also has a camera or station"),
        ("date_time", "2024-05-01 10:00:00", "from date_time, as no row also has a camera or station"),
        ("camera,date", "x,2024-05-01", "from date, as no row also has the time of day"),
        ("camera,time", "x,10:00:00", "from time, as no row also has the date"),
        ("camera,date,sequence", "x,2024-05-01,s", None),
        ("camera,date_time", "x,2024-05-01 10:00:00", None),
    ],
)
def test_dates_and_times_that_give_no_sequence_are_named(root, caplog, header, moment, message):
    log_once.cache_clear()
    table(root, f"path,identity,{header}", *(f"{name}.png,1,{moment}" for name in "abcd"))
    wild()
    assert ("no sequences follow" in caplog.text) == bool(message)
    assert (message or "") in caplog.text
    assert ("Photographs of one burst count as matches" in caplog.text) == bool(message)


def test_a_chain_of_photographs_is_one_sequence_and_a_given_name_wins(root):
    rows = (
        "a.png,2024-05-01 10:00,x,",
        "b.png,2024-05-01T10:01:00Z,x,",
        "c.png,2024-05-01 10:02,x,",
        "d.png,2024-05-01 10:01,x,own",
    )
    table(root, "path,date_time,camera,sequence", *rows)
    sequences = {photo.path[-5]: photo.sequence for photo in wild().photos}
    assert sequences["a"] == sequences["b"] == sequences["c"] != sequences["d"] == "own"


def test_midnights_that_photographs_share_are_no_sequence(root):
    rows = ("a.png,2024-05-01 00:00:00,x", "b.png,2024-05-01 00:00:00,x", "c.png,2024-05-02 00:00:00,x")
    table(root, "path,date_time,camera", *rows)
    sequences = {photo.path[-5]: photo.sequence for photo in wild().photos}
    assert sequences["a"] is sequences["b"] is None and sequences["c"] == "x 2024-05-02T00:00:00"


def test_times_that_cannot_be_read_are_named_and_those_without_a_camera_tell_nothing(root, caplog):
    rows = ("a.png,01/05/2024 10:00,x", "b.png,2024-13-01 10:00,x", "c.png,2024-05-01 10:00,", "d.png,,x")
    table(root, "path,date_time,camera", *rows)
    assert [photo.sequence for photo in wild().photos] == [None] * 4
    assert "2 times cannot be read" in caplog.text and "metadata.csv line 2: 01/05/2024 10:00" in caplog.text
    assert "2024-05-31 23:59:59" in caplog.text


def test_a_folder_test_beside_train_is_read(root, caplog):
    tree(root, "train/ann/a.jpg", "test/bob/b.jpg", "test/bob/c.jpg", "test/cid/d.jpg", "extra/e.jpg")
    data = wild()
    assert len(data.train) == 1 and names(data.query).keys() == {"b.jpg", "c.jpg"} and len(data.gallery) == 3
    assert "1 photographs outside train and test are not used" in caplog.text


def test_test_beside_query_and_gallery_is_refused(root):
    table(root, "path,identity,split", "a.png,1,test", "b.png,1,query", "c.png,1,gallery")
    with rejected(r"Wild: expected photographs of the split test, or of query and gallery, got both \(query 1, .*none"):
        wild()
    tree(root, "test/1/a.jpg", "query/1/b.jpg", name="Other")
    with rejected("Other: expected photographs of the split test, or of query and gallery"):
        wild("Other")


def test_test_photographs_need_an_identity(root):
    table(root, "path,identity,split", "a.png,,test")
    with rejected("line 2: test photographs need an identity"):
        wild()
    tree(root, "test/a.jpg", name="Other")
    with rejected("test/a.jpg lies in no folder of an identity"):
        wild("Other")


def test_animals_of_one_sequence_or_of_one_photograph_cannot_be_scored(root, caplog):
    table(root, "path,identity,split,sequence", "a.png,1,test,s", "b.png,1,test,s", "c.png,2,test,", "d.png,2,test,")
    wild().show_test()
    assert "2 of 4 queries have no match from another sequence and are not scored" in caplog.text
    table(root, "path,identity,split,sequence", "a.png,1,test,s", "b.png,1,test,s", name="Burst")
    with rejected("no query has a gallery photograph .*another sequence"):
        wild("Burst").show_test()
    table(root, "path,identity,split", "a.png,1,test", "b.png,2,test", name="Singles")
    with rejected("Singles has no query photographs"):
        wild("Singles").show_test()


def test_query_and_gallery_keep_their_cameras_whatever_their_sequences(root):
    rows = ("a.png,1,query,x,s", "b.png,1,gallery,y,s", "c.png,1,gallery,x,t")
    table(root, "path,identity,split,camera,sequence", *rows)
    data = wild()
    assert names(data.query) == {"a.png": (0, 0)} and names(data.gallery) == {"b.png": (0, 1), "c.png": (0, 0)}


# through the command line


@pytest.fixture
def shot(datasets, tmp_path, monkeypatch):
    """Write `Stripes` with another split column and with sequences of two photographs: a function of both."""

    def write(split=lambda row: "test" if row["split"] != "train" else "train", sequences=True) -> None:
        with open(datasets / "Stripes/metadata.csv") as file:
            rows = list(csv.DictReader(file))
        lines = ["path,identity,split,sequence"]
        for number, row in enumerate(rows):
            path, name = datasets / "Stripes" / row["path"], f"s{number // 2}" if sequences else ""
            lines.append(f"{path},{row['identity']},{split(row)},{name}")
        table(tmp_path / "own", *lines, name="Stripes", files=())
        monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "own"))

    (tmp_path / "own/Stripes").mkdir(parents=True)
    return write


def metrics_and_queries(folder) -> tuple[dict[str, float], list[dict[str, str]]]:
    with open(folder / "queries.csv") as file:
        return {name: values[-1] for name, values in by_name(folder).items()}, list(csv.DictReader(file))


def test_a_run_with_a_split_test_is_scored_by_leave_one_out(shot, tmp_path):
    shot()
    command_line(arguments("cluster_contrast", tmp_path / "run", SOLVER__MAX_EPOCH=1, **TINY))
    scores, queries = metrics_and_queries(tmp_path / "run")
    # 3 animals of 6 photographs, all of them queries
    assert Counter(query["identity"] for query in queries) == {"6": 6, "7": 6, "8": 6}
    assert scores["mAP"] == pytest.approx(100 * np.mean([float(query["ap"]) for query in queries]), abs=1e-3)
    assert "Start inference on 18 images" in (tmp_path / "run/log.txt").read_text(), "each is encoded once"


def test_photographs_trained_on_can_be_scored_and_are_marked(shot, tmp_path, caplog):
    shot()
    opts = {"TEST__TRANSDUCTIVE": True, "SOLVER__MAX_EPOCH": 1, **TINY}
    command_line(arguments("cluster_contrast", tmp_path / "train", **opts))
    _, queries = metrics_and_queries(tmp_path / "train")
    assert {query["identity"] for query in queries} == set("012345") and len(queries) == 36
    log = (tmp_path / "train/log.txt").read_text()
    assert "TRANSDUCTIVE: the scores are of the photographs that were trained on" in log
    command_line(arguments("cluster_contrast", tmp_path / "all", DATASETS__COMBINEALL=True, **opts))
    assert len(metrics_and_queries(tmp_path / "all")[1]) == 54
    run = read_run(tmp_path / "train")
    assert run.datasets == (("Stripes",), ("Stripes (transductive: the photographs trained on)",))
    other = run.config | {"TEST": run.config["TEST"] | {"TRANSDUCTIVE": False}}
    with rejected("Expected runs of the same data sets"):
        check_datasets({"one": run.datasets, "other": of_config(other)})


def test_a_test_split_that_is_trained_on_is_marked_too(shot, tmp_path):
    shot()
    command_line(
        arguments("cluster_contrast", tmp_path / "run", SOLVER__MAX_EPOCH=1, DATASETS__COMBINEALL=True, **TINY)
    )
    assert len(metrics_and_queries(tmp_path / "run")[1]) == 18
    log = (tmp_path / "run/log.txt").read_text()
    assert "TRANSDUCTIVE" in log and "another data set" not in log
    assert read_run(tmp_path / "run").datasets[1] == ("Stripes (transductive: the photographs trained on)",)


@pytest.mark.parametrize("combined", [True, False])
def test_an_evaluation_alone_marks_a_test_that_its_weights_were_trained_on(shot, tmp_path, combined):
    shot()
    opts = {"DATASETS__TESTS": "()", "DATASETS__COMBINEALL": combined, "SOLVER__MAX_EPOCH": 1, **TINY}
    command_line(arguments("cluster_contrast", tmp_path / "run", **opts))
    final = {"MODEL__WEIGHTS": tmp_path / "run/model_final.pth"}
    command_line(arguments("cluster_contrast", tmp_path / "scores", "--eval-only", **TINY, **final))
    log = (tmp_path / "scores/log.txt").read_text()
    assert log.count("TRANSDUCTIVE: the scores are of the photographs that were trained on") == combined


@pytest.mark.parametrize("key", ["MODEL__WEIGHTS", "MODEL__BACKBONE__PRETRAIN_PATH"])
def test_a_run_that_starts_from_weights_of_the_test_is_marked(shot, tmp_path, key):
    shot()
    opts = {"SOLVER__MAX_EPOCH": 1, **TINY}
    command_line(
        arguments("cluster_contrast", tmp_path / "first", DATASETS__TESTS="()", DATASETS__COMBINEALL=True, **opts)
    )
    start = {key: tmp_path / "first/model_final.pth", "MODEL__BACKBONE__PRETRAIN": "PRETRAIN" in key}
    command_line(arguments("cluster_contrast", tmp_path / "run", **opts, **start))
    command_line(arguments("cluster_contrast", tmp_path / "run", "--resume", **opts | {"SOLVER__MAX_EPOCH": 2}))
    shutil.rmtree(tmp_path / "first")
    assert "TRANSDUCTIVE: the scores are" in (tmp_path / "run/log.txt").read_text()
    assert read_run(tmp_path / "run").datasets[1] == ("Stripes (transductive: the photographs trained on)",)


def test_a_comparison_refuses_such_a_start_beside_others_before_it_trains(shot, tmp_path):
    shot()
    (tmp_path / "first").mkdir()
    opts = {"DATASETS__COMBINEALL": True, **TINY}
    (tmp_path / "first/config.yaml").write_text(configured("cluster_contrast", **opts).dump())
    words = arguments("cluster_contrast", "", **TINY)[2:-2]
    one, other = (tmp_path / f"{name}.yml" for name in ("one", "other"))
    base = f"_BASE_: {arguments('cluster_contrast', '')[1]}\n"
    one.write_text(base)
    other.write_text(base + f"MODEL: {{WEIGHTS: {tmp_path / 'first/model_final.pth'}}}\n")
    assert len(list_jobs([one], [0], tmp_path / "out", words)) == 1
    with rejected("other was trained on Stripes, tested on Stripes .transductive"):
        list_jobs([one, other], [0], tmp_path / "out", words)


def test_an_evaluation_alone_needs_no_training_photographs(shot, tmp_path):
    shot(split=lambda row: "test")
    command_line(arguments("cluster_contrast", tmp_path / "run", "--eval-only", **TINY))
    with open(tmp_path / "run/queries.csv") as file:
        assert len(list(csv.DictReader(file))) == 54


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"TEST__TRANSDUCTIVE": True, "DATASETS__NAMES": "('Other',)"}, "Stripes of DATASETS.TESTS is not in"),
        ({"TEST__RERANK__ENABLED": True}, "set TEST.RERANK.ENABLED False"),
        ({"TEST__AQE__ENABLED": True}, "set TEST.AQE.ENABLED False"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_training(shot, tmp_path, changes, message):
    shot()
    shutil.copytree(tmp_path / "own/Stripes", tmp_path / "own/Other")
    with pytest.raises(SystemExit, match=message):
        command_line(arguments("cluster_contrast", tmp_path / "run", **TINY, **changes))


def score_on_two_processes(rank: int) -> dict[str, float]:
    """The scores of one evaluation, each process with its share of the photographs."""
    photos, features = random_photos()
    test = leave_one_out(photos)
    by_path = dict(zip((photo.path for photo in photos), features, strict=True))
    half = len(test.photographs) // 2
    evaluator = ProtocolEvaluator(load_config(), test, os.devnull if rank else "queries.csv")
    rows, pids, camids = zip(*(test.photographs[half:] if rank else test.photographs[:half]), strict=True)
    batch = {"targets": torch.tensor(pids), "camids": torch.tensor(camids)}
    evaluator.process(batch, torch.from_numpy(np.stack([by_path[row] for row in rows])))
    return {name: float(value) for name, value in evaluator.evaluate().items()}


def test_several_processes_score_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos, features = random_photos()
    by_path = dict(zip((photo.path for photo in photos), features, strict=True))
    alone = evaluate(leave_one_out(photos), by_path, tmp_path / "queries.csv")
    first, second = on_two_ranks(score_on_two_processes, tmp_path)
    assert second == {} and first == pytest.approx(alone)
