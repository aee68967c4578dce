"""The parts of a discovery: constraints, certainty, sources, checks, intake."""

import csv
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from test_individuals_discover import Colours, discover, photograph

from fastreid_fancl.clustering.constraints import RADII, Constraints, Link, labels_at, linked, tree
from fastreid_fancl.errors import UserError
from fastreid_fancl.individuals import project as projects
from fastreid_fancl.individuals.additions import take_in
from fastreid_fancl.individuals.candidates import Gallery, gallery_of, levels
from fastreid_fancl.individuals.certainty import ENOUGH, best_radius, calibrate, group
from fastreid_fancl.individuals.checks import association
from fastreid_fancl.individuals.decisions import add_decisions
from fastreid_fancl.individuals.discover import Report
from fastreid_fancl.individuals.encode import Features, cache_key
from fastreid_fancl.individuals.export.contents import parse_zone
from fastreid_fancl.individuals.identify import assign
from fastreid_fancl.individuals.intake import Intake
from fastreid_fancl.individuals.ledger import Ledger, contradictions
from fastreid_fancl.individuals.links import MOVED, active, constraints_of, rejections
from fastreid_fancl.individuals.notes import BESIDE, NO_ANIMAL, NOT_OURS, SEEN
from fastreid_fancl.individuals.opening import new_project, prefix_of
from fastreid_fancl.individuals.project import Project
from fastreid_fancl.individuals.rows import Decision, Individual, Photograph
from fastreid_fancl.individuals.sequences import long_sequences, with_sequences
from fastreid_fancl.individuals.sources import boxed, common_offset, with_boxes, with_camtrapdp, with_table
from fastreid_fancl.individuals.stations import station_level, stations_note
from fastreid_fancl.individuals.storage import read_table, table_text


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


def test_a_photograph_of_both_sides_joins_left_and_right():
    sides = ["left", "both", "right", "unknown", "unknown", "unknown"]
    assert at(CHAIN, 0.9, sides=sides)[:3] == [0, 0, 0]


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
    assert calibrate([*scores, 0.1], [True] * ENOUGH + [False]) is None, "one of a kind says little"


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
    # Animals well apart: 5% of the known ones are below 0.91, 5% of the others above 0.285.
    apart = levels(np.linspace(0.9, 1.1, 101), np.linspace(0, 0.3, 101))
    assert apart["accept"] == pytest.approx(0.91) and apart["reject"] == pytest.approx(0.285)


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


def test_times_and_sides_of_a_table_that_cannot_be_read_are_counted_and_noted(tmp_path):
    (tmp_path / "t.csv").write_text(
        "path,date_time,side\nst1/a.jpg,03.06.2024 00:30,L\nst1/b.jpg,2024-06-03,\nst2/a.jpg,2024-06-03 00:30:00,Left\n"
    )
    found, note = with_table(ROWS, tmp_path / "t.csv")
    assert found[0].note == "the table's time '03.06.2024 00:30' cannot be read; the table's side 'L' cannot be read"
    assert [one.date_time for one in found] == ["", "", "2024-06-03T00:30:00"] and found[2].side == "left"
    assert "2 times cannot be read, such as '03.06.2024 00:30' of st1/a.jpg: expected 2024-06-03 00:30:00, the" in note
    assert "1 side cannot be read, such as 'L' of st1/a.jpg: expected left, right, both, unknown." in note
    blank = boxed(ROWS[0], [])
    assert with_table(blank, tmp_path / "t.csv")[0] == blank, "its note says that it shows no animal"


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


def camtrapdp_of(tmp_path, times: list[str], observations: str = "") -> None:
    """A Camtrap DP folder of ROWS with these times, and rows (mediaID, observationType, scientificName, bboxX)."""
    media = [f"m{n},d1,{time},{one.path}" for n, (time, one) in enumerate(zip(times, ROWS, strict=False))]
    (tmp_path / "deployments.csv").write_text("deploymentID\nd1\n")
    (tmp_path / "media.csv").write_text("\n".join(["mediaID,deploymentID,timestamp,filePath", *media, ""]))
    header = "mediaID,observationType,scientificName,bboxX,bboxY,bboxWidth,bboxHeight\n"
    (tmp_path / "observations.csv").write_text(header + observations)


UTC, EAST = "2024-06-03T22:30:00Z", "2024-06-03T22:30:00+03:00"


@pytest.mark.parametrize(
    ("times", "zone", "expected", "said"),
    [
        ([UTC], "+03:00", "2024-06-04T01:30:00", "converted to the time zone UTC+03:00."),
        ([EAST], "Africa/Nairobi", "2024-06-03T22:30:00", "converted to the time zone Africa/Nairobi."),
        ([UTC], "", "2024-06-03T22:30:00", "as they are written, in UTC, as the project has no time zone: if"),
        ([EAST, UTC], "", "2024-06-03T22:30:00", "as they are written, in +03:00, UTC, as the project has no"),
        ([EAST[:-6]], "+03:00", "2024-06-03T22:30:00", "photographs are in "),
    ],
)
def test_times_of_camtrap_dp_become_those_of_the_cameras_clocks(tmp_path, times, zone, expected, said):
    camtrapdp_of(tmp_path, times)
    found, note = with_camtrapdp(ROWS, tmp_path, parse_zone(zone))
    assert found[0].date_time == expected and said in note
    assert ("Their times" in note) == times[0].endswith(("Z", "+03:00"))


@pytest.mark.parametrize(
    ("times", "offset"),
    [([EAST, EAST], "+03:00"), ([EAST, UTC], ""), ([UTC], ""), ([EAST[:-6]], ""), (["June"], "")],
)
def test_an_offset_that_all_times_have_is_the_cameras_zone(tmp_path, times, offset):
    camtrapdp_of(tmp_path, times)
    assert common_offset(tmp_path) == offset


def test_other_species_of_a_camtrap_dp_are_no_animals_of_the_project(tmp_path):
    seen = (
        "m0,animal,Panthera leo,0.1,0.2,0.3,0.4\nm0,animal,Panthera pardus,0.5,0.2,0.3,0.4\n"
        "m1,animal,Panthera pardus,0,0,1,1\nm2,animal,,,,,\n"
    )
    camtrapdp_of(tmp_path, [UTC] * 3, seen)
    found, note = with_camtrapdp(ROWS, tmp_path, species="Panthera leo")
    assert [(one.status, one.box and one.box[0], one.note) for one in found] == [
        ("unsure", 0.1, BESIDE),
        ("not_animal", None, NOT_OURS),
        ("unsure", None, SEEN),  # nobody has named it yet
    ]
    assert "of other species than Panthera leo show no animal of this project: Panthera pardus (2)." in note
    everything, note = with_camtrapdp(ROWS, tmp_path)
    assert [one.status for one in everything] == ["unsure"] * 4 and "other species" not in note
    assert len(with_camtrapdp(ROWS, tmp_path, species="Panthera")[0]) == 4, "a genus takes all of its species"


def test_events_of_camtrap_dp_that_start_again_at_each_deployment_stay_apart(tmp_path):
    (tmp_path / "deployments.csv").write_text("deploymentID,locationID\nd1,North\nd2,South\n")
    media = "".join(f"m{n},d{n + 1},{UTC},{ROWS[2 * n].path}\n" for n in range(2))
    (tmp_path / "media.csv").write_text("mediaID,deploymentID,timestamp,filePath\n" + media)
    (tmp_path / "observations.csv").write_text("mediaID,observationType,eventID\nm0,animal,1\nm1,animal,1\n")
    found = with_sequences(with_camtrapdp(ROWS, tmp_path)[0])
    assert [found[0].sequence, found[2].sequence] == ["North d1 1", "South d2 1"]


def test_boxes_come_from_one_source(tmp_path):
    """A row of each source would give keys such as K-2-2, with which a project cannot be opened again."""
    box = {"category": "1", "conf": 0.9, "bbox": [0, 0, 1, 0.9]}
    (tmp_path / "md.json").write_text(json.dumps({"images": [{"file": "st1/a.jpg", "detections": [box]}]}))
    with pytest.raises(ValueError, match="--camtrapdp gives boxes, and so does --boxes: leave out --boxes"):
        with_boxes(boxed(ROWS[0], [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0)]), tmp_path / "md.json")
    blank = boxed(ROWS[0], [])
    assert with_boxes(blank, tmp_path / "md.json")[0] == blank, "what Camtrap DP calls blank stays so"


def detected(tmp_path, *files: str, category: str = "1") -> Path:
    """MegaDetector's JSON with one box on each file; a category is 1 for animals, 2 for people."""
    found = [{"category": category, "conf": 0.9, "bbox": [0, 0, 1, 0.9]}]
    images = [{"file": file, "detections": found} for file in files]
    content = {"images": images, "detection_categories": {"1": "animal", "2": "person"}}
    (tmp_path / "md.json").write_text(json.dumps(content))
    return tmp_path / "md.json"


def test_a_name_in_the_folder_of_another_season_is_no_photograph_of_this_one(tmp_path):
    """Cameras give the same numbers again; tables, detections and our own Camtrap DP begin at the folder of both."""
    (tmp_path / "2024/st1").mkdir(parents=True)
    (tmp_path / "2024/st1/a.jpg").touch()
    rows = [replace(one, root=f"{tmp_path}/2023", season="dry") for one in ROWS]
    times = "2024/st1/a.jpg,2024-01-01 00:30:00\n2023/st1/a.jpg,2023-01-01 00:30:00\n"
    (tmp_path / "t.csv").write_text("path,date_time\n" + times)
    found, note = with_table(rows, tmp_path / "t.csv")
    assert [one.date_time[:4] for one in found] == ["2023", "", ""] and "Not among the photographs: 1 row of" in note
    (tmp_path / "t.csv").write_text("path,date_time\n2024/st1/a.jpg,2024-01-01\n")
    with pytest.raises(UserError, match="names none of the photographs"):
        with_table(rows, tmp_path / "t.csv")
    found, note = with_boxes(rows, detected(tmp_path, "x/2023/st1/a.jpg", "x/2024/st1/a.jpg"))
    assert found[0].box and "Not among the photographs: 1 image of md.json." in note
    camtrapdp_of(tmp_path, [UTC] * 2)
    media = (tmp_path / "media.csv").read_text().replace("st1/b", "wet/st1/a").replace(",st1", ",media/dry/st1")
    (tmp_path / "media.csv").write_text(media)
    found, note = with_camtrapdp(rows, tmp_path)
    assert [one.station for one in found] == ["d1", "", ""] and "Not among the photographs: 1 row of media.csv" in note


def test_photographs_that_were_moved_or_renamed_keep_what_a_table_says(tmp_path):
    (tmp_path / "cards").symlink_to(".", target_is_directory=True)
    for root in ("", f"{tmp_path}/photographs", os.fspath(tmp_path / "cards")):
        rows = [replace(one, root=root) for one in ROWS]
        (tmp_path / "t.csv").write_text("path,station\nold/st1/a.jpg,North\nolder/st1/b.jpg,North\na/b.jpg,South\n")
        assert [one.station for one in with_table(rows, tmp_path / "t.csv")[0]] == ["North", "North", ""]


def test_a_copy_that_is_left_out_is_no_second_name_of_a_photograph(tmp_path):
    copy, rows = "backup/a.jpg", [row("a.jpg"), row("b.jpg")]
    with pytest.raises(UserError, match="two images that may be a.jpg: x/a.jpg and y/a.jpg. Leave one of them, or run"):
        with_boxes(rows, detected(tmp_path, "x/a.jpg", "y/a.jpg"))
    found, note = with_boxes(rows, detected(tmp_path, copy, "a.jpg", "cards/b.jpg"), left_out=[copy])
    assert all(one.box for one in found) and "Not among the photographs: 1 image of" in note
    assert "1 image of" in with_boxes(rows, detected(tmp_path, "gone/a.jpg", "a.jpg"))[1], "it was deleted since"
    (tmp_path / "t.csv").write_text(f"path,station\ncards/a.jpg,North\ncards/{copy},South\n")
    assert [one.station for one in with_table(rows, tmp_path / "t.csv", [copy])[0]] == ["North", ""]
    camtrapdp_of(tmp_path, [UTC] * 2)
    text = (tmp_path / "media.csv").read_text().replace("st1/a.jpg", copy).replace("st1/b.jpg", "a.jpg")
    (tmp_path / "media.csv").write_text(text)
    assert [one.station for one in with_camtrapdp(rows, tmp_path, left_out=[copy])[0]] == ["d1", ""]


def test_people_are_not_blank_and_categories_are_read_in_any_case(tmp_path):
    path = detected(tmp_path, "st1/a.jpg", category="2")
    found, note = with_boxes(ROWS, path)
    assert (found[0].status, found[0].note) == ("not_animal", NOT_OURS) and "and 1 none" in note
    assert with_boxes(ROWS, path, confidence=0.95)[0][0].note == NO_ANIMAL
    text = detected(tmp_path, "st1/a.jpg").read_text()
    path.write_text(text.replace('"animal"', '"Animal"'))
    assert [(one.box is not None, one.note) for one in with_boxes(ROWS, path)[0]] == [(True, ""), *[(False, "")] * 2]
    path.write_text(text.replace('"animal"', '"lion"'))
    with pytest.raises(UserError, match="Expected the category animal in .*md.json, got lion, person: give the file"):
        with_boxes(ROWS, path)


def test_sequences_end_at_the_gap_and_at_the_camera():
    times = ["2024-06-03T00:00:00", "2024-06-03T00:01:00", "2024-06-03T00:02:01"]
    rows = [row(f"{n}.jpg", camera="c", date_time=time) for n, time in enumerate(times)]
    rows.append(row("other.jpg", camera="d", date_time=times[0]))
    names = [one.sequence for one in with_sequences(rows)]
    assert names[0] == names[1] and len(set(names)) == 3
    assert len({one.sequence for one in with_sequences(rows, gap=61)}) == 2


def test_midnights_that_photographs_share_are_no_sequence():
    """A table that lost the time of day would link all photographs of a day as one animal."""
    midnight, alone = "2024-06-03T00:00:00", "2024-06-04T00:00:00"
    times = [midnight, midnight, "2024-06-03T00:00:30", "2024-06-03T00:00:40", alone]
    names = [one.sequence for one in with_sequences(row(f"{n}.jpg", date_time=time) for n, time in enumerate(times))]
    assert names == ["", "", times[2], times[2], alone]


def test_sequences_of_two_seasons_never_have_one_name():
    """A clock that falls back at each change of batteries, and a table that counts from 1."""
    reset = {"station": "s", "camera": "s", "date_time": "2019-01-01T00:00:10"}
    names = [with_sequences([row("a.jpg", season=season, **reset)])[0].sequence for season in ("2023", "2024")]
    assert names == ["2023 s 2019-01-01T00:00:10", "2024 s 2019-01-01T00:00:10"]
    assert with_sequences([row("a.jpg", season="2024", sequence="1")])[0].sequence == "2024 1"


def test_given_sequences_that_start_again_at_each_camera_stay_apart():
    cameras = [("p1", "p1"), ("p2", "p2"), ("p2", "left")]
    rows = [row(f"{n}{s}.jpg", season="2024", station=s, camera=c, sequence="1") for s, c in cameras for n in range(2)]
    rows = [replace(one, key=f"{n:016x}") for n, one in enumerate(rows)]
    names = [one.sequence for one in with_sequences(rows)]
    assert names == ["2024 p1 1"] * 2 + ["2024 p2 1"] * 2 + ["2024 p2 left 1"] * 2


def test_given_sequences_of_more_than_a_day_are_reported():
    days = [row(f"{day}.jpg", sequence="1", date_time=f"2024-06-0{day}T00:00:00") for day in (1, 2, 5)]
    assert long_sequences(days[:2]) == long_sequences([replace(one, sequence="") for one in days]) == []
    assert long_sequences(days)[0].startswith("Given sequences that span more than a day: 1, such as 1 (4 days).")
    found = with_sequences([replace(one, sequence="") for one in days], gap=1e6)
    assert len({one.sequence for one in found}) == 1 and not long_sequences(found), "as the user chose --gap"


def test_folders_of_years_hold_stations_and_are_none():
    years = [row(f"{year}/{st}/IMG_{n:04d}.jpg") for year in ("2023", "2024_dry") for st in "ab" for n in range(9)]
    one_camera = [row(f"{year}/100RECNX/IMG_{n:04d}.jpg") for year in ("2023", "2024") for n in range(9)]
    numbered = [row(f"{name}/{st}/IMG_{n:04d}.jpg") for name in ("20231", "20241") for st in "ab" for n in range(9)]
    assert (station_level(years), station_level(one_camera), station_level(numbered)) == (2, 0, 1)


def test_stations_are_named_with_who_says_so():
    found = [row(f"{n}.jpg", station=f"st{n:02d}", station_source="found") for n in range(12)]
    note = stations_note(found, level=1)
    assert note.startswith("12 stations: folders of level 1 (found, as ") and "): st00, st01, " in note
    assert note.endswith(", st09 and 2 more. They are never taken for animals.")
    given = [replace(found[0], station="Ridge", station_source="table"), row("x.jpg")]
    assert stations_note(given, level=0).startswith("1 station: by what a table or Camtrap DP says: Ridge.")
    assert stations_note(given[1:], level=0).startswith("No stations: name the level")


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


def decided(
    rows: list[Photograph], *decisions: tuple, features: np.ndarray | None = None
) -> tuple[list[str], list[str]]:
    """Animal and status of each photograph after decisions (kind, a, b) on them, and what was not followed."""
    project = new_project("lions", "none")
    if features is not None:
        places = {cache_key(one): n for n, one in enumerate(rows)}
        project.known_features = Features(features, np.zeros((len(rows), 12), np.float32), places)
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


def test_a_photograph_that_goes_alone_leaves_its_sequence_and_later_groupings_respect_it():
    rows = burst(*((path, "LION-001", "proposed") for path in "1234"))
    kept = ["LION-001 proposed"] * 2
    assert decided(rows, ("is", rows[0].key, "LION-002"))[0] == ["LION-002 confirmed"] * 4, "one decision a sequence"
    assert decided(rows, ("is", rows[0].key, "LION-002", "alone"))[0][0] == "LION-002 confirmed"
    parted = [("is_not", rows[n].key, "LION-001", "alone") for n in (0, 1)]
    made = [("new", rows[0].key, "", "alone"), ("same", rows[1].key, rows[0].key, "alone")]
    assert decided(rows, *parted)[0] == [" unsure"] * 2 + kept
    assert decided(rows, *parted, *made) == (["LION-004 confirmed"] * 2 + kept, [])
    # A later decision on one of the others leaves them, too.
    found, _ = decided(rows, *parted, ("is", rows[0].key, "LION-001", "alone"), ("is", rows[2].key, "LION-003"))
    assert found == ["LION-001 confirmed", " unsure", "LION-003 confirmed", "LION-003 confirmed"]


@pytest.mark.parametrize("value", ["alone", ""])
def test_what_a_person_set_apart_in_a_sequence_is_no_contradiction_at_a_later_discovery(value):
    project = new_project("lions", "none")
    project.photographs = burst(("1", "LION-001", "proposed"), ("2", "LION-001", "proposed"), ("3", "", "unsure"))
    project.animals = [Individual("LION-001"), Individual("LION-002")]
    key = project.photographs[0].key
    if not value:  # one photograph was confirmed, and later its mate for another animal
        project.photographs[0] = replace(project.photographs[0], status="confirmed")
        project.photographs[1] = replace(project.photographs[1], individual="LION-002", status="confirmed")
    add_decisions(project, [Decision("t0", "", "is_not", key, "LION-001", "alone")] if value else [])
    refused = rejections(active(project.decisions), {})
    owners = [row.individual if row.counts else "" for row in project.photographs]
    constraints = constraints_of(project.photographs, active(project.decisions), owners, refused)
    assert linked(3, constraints)[1] == [] and not constraints.must
    undone = constraints_of(burst(("1", "", "unsure"), ("2", "", "unsure")), ())
    assert len(undone.must) == 1


def test_a_photograph_is_not_the_animal_of_its_burst_mate_without_a_contradiction():
    """As a file says it that names the photograph before somebody confirms the mate."""
    rows = burst(("1", "LION-002", "unsure"), ("2", "LION-001", "confirmed"))
    decisions = [Decision("t0", "", "is_not", rows[0].key, "LION-001")]
    refused = rejections(decisions, {})
    found = constraints_of(rows, decisions, ["", "LION-001"], refused)
    assert linked(2, found)[1] == []


def test_confirmed_is_what_the_page_showed_and_nothing_that_came_in_since():
    rows = [row(path, individual="LION-001", status="proposed") for path in "abc"]
    shown = f"2 photographs: {rows[0].key} {rows[1].key}"
    assert decided(rows, ("confirm", "LION-001", "", shown))[0] == ["LION-001 confirmed"] * 2 + ["LION-001 proposed"]
    assert decided(rows, ("confirm", "LION-001"))[0] == ["LION-001 confirmed"] * 3, "written by hand"
    gone = decided(rows, ("confirm", "LION-002", "", shown))
    assert gone[0] == ["LION-001 proposed"] * 3
    assert gone[1][0].endswith("LION-002 has none of the photographs that the page showed.")
    by_hand = decided(rows, ("confirm", "LION-001", "", "yes"))
    assert by_hand[0] == ["LION-001 proposed"] * 3
    assert by_hand[1][0].endswith("the value names no photographs; leave it empty to confirm all.")


@pytest.mark.parametrize(
    ("decision", "lacks"),
    [
        (("is", "KEY", "LION-001"), "photograph KEY"),
        (("same", "OWN", "KEY"), "photograph KEY"),
        (("is", "OWN", "LION-007"), "animal LION-007"),
        (("is_not", "OWN", "LION-007"), "animal LION-007"),
        (("merge", "LION-001", "LION-007"), "animal LION-007"),
        (("name", "LION-007", "", "Simba"), "animal LION-007"),
        (("confirm", "LION-001", "", "1 photograph: KEY"), "photograph KEY"),
    ],
)
def test_decisions_on_what_is_not_there_yet_can_be_given_again_once_it_is(decision, lacks):
    own, later = (row(path, individual="LION-001", status="proposed") for path in "ab")
    words = [word.replace("KEY", later.key).replace("OWN", own.key) for word in decision]
    project = project_of([own], *TWO)
    file = [
        Decision("t0", "", *words),
        Decision("t1", "", "undo", "t0"),
        Decision("t2", "", "unsure", own.key, own.key),
    ]
    new, problems = add_decisions(project, file)
    assert (new, project.decisions, project.photographs) == (1, file[2:], [replace(own, status="single")])
    reasons = (
        f"there is no {lacks.replace('KEY', later.key)}; give this file again once the photographs are there.",
        "there is nothing to undo; first give the file with what it takes back.",
    )
    for problem, reason in zip(problems, reasons, strict=True):
        assert problem.endswith(f" is not followed: {reason}")
    project.photographs.append(later)
    project.animals.append(Individual("LION-007"))
    assert add_decisions(project, file)[0] == 2
    assert [one.status for one in project.photographs] == ["proposed"] * 2, "the undo holds, too"


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
        'The decision "different" of t2 is not followed: you said on t1 that c and b are the same: undo that first, '
        "then decide again."
    ]
    undone = decided(rows, *chain, ("undo", "t1"), ("different", a.key, b.key))
    assert (undone[0][0][:8], undone[0][1][:8], undone[1]) == ("LION-001", "LION-004", [])


def test_different_parts_photographs_whose_features_were_removed():
    """Nothing is near anything, so the third photograph stays with the part of the smaller key."""
    rows = [row(path, individual="LION-001", status="proposed") for path in "abc"]
    found, problems = decided(rows, ("different", rows[0].key, rows[1].key))
    assert sorted(found) == ["LION-001 proposed", "LION-001 proposed", "LION-004 single"] and not problems
    assert found[0] != found[1]


def project_of(rows: list[Photograph], *animals: Individual) -> Project:
    project = new_project("lions", "none")
    project.photographs, project.animals = rows, list(animals)
    return project


def decide(project: Project, *decisions: tuple, start: int = 0) -> None:
    """Apply decisions (kind, a, b, value) as `discover --decisions` does."""
    add_decisions(project, [Decision(f"t{start + n}", "", *one) for n, one in enumerate(decisions)])


def animals_of(project: Project) -> dict[str, tuple[str, str]]:
    return {one.individual: (one.merged_into, one.note) for one in project.animals}


TWO = (Individual("LION-001"), Individual("LION-002"))


def two_and_one() -> list[Photograph]:
    homes = [("a", "LION-001"), ("b", "LION-001"), ("c", "LION-002")]
    return [row(path, individual=animal, status="proposed") for path, animal in homes]


def test_an_animal_whose_photographs_were_moved_one_by_one_says_where_they_went():
    a, b, _ = rows = two_and_one()
    project = project_of(rows, *TWO)
    decide(project, ("is", a.key, "LION-002"))
    assert animals_of(project)["LION-001"] == ("", "")
    decide(project, ("is", b.key, "LION-002"), start=1)
    assert animals_of(project) == {"LION-001": ("LION-002", MOVED), "LION-002": ("", "")}
    decide(project, ("undo", "t0"), start=2)
    assert project.by_key[a.key].individual == "LION-001" and animals_of(project)["LION-001"] == ("", "")
    decide(project, ("undo", "t2"), start=3)
    assert project.by_key[a.key].individual == "LION-002" and animals_of(project)["LION-001"] == ("LION-002", MOVED)
    decide(project, ("undo", "t1"), start=4)
    assert project.by_key[b.key].individual == "LION-001" and animals_of(project)["LION-001"] == ("", "")


def test_an_animal_whose_photographs_went_several_ways_or_are_no_animal_has_no_heir():
    a, b, c = rows = two_and_one()
    project = project_of([*rows, row("d", individual="LION-003", status="single")], *TWO, Individual("LION-003"))
    decide(project, ("not_animal", c.key), ("is", a.key, "LION-003"), ("not_animal", b.key))
    nowhere = "", "no photographs left"
    assert [animals_of(project)[name] for name in ("LION-001", "LION-002")] == [nowhere, nowhere]


def test_an_animal_whose_photographs_were_moved_is_not_one_with_the_other():
    """Nobody said so: c, which is not LION-001, may be LION-002, and LION-001 may come back."""
    a, b, c = rows = two_and_one()
    project = project_of(rows, *TWO)
    decide(project, ("is_not", c.key, "LION-001"), ("is", a.key, "LION-002"), ("is", b.key, "LION-002"))
    assert animals_of(project)["LION-001"] == ("LION-002", MOVED)
    assert Ledger(project, "").rejected[c.key] == {"LION-001": "t0"}
    decide(project, ("is", a.key, "LION-001"), start=3)
    assert project.by_key[a.key].individual == "LION-001" and animals_of(project)["LION-001"] == ("", "")


def test_a_merge_is_not_brought_back_once_the_animal_has_further_photographs():
    rows = two_and_one()
    project = project_of([*rows, row("d", individual="LION-003", status="single")], *TWO, Individual("LION-003"))
    decide(project, ("merge", "LION-001", "LION-002"), ("undo", "t0"), ("is", project.photographs[3].key, "LION-001"))
    _, problems = add_decisions(project, [Decision("t3", "", "undo", "t1")])
    assert animals_of(project)["LION-001"] == ("", "") and "changed again since then stays: 1, such as" in problems[0]


def test_animals_that_take_each_other_in_are_never_merged_in_a_circle():
    a, b, c = rows = two_and_one()
    project = project_of(rows, *TWO)
    decide(project, ("is", a.key, "LION-002"), ("is", b.key, "LION-002"))
    decide(project, *(("not_animal", one.key) for one in rows), ("merge", "LION-002", "LION-001"), start=2)
    assert animals_of(project) == {"LION-001": ("", "no photographs left"), "LION-002": ("LION-001", "")}


def test_all_that_was_merged_is_linked_but_not_what_came_or_left_since():
    rows = [row(path) for path in "abcdefg"]
    project = project_of(rows, *TWO)
    ledger = Ledger(project, "2024")
    for keys, animal in ((rows[:3], "LION-001"), (rows[3:5], "LION-002")):
        ledger.move([one.key for one in keys], animal, "proposed", "joins", "grouped")
    ledger.close()
    decide(project, ("merge", "LION-002", "LION-001"), ("is_not", rows[0].key, "LION-001"))
    ledger = Ledger(project, "2025")
    ledger.move([rows[5].key], "LION-001", "proposed", "joins", "grouped")
    ledger.close()
    found = constraints_of(project.photographs, active(project.decisions), changes=project.changes)
    groups, _ = linked(7, found)
    assert [members for members in groups.members if len(members) > 1] == [[1, 2, 3, 4]]
    decide(project, ("undo", project.decisions[0].when), start=2)
    assert not constraints_of(project.photographs, active(project.decisions), changes=project.changes).must


def test_a_merge_carries_over_what_the_kept_animal_lacks_and_its_undo_takes_it_back():
    rows = two_and_one()
    project = project_of(rows, replace(TWO[0], name="Simba", sex="male"), replace(TWO[1], sex="female"))
    decide(project, ("merge", "LION-001", "LION-002"))
    kept = project.animals[1]
    assert (kept.name, kept.sex) == ("Simba", "female")
    assert contradictions(project.animals, project.changes) == [
        "LION-001, of sex male, was merged into LION-002, of sex female, which keeps its own: correct it on the review "
        "page if that is wrong."
    ]
    decide(project, ("undo", "t0"), start=1)
    assert [(one.name, one.sex) for one in project.animals] == [("Simba", "male"), ("", "female")]
    assert contradictions(project.animals, project.changes) == []


@pytest.fixture
def colours(monkeypatch):
    monkeypatch.setattr(projects, "encoder_named", lambda name: Colours())


def stations_of(rows: list[dict[str, str]]) -> dict[str, tuple[str, str]]:
    return {one["path"]: (one["station"], one["station_source"]) for one in rows}


def test_a_station_that_was_found_is_corrected_by_a_level_or_a_table(tmp_path, colours, capsys):
    """Running numbers cross the folders a and b, but stations lie one level below."""
    photos, project, numbers = tmp_path / "cards", tmp_path / "lions", range(3)
    paths = [f"{card}/st{card}/IMG_{n:04d}.png" for card in "ab" for n in numbers]
    for number, path in enumerate(paths):
        photograph(photos / path, number // 3, number, f"2024:06:01 00:0{number}:00")
    rows = discover(project, "--photos", photos)
    assert set(stations_of(rows).values()) == {("a", "found"), ("b", "found")}
    animals = {one["path"]: one["individual"] for one in rows}
    rows = discover(project, "--photos", photos, "--stations", "2")
    assert set(stations_of(rows).values()) == {("sta", "named"), ("stb", "named")}
    assert {one["camera"] for one in rows} == {"sta", "stb"} and rows[0]["sequence"] == "cards sta 2024-06-01T00:00:00"
    assert {one["path"]: one["individual"] for one in rows} == animals
    printed = capsys.readouterr().out
    assert "2 stations: folders of level 2 (as named): sta, stb." in printed and "another station" not in printed
    discover(project, "--photos", photos)
    assert "another station" not in capsys.readouterr().out, "what is only found does not contest what was named"
    (tmp_path / "t.csv").write_text(f"path,station,date_time\n{paths[0]},Ridge,2024-07-02 03:04:05\n")
    rows = discover(project, "--photos", photos, "--table", tmp_path / "t.csv")
    assert stations_of(rows)[paths[0]] == ("sta", "named"), "what was said first stays"
    assert (rows[0]["date_time"], rows[0]["date_time_source"]) == ("2024-07-02T03:04:05", "table")
    assert "with another station, camera, time, sequence, side or box now: 1" in capsys.readouterr().out


FOUND = "2024 a 2024-06-01T00:00:00"


@pytest.mark.parametrize(
    ("before", "now", "source", "expected"),
    [
        (FOUND, "2024 sta 2024-06-01T00:00:00", "named", "2024 sta 2024-06-01T00:00:00"),  # follows from the station
        (FOUND, "2024 a 7", "found", "2024 a 7"),  # given now
        ("2024 a 7", FOUND, "found", "2024 a 7"),  # given before
        ("2024 a 7", "2024 sta 2024-06-01T00:00:00", "named", "2024 a 7"),
        ("2024 a 7", "2024 a 8", "found", "2024 a 7"),
        ("2024 a 7", "2024 sta 7", "named", "2024 sta 7"),  # which starts again at each station
        ("", FOUND, "found", FOUND),
    ],
)
def test_sequences_follow_from_stations_unless_a_table_gives_them(before, now, source, expected):
    old = row("a/sta/1.jpg", station="a", station_source="found", camera="a", sequence=before)
    station = "sta" if source == "named" else "a"
    project = project_of([old], *TWO)
    take_in(project, Intake([replace(old, station=station, station_source=source, sequence=now)]), Report())
    assert project.photographs[0].sequence == expected


def test_sources_that_give_stations_are_in_the_note_on_them(tmp_path, colours, capsys):
    photograph(tmp_path / "season" / "a.png", 0, 0)
    (tmp_path / "t.csv").write_text("path,station\na.png,Ridge\n")
    discover(tmp_path / "lions", "--photos", tmp_path / "season", "--table", tmp_path / "t.csv")
    printed = capsys.readouterr().out
    assert "1 station: by what a table or Camtrap DP says: Ridge." in printed and "No stations" not in printed
    (again,) = discover(tmp_path / "lions", "--photos", tmp_path / "season")
    assert again["station"] == "Ridge" and "No stations this time: photographs keep those" in capsys.readouterr().out


def test_all_files_that_are_left_out_are_in_a_table(tmp_path, colours, capsys):
    first = photograph(tmp_path / "season" / "a.png", 0, 0)
    for number in range(21):
        shutil.copy(first, first.with_name(f"copy-{number:02d}.png"))
    shutil.copy(first, first.with_name("=1+1.png"))
    discover(tmp_path / "lions", "--photos", first.parent)
    with open(tmp_path / "lions" / "left_out.csv", newline="") as file:
        left = {one["path"]: one["reason"] for one in csv.DictReader(file)}
    assert len(left) == 22 and left["copy-20.png"] == "the same photograph as =1+1.png" and "a.png" in left
    assert (
        "Files left out (22):" in (printed := capsys.readouterr().out) and "All of them are in left_out.csv." in printed
    )
    for path in first.parent.glob("*copy*"):
        path.unlink()
    first.unlink()
    discover(tmp_path / "lions", "--photos", first.parent)
    assert not (tmp_path / "lions" / "left_out.csv").exists()


def test_a_link_to_a_folder_is_named_with_the_files_that_are_left_out(tmp_path, colours, capsys):
    photograph(tmp_path / "season" / "st1" / "a.png", 0, 0)
    photograph(tmp_path / "disk" / "b.png", 1, 0)
    (tmp_path / "season" / "st2").symlink_to(tmp_path / "disk")
    rows = discover(tmp_path / "lions", "--photos", tmp_path / "season")
    assert [one["path"] for one in rows] == ["st1/a.png"]
    assert "st2: a link to a folder is not followed; put the folder in its place" in capsys.readouterr().out


def test_two_cards_of_one_name_are_noted(tmp_path, colours, capsys):
    cards = [tmp_path / name / "DCIM" for name in ("one", "two")]
    for number, card in enumerate(cards):
        photograph(card / "IMG_0001.png", number, number)
    discover(tmp_path / "lions", "--photos", cards[0])
    discover(tmp_path / "lions", "--photos", cards[0])
    assert "already has" not in capsys.readouterr().out
    discover(tmp_path / "lions", "--photos", cards[1])
    said = f"The season DCIM already has 1 photograph of {cards[0]}, and none of them came in now."
    assert said in capsys.readouterr().out
    photograph(cards[1] / "IMG_0002.png", 1, 3)
    discover(tmp_path / "lions", "--photos", cards[1])
    assert "already has" not in capsys.readouterr().out


def test_camtrap_dp_gives_a_project_its_time_zone_and_takes_its_species(tmp_path, colours, capsys):
    for number, one in enumerate(ROWS):
        photograph(tmp_path / "season" / one.path, number, number)
    camtrapdp_of(tmp_path, [EAST] * 3, "m1,animal,Panthera pardus,,,,\nm0,animal,Panthera leo,,,,\n")
    sources = ["--photos", tmp_path / "season", "--camtrapdp", tmp_path, "--species", "Panthera leo"]
    rows = discover(tmp_path / "lions", *sources)
    assert [one["status"] == "not_animal" for one in rows] == [False, True, False]
    settings = json.loads((tmp_path / "lions" / "project.json").read_text())
    assert settings["timezone"] == "+03:00" and "zone UTC+03:00" in capsys.readouterr().out
    camtrapdp_of(tmp_path, [UTC] * 3)
    rows = discover(tmp_path / "utc", *sources, "--timezone", "+03:00")
    assert {one["date_time"] for one in rows} == {"2024-06-04T01:30:00"}


def test_contradicting_names_of_merged_animals_are_reported(tmp_path, colours, capsys):
    for number in range(2):
        photograph(tmp_path / "season" / f"{number}.png", number, number)
    discover(tmp_path / "lions", "--photos", tmp_path / "season")
    kinds = [("name", "LION-001", "", "Simba"), ("name", "LION-002", "", "Nala"), ("merge", "LION-001", "LION-002")]
    rows = [Decision(f"2025-01-01T00:0{n}:00Z", "", *one) for n, one in enumerate(kinds)]
    (tmp_path / "d.csv").write_text(table_text(rows, Decision))
    discover(tmp_path / "lions", "--decisions", tmp_path / "d.csv")
    assert "LION-001, of name Simba, was merged into LION-002, of name Nala, which keeps" in capsys.readouterr().out


def test_different_gives_each_photograph_to_the_one_it_is_more_like():
    """Unit vectors at these angles; cosines of 10, 25, 40 degrees: 0.985, 0.906, 0.766.

    c is 10 degrees from a and 40 from b, so it stays with a. d is 25 from both; it is of a burst with e, which is 40
    from a and 10 from b. Their means are 0.836 with a and 0.946 with b, so both go with b.
    """
    angles = {"a": 0, "b": 50, "c": 10, "d": 25, "e": 40}
    rows = [row(path, individual="LION-001", status="proposed", sequence="s" * (path in "de")) for path in angles]
    vectors = np.array([[np.cos(np.radians(x)), np.sin(np.radians(x))] for x in angles.values()], dtype=np.float32)
    found, problems = decided(rows, ("different", rows[0].key, rows[1].key), features=vectors)
    assert not problems and len({found[n] for n in (1, 3, 4)}) == 1
    assert found[2] == found[0] != found[1]


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


@pytest.mark.parametrize(("reject", "place"), [(0.5, ("B", "unsure")), (0.9, ("P-001", "proposed"))])
def test_a_photograph_unlike_its_groups_animal_is_unsure_about_the_one_that_it_is_most_like(tmp_path, reject, place):
    """It is grouped with A, to which it scores 0.6, and scores 0.8 to B; the accept level is 0.95."""
    project = Project(tmp_path, {"prefix": "P", "levels": {"accept": 0.95, "reject": reject}})
    known = [Photograph(name, name, name, individual=name.upper(), status="proposed") for name in "ab"]
    project.photographs = [*known, Photograph("c", "c", "c")]
    project.animals = [Individual("A"), Individual("B")]
    features = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    grouping = group(features, Constraints(), k1=2)._replace(labels=np.array([0, 1, 0]))
    ledger = Ledger(project, "2025")
    assign(ledger, project.photographs, features, grouping)
    assert (ledger.rows["c"].individual, ledger.rows["c"].status) == place


@pytest.mark.parametrize(
    ("values", "decision", "place"),
    [
        ({"sequence": "s"}, (), "A proposed"),
        ({"sequence": "t"}, (), "B unsure"),
        ({"sequence": "s"}, ("is_not", "c", "A"), "B unsure"),
        ({"sequence": "s"}, ("different", "a", "c"), "B unsure"),
        ({"sequence": "s", "hash": "a"}, (), "B unsure"),  # another box of the same photograph
    ],
)
def test_a_photograph_follows_its_sequence_to_the_animal_of_its_group_whatever_its_score(
    tmp_path, values, decision, place
):
    """It is grouped with A, to which it scores 0.6, and scores 0.8 to B; the accept level is 0.95."""
    project = Project(tmp_path, {"prefix": "P", "levels": {"accept": 0.95, "reject": 0.5}})
    known = [Photograph(name, name, name, individual=name.upper(), status="confirmed") for name in "ab"]
    project.photographs = [replace(known[0], sequence="s"), known[1], replace(Photograph("c", "c", "c"), **values)]
    project.animals = [Individual("A"), Individual("B")]
    project.decisions = [Decision("t0", "", *decision)] if decision else []
    features = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    grouping = group(features, Constraints(), k1=2)._replace(labels=np.array([0, 1, 0]))
    ledger = Ledger(project, "2025")
    assign(ledger, project.photographs, features, grouping)
    assert f"{ledger.rows['c'].individual} {ledger.rows['c'].status}" == place


@pytest.mark.parametrize("animals", [[], [Individual("P-001")]])
def test_new_animals_say_whether_they_were_compared_with_known_ones(tmp_path, animals):
    """The photographs of P-001 are not there."""
    project = Project(tmp_path, {"prefix": "P", "levels": {}})
    project.photographs, project.animals = [row("a"), row("b")], animals
    features = np.array([[1, 0], [0, 1]], dtype=np.float32)
    ledger = Ledger(project, "2025")
    assign(ledger, project.photographs, features, group(features, Constraints(), k1=2))
    expected = "no photograph of a known animal could be compared" if animals else "grouped at the first discovery"
    assert {change.reason for change in ledger.changes} == {expected}


@pytest.mark.parametrize("decisions", [[], [("different", 0, 3)], [("different", 3, 1), ("undo", "t0", "")]])
@pytest.mark.parametrize("apart", ["", "boxes", "sides"])
def test_groups_that_join_known_animals_one_after_the_other_are_kept_apart_as_in_a_grouping(decisions, apart):
    """Photographs 2 and 3, each a group, score 1 to LION-001 and 0.8 to LION-002; the accept level is 0.7.

    Two boxes of one photograph are two animals, so the later group takes LION-002, as does one that a person called
    different from 0. A left side joins no animal of which only the right one is known.
    """
    rows = [row(f"{n}", individual=f"LION-00{n + 1}", status="proposed") for n in range(2)] + [row("2"), row("3")]
    if apart == "boxes":
        rows[3] = replace(rows[2], key=f"{rows[2].key}-2")
    if apart == "sides":
        rows[0], rows[3] = replace(rows[0], side="right"), replace(rows[3], side="left")
    project = project_of(rows, *TWO)
    project.settings["levels"] = {"accept": 0.7, "reject": 0.5}
    named = [(kind, *(rows[one].key if isinstance(one, int) else one for one in both)) for kind, *both in decisions]
    project.decisions = [Decision(f"t{n}", "", *one) for n, one in enumerate(named)]
    features = np.array([[1, 0], [0.8, 0.6], [1, 0], [1, 0]], dtype=np.float32)
    grouping = group(features, Constraints(), k1=2)._replace(labels=np.arange(4))
    ledger = Ledger(project, "2025")
    assign(ledger, rows, features, grouping)
    kept_apart = apart or (decisions and decisions[-1][0] == "different")
    assert [ledger.rows[one.key].individual for one in rows[2:]] == ["LION-001", f"LION-00{2 if kept_apart else 1}"]
    assert {one.status for one in ledger.rows.values()} == {"proposed"}


def test_two_groups_that_differ_never_take_one_animal_and_sides_add_up_as_they_join():
    """2 and 3 differ, and both are most like LION-001. 4 shows its left side, of which 2 is the first photograph."""
    rows = [row(f"{n}", individual=f"LION-00{n + 1}", status="proposed", side="right") for n in range(2)]
    rows += [row("2", side="both"), row("3"), row("4", side="left")]
    project = project_of(rows, *TWO)
    project.settings["levels"] = {"accept": 0.7, "reject": 0.5}
    project.decisions = [Decision("t0", "", "different", rows[3].key, rows[2].key)]
    features = np.array([[1, 0], [0.8, 0.6], [1, 0], [1, 0], [1, 0]], dtype=np.float32)
    grouping = group(features, Constraints(), k1=2)._replace(labels=np.arange(5))
    ledger = Ledger(project, "2025")
    assign(ledger, rows, features, grouping)
    assert [ledger.rows[one.key].individual for one in rows[2:]] == ["LION-001", "LION-002", "LION-001"]
