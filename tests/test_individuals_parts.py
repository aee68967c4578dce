"""The parts of a discovery: constraints, certainty, sources, checks, intake."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastreid_fancl.clustering.constraints import RADII, Constraints, Link, labels_at, tree
from fastreid_fancl.individuals.candidates import Gallery, gallery_of, levels
from fastreid_fancl.individuals.certainty import ENOUGH, best_radius, calibrate, group
from fastreid_fancl.individuals.checks import association
from fastreid_fancl.individuals.decisions import add_decisions
from fastreid_fancl.individuals.intake import station_level, with_sequences
from fastreid_fancl.individuals.links import active, constraints_of
from fastreid_fancl.individuals.opening import new_project, prefix_of
from fastreid_fancl.individuals.rows import Decision, Individual, Photograph, read_table, table_text
from fastreid_fancl.individuals.sources import boxed, with_boxes, with_camtrapdp, with_table


def distance(*pairs: tuple[int, int, float], rows: int = 6) -> csr_matrix:
    """A sparse symmetric distance with these pairs."""
    a, b, value = zip(*pairs, strict=True)
    return csr_matrix((value * 2, (a + b, b + a)), shape=(rows, rows))


def at(matrix: csr_matrix, radius: float, **constraints) -> list[int]:
    bounds = Constraints(**constraints)
    found, _ = tree(matrix, bounds, 1.0)
    return labels_at(matrix.shape[0], bounds, found, [radius])[0].tolist()


CHAIN = distance((0, 1, 0.1), (1, 2, 0.2), (3, 4, 0.1), (4, 5, 0.2), (2, 3, 0.5))


def test_groups_merge_by_the_mean_of_their_pairs():
    # {0, 1} and 2: similarities 0 (not stored) and 0.8, mean 0.4, so radius 0.6. The halves: one pair of nine, 0.5 / 9.
    assert at(CHAIN, 0.15) == [0, 0, 1, 2, 2, 3]
    assert at(CHAIN, 0.59) == [0, 0, 1, 2, 2, 3]
    assert at(CHAIN, 0.61) == [0, 0, 0, 1, 1, 1]
    assert at(CHAIN, 0.94) == [0, 0, 0, 1, 1, 1]
    assert at(CHAIN, 0.95) == [0] * 6


def test_links_hold_at_every_radius():
    # {0, 5} and 1: one pair of two at similarity 0.9, mean 0.45, so not at radius 0.15.
    assert at(CHAIN, 0.15, must=[Link(0, 5, "")]) == [0, 1, 2, 3, 3, 0]
    assert at(CHAIN, 0.99, cannot=[Link(0, 2, "")])[0] != at(CHAIN, 0.99, cannot=[Link(0, 2, "")])[2]
    owners = ["A", "", "B", "", "", ""]
    labels = at(CHAIN, 0.99, owners=owners)
    assert labels[0] == labels[1] != labels[2]


def test_left_and_right_stay_apart_until_a_two_sided_sequence_joins_them():
    sides = ["left", "left", "right", "unknown", "unknown", "unknown"]
    assert at(CHAIN, 0.9, sides=sides)[:3] == [0, 0, 1]
    assert at(CHAIN, 0.9, sides=sides, must=[Link(0, 2, "a sequence")])[:3] == [0, 0, 0]


def test_pairs_that_were_refused_count_once_the_reason_is_gone():
    # {0} and {1} are the nearest, and two sides. {2, 3} has both; 1 joins it by a mean similarity of 0.8 / 2, at radius
    # 0.6. So {1, 2, 3} has both, and 0 joins it by 0.9 / 3, at radius 0.7.
    near = distance((0, 1, 0.1), (1, 2, 0.2), rows=4)
    known = {"sides": ["left", "right", "left", "right"], "must": [Link(2, 3, "a sequence")]}
    assert at(near, 0.65, **known) == [0, 1, 1, 1]
    assert at(near, 0.75, **known) == [0, 0, 0, 0]


def test_a_link_that_contradicts_is_refused_and_named():
    bounds = Constraints(must=[Link(0, 1, "burst"), Link(1, 2, "burst")], cannot=[Link(0, 2, "two boxes")])
    _, refused = tree(CHAIN, bounds, 0.9)
    assert [(one.link[:2], one.against) for one in refused] == [((1, 2), "two boxes")]


def blobs(groups: int = 5, each: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 32))
    truth = np.repeat(np.arange(groups), each)
    features = centres[truth] + rng.normal(scale=0.25, size=(len(truth), 32))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), truth


def test_clear_groups_are_certain_and_counted():
    features, truth = blobs()
    found = group(features, Constraints(), k1=8)
    assert len({*zip(found.labels.tolist(), truth.tolist(), strict=True)}) == 5
    assert found.interval == (5, 5) and found.stability == 1.0
    assert found.certainty.min() > 0.9


def test_a_photograph_between_two_animals_is_less_certain():
    features, _ = blobs()
    between = features[0] + features[8]
    features = np.concatenate([features, between[None] / np.linalg.norm(between)]).astype(np.float32)
    found = group(features, Constraints(), k1=8)
    assert found.certainty[-1] < found.certainty[:-1].mean()


def test_photographs_alone_do_not_count_as_groups_of_a_radius():
    """Two animals of 7 and 3: a share of 0.7, which two groups may have (0.8) and three may not (0.53)."""
    fine, coarse = [0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3], [0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2]
    labels = np.array([fine] * 10 + [coarse] * (len(RADII) - 10))
    scores = np.where(np.arange(len(RADII)) < 10, 0.5, 0.6)
    assert best_radius(labels, scores)[0] == 10


@pytest.mark.parametrize("rows", [1, 2])
def test_one_or_two_photographs_are_animals_of_their_own(rows):
    assert group(blobs()[0][:rows], Constraints()).labels.tolist() == list(range(rows))


def test_calibration_needs_enough_decisions_and_rises():
    assert calibrate([0.1, 0.9], [False, True]) is None
    scores = np.linspace(0, 1, ENOUGH)
    probability = calibrate(scores.tolist(), (scores > 0.5).tolist())
    assert probability(0.2) == 0 and probability(0.8) == 1
    assert calibrate(scores.tolist(), [True] * ENOUGH) is None


def test_candidates_name_each_animal_once_without_burst_mates():
    features = np.eye(4, dtype=np.float32)
    known = Gallery(features, ["B", "A", "A", "C"], ["s", "", "t", ""], ["0", "1", "2", "3"])
    query = np.array([[0.5, 0.6, 0.9, 0.1]], dtype=np.float32)
    assert [(one.individual, one.key) for one in known.candidates(query)[0]] == [("A", "2"), ("B", "0"), ("C", "3")]
    found = known.candidates(query, ["t"], ["0"])[0]
    assert [(one.individual, one.key) for one in found] == [("A", "1"), ("C", "3")]


def test_levels_accept_strangers_and_reject_known_ones_rarely():
    own, others = np.linspace(0.6, 1, 101), np.linspace(0, 0.8, 101)
    found = levels(own, others)
    assert found["accept"] == pytest.approx(0.76) and found["reject"] == pytest.approx(0.62)
    assert levels([], [0.5])["reject"] <= levels([], [0.5])["accept"]


def test_groups_that_are_stations_warn_and_random_ones_do_not():
    stations = np.repeat(np.arange(5), 12)
    assert association(stations, stations, "stations").warns
    assert association(stations, stations, "stations").share == pytest.approx(1)
    groups = np.random.default_rng(0).permutation(stations)
    assert not association(groups, stations, "stations").warns


def row(path: str, **values) -> Photograph:
    digest = hashlib.sha256(path.encode()).hexdigest()
    return Photograph(digest[:16], digest, path, **values)


ROWS = [row("st1/a.jpg"), row("st1/b.jpg"), row("st2/a.jpg")]


def test_boxes_of_a_detector_make_a_row_each_and_bursts_with_several_animals_no_links(tmp_path):
    detections = [
        {"category": "1", "conf": 0.9, "bbox": [0.5, 0.1, 0.4, 0.4]},
        {"category": "1", "conf": 0.8, "bbox": [0.0, 0.1, 0.4, 0.4]},
        {"category": "2", "conf": 0.9, "bbox": [0.0, 0.0, 1.0, 1.0]},
        {"category": "1", "conf": 0.1, "bbox": [0.0, 0.0, 1.0, 1.0]},
    ]
    images = [{"file": "D:/x/st1\\a.jpg", "detections": detections}, {"file": "st1/b.jpg", "detections": []}]
    content = {"images": images, "detection_categories": {"1": "animal", "2": "person"}}
    (tmp_path / "md.json").write_text(json.dumps(content))
    burst = [Photograph(**{**vars(one), "sequence": "s"}) for one in ROWS]
    found, note = with_boxes(burst, tmp_path / "md.json")
    assert [(one.path, one.box and one.box[0], one.status) for one in found] == [
        ("st1/a.jpg", 0.0, "unsure"),
        ("st1/a.jpg", 0.5, "unsure"),
        ("st1/b.jpg", None, "not_animal"),
        ("st2/a.jpg", None, "unsure"),
    ]
    assert found[1].key == found[0].key + "-2"
    assert "2 animals on 2 photographs, of which 1 show several animals and 1 none. Not looked at" in note
    assert note.endswith("compared whole: 1.")
    links = constraints_of(found, [])
    assert [link[:2] for link in links.cannot] == [(0, 1)] and not links.must


def test_a_photograph_on_which_the_detector_failed_is_compared_whole(tmp_path):
    images = [{"file": "st1/a.jpg", "detections": []}, {"file": "st1/b.jpg", "detections": None, "failure": "access"}]
    (tmp_path / "md.json").write_text(json.dumps({"images": images}))
    found, note = with_boxes(ROWS, tmp_path / "md.json")
    assert [one.status for one in found] == ["not_animal", "unsure", "unsure"]
    assert note.endswith("1 photograph, of which 0 show several animals and 1 none. Not looked at by the detector, and "
                         "therefore compared whole: 2.")  # fmt: skip


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is damaged"),
        ('{"images": [{"file": "other.jpg"}]}', "names none of the photographs"),
        ('{"images": [{"file": "st1/a.jpg", "detections": [{"conf": 1}]}]}', "a detection of st1/a.jpg"),
    ],
)
def test_a_wrong_file_of_boxes_is_refused(tmp_path, content, problem):
    (tmp_path / "md.json").write_text(content)
    with pytest.raises(ValueError, match=problem):
        with_boxes(ROWS, tmp_path / "md.json")


def test_a_table_gives_stations_times_and_sides(tmp_path):
    (tmp_path / "metadata.csv").write_text(
        "path,station,date,time,orientation\nst1/a.jpg,North,2024-06-03,00:30:00,left\nst2/a.jpg,,,,\n"
    )
    found, note = with_table(ROWS, tmp_path / "metadata.csv")
    assert (found[0].station, found[0].date_time, found[0].date_time_source, found[0].side) == (
        *("North", "2024-06-03T00:30:00", "table", "left"),
    )
    assert found[1] == ROWS[1] and "2 of 3 photographs are in it" in note


def test_camtrap_dp_gives_deployments_times_and_blanks(tmp_path):
    (tmp_path / "deployments.csv").write_text("deploymentID,locationID\nd1,North\n")
    (tmp_path / "media.csv").write_text(
        "mediaID,deploymentID,timestamp,filePath\nm1,d1,2024-06-03T00:30:00+03:00,media/st1/a.jpg\n"
        "m2,d1,2024-06-03T00:30:05+03:00,media/st1/b.jpg\nm3,d1,2024-06-03T00:40:00+03:00,media/st2/a.jpg\n"
    )
    (tmp_path / "observations.csv").write_text(
        "observationID,mediaID,eventID,observationType,bboxX,bboxY,bboxWidth,bboxHeight\n"
        "o1,m1,e1,animal,0.1,0.2,0.3,0.4\no2,m2,e1,blank,,,,\no3,m3,e2,unclassified,,,,\n"
    )
    found, _ = with_camtrapdp(ROWS, tmp_path)
    assert (found[0].station, found[0].date_time, found[0].sequence) == ("North", "2024-06-03T00:30:00", "e1")
    assert found[0].box == (0.1, 0.2, 0.3, 0.4) and found[1].status == "not_animal"
    assert (found[2].sequence, found[2].status) == ("e2", "unsure"), "nobody has looked at it yet"


def test_boxes_come_from_one_source(tmp_path):
    """A row of each source would give keys such as K-2-2, with which a project cannot be opened again."""
    box = {"category": "1", "conf": 0.9, "bbox": [0, 0, 1, 0.9]}
    (tmp_path / "md.json").write_text(json.dumps({"images": [{"file": "st1/a.jpg", "detections": [box]}]}))
    with pytest.raises(ValueError, match="--camtrapdp gives boxes, and so does --boxes: leave out --boxes"):
        with_boxes(boxed(ROWS[0], [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0)]), tmp_path / "md.json")
    blank = boxed(ROWS[0], [])
    assert with_boxes(blank, tmp_path / "md.json")[0] == blank, "what Camtrap DP calls blank stays so"


def test_sequences_end_at_the_gap_and_at_the_camera():
    times = ["2024-06-03T00:00:00", "2024-06-03T00:01:00", "2024-06-03T00:02:01"]
    rows = [row(f"{n}.jpg", camera="c", date_time=time) for n, time in enumerate(times)]
    rows.append(row("other.jpg", camera="d", date_time=times[0]))
    names = [one.sequence for one in with_sequences(rows)]
    assert names[0] == names[1] and len(set(names)) == 3
    assert len({one.sequence for one in with_sequences(rows, gap=61)}) == 2


def test_sequences_of_two_seasons_never_have_one_name():
    """A clock that falls back at each change of batteries, and a table that counts from 1."""
    reset = {"station": "s", "camera": "s", "date_time": "2019-01-01T00:00:10"}
    names = [with_sequences([row("a.jpg", season=season, **reset)])[0].sequence for season in ("2023", "2024")]
    assert names == ["2023 s 2019-01-01T00:00:10", "2024 s 2019-01-01T00:00:10"]
    assert with_sequences([row("a.jpg", season="2024", sequence="1")])[0].sequence == "2024 1"


def test_folders_of_animals_are_not_stations():
    cameras = [row(f"{station}/IMG_{n:04d}.jpg") for station in "ab" for n in range(9)]
    animals = [
        row(f"{animal}/IMG_{n:04d}.jpg") for animal, start in (("a", 0), ("b", 20)) for n in range(start, start + 9)
    ]
    deep = [row(f"cards/{station}/IMG_{n:04d}.jpg") for station in "ab" for n in range(9)]
    assert (station_level(cameras), station_level(animals), station_level(deep)) == (1, 0, 2)


def test_an_undoing_can_be_undone():
    same, undo = Decision("1", "", "same", "a", "b"), Decision("2", "", "undo", "1")
    assert active([same]) == [same] and active([same, undo]) == []
    assert active([same, undo, Decision("3", "", "undo", "2")]) == [same]


def decided(rows: list[Photograph], *decisions: tuple) -> tuple[list[str], list[str]]:
    """Animal and status of each photograph after decisions (kind, a, b) on them, and what was not followed."""
    project = new_project("lions", "none")
    project.photographs = rows
    project.animals = [Individual(name) for name in ("LION-001", "LION-002", "LION-003")]
    _, problems = add_decisions(project, [Decision(f"t{n}", "", *one) for n, one in enumerate(decisions)])
    return [f"{one.individual} {one.status}" for one in project.photographs], problems


def burst(*animals: tuple[str, str, str]) -> list[Photograph]:
    """Photographs (path, animal, status) of one sequence; those of one path are boxes of one photograph."""
    rows: list[Photograph] = []
    for path, individual, status in animals:
        boxes = sum(one.path == path for one in rows)
        one = row(path, individual=individual, status=status, sequence="s")
        rows.append(replace(one, key=one.key + f"-{boxes + 1}" * bool(boxes)))
    return rows


def test_a_decision_on_an_unsure_photograph_leaves_those_of_its_likeliest_animal():
    rows = burst(("1", "LION-001", "confirmed"), ("2", "LION-001", "confirmed"), ("2", "LION-001", "unsure"))
    one, first, unsure = (f"{one.individual} {one.status}" for one in rows)
    assert decided(rows, ("is", rows[2].key, "LION-002"))[0] == [one, first, "LION-002 confirmed"]
    assert decided(rows, ("new", rows[2].key))[0] == [one, first, "LION-004 confirmed"]
    assert decided(rows, ("is_not", rows[2].key, "LION-001"))[0] == [one, first, " unsure"]
    further = replace(row("3"), individual="LION-002", status="proposed")
    assert decided([*rows, further], ("same", rows[2].key, further.key))[0][:2] == [one, first]


def test_a_burst_brings_no_second_box_of_a_photograph_into_an_animal():
    rows = burst(("1", "LION-001", "proposed"), ("2", "LION-001", "proposed"), ("2", "LION-002", "proposed"))
    expected = ["LION-002 confirmed", "LION-001 single", "LION-002 proposed"]
    assert decided(rows, ("is", rows[0].key, "LION-002"))[0] == expected
    # Both boxes of 2 are where 1 is: nobody said which of them is its animal.
    rows = burst(("1", "LION-001", "unsure"), ("2", "LION-001", "unsure"), ("2", "LION-001", "unsure"))
    expected = ["LION-002 confirmed", "LION-001 unsure", "LION-001 unsure"]
    assert decided(rows, ("is", rows[0].key, "LION-002"))[0] == expected


def test_same_joins_no_two_boxes_of_one_photograph():
    rows = burst(("1", "LION-001", "proposed"), ("2", "LION-001", "proposed"), ("2", "", "unsure"))
    found, problems = decided(rows, ("same", rows[2].key, rows[0].key))
    assert found == [f"{one.individual} {one.status}" for one in rows]
    assert problems == ['The decision "same" of t0 is not followed: LION-001 is on 2 already, in another box.']
    # 1 and a box of 2 are a burst; the other box of 2 is named, so that only 1 joins it.
    rows = burst(("1", "LION-001", "unsure"), ("2", "LION-001", "unsure"), ("2", "LION-002", "unsure"))
    expected = ["LION-004 confirmed", "LION-001 unsure", "LION-004 confirmed"]
    assert decided(rows, ("same", rows[0].key, rows[2].key))[0] == expected


def test_different_against_a_chain_of_same_is_reported_and_not_followed():
    a, b, c = rows = [row(path, individual="LION-001", status="proposed") for path in "abc"]
    chain = ("same", a.key, c.key), ("same", c.key, b.key)
    found, problems = decided(rows, *chain, ("different", a.key, b.key))
    assert found == ["LION-001 confirmed"] * 3
    assert problems == [
        'The decision "different" of t2 is not followed: you said on t1 that c and b are the same: undo that first.'
    ]
    undone = decided(rows, *chain, ("undo", "t1"), ("different", a.key, b.key))
    assert (undone[0][0][:8], undone[0][1][:8], undone[1]) == ("LION-001", "LION-004", [])


def test_different_parts_photographs_whose_features_were_removed():
    """Nothing is near anything, so the third photograph stays with the part of the smaller key."""
    rows = [row(path, individual="LION-001", status="proposed") for path in "abc"]
    found, problems = decided(rows, ("different", rows[0].key, rows[1].key))
    assert sorted(found) == ["LION-001 proposed", "LION-001 proposed", "LION-004 single"] and not problems
    assert found[0] != found[1]


def test_tables_are_read_as_they_were_written_and_damage_is_named(tmp_path):
    rows = [
        row("=1+1.jpg", box=(0.1, 0.2, 0.3, 0.4), score=0.5, individual="LION-001", status="single"),
        row("-x/ä.jpg", note="@n"),
    ]
    (tmp_path / "t.csv").write_text(table_text(rows, Photograph), encoding="utf-8")
    assert read_table(tmp_path / "t.csv", Photograph) == rows
    assert "'=1+1.jpg" in (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("single", "married"))
    with pytest.raises(ValueError, match="row 2: expected status to be one of confirmed, .*, got 'married'"):
        read_table(tmp_path / "t.csv", Photograph)


@pytest.mark.parametrize(
    ("folder", "prefix"),
    [
        ("lions", "LION"),
        ("Snow leopards 2024", "SNOW_LEOPARD"),
        ("löwen", "LOWEN"),
        ("123", "ANIMAL"),
        ("grass", "GRASS"),
    ],
)
def test_the_prefix_is_the_folders_name_in_the_singular(folder, prefix):
    assert prefix_of(folder) == prefix


def test_scores_are_those_of_the_lists_of_candidates():
    """`own_and_other` and `likeliest` are short cuts: the plain way sorts all animals of each photograph."""
    features, truth = blobs(groups=6, each=4)
    owners = [f"A-{n:03d}" if n != 5 else "" for n in truth]
    sequences, keys = [str(n // 2) for n in range(len(truth))], [f"{n:016x}" for n in range(len(truth))]
    rows = [
        Photograph(k, k, k, sequence=s, individual=o, status="proposed")
        for k, s, o in zip(keys, sequences, owners, strict=True)
    ]
    known = gallery_of(rows, features)
    every = known.candidates(features, sequences, keys, top=6)
    for owner, listed, (own, other) in zip(
        owners, every, known.own_and_other(features, owners, sequences, keys), strict=True
    ):
        assert own == next((one for one in listed if one.individual == owner), None)
        assert other == next(one for one in listed if one.individual != owner)
    # The mean over the photographs of a burst: both orders of summing agree to rounding.
    burst = features[8:10]
    means = {
        name: np.mean(
            [one.score for listed in known.candidates(burst, top=6) for one in listed if one.individual == name]
        )
        for name in known.names
    }
    best = known.likeliest(burst)
    assert best.individual == max(means, key=means.__getitem__) == "A-002"
    assert best.score == pytest.approx(means["A-002"], abs=1e-6)
    assert known.likeliest(burst, "A-004").score == pytest.approx(means["A-004"], abs=1e-6)
    assert known.likeliest(burst, "A-009") is None
    assert gallery_of([], features[:0]).own_and_other(features[:1], ["A"], [""], [""]) == [(None, None)]
