"""Exports of a tiny project, line by line, and what each format asks for."""

import csv
import hashlib
import json
import sys
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastreid_fancl import __version__
from fastreid_fancl.errors import UserError
from fastreid_fancl.individuals.export import FORMATS
from fastreid_fancl.individuals.export.contents import Contents, Options, parse_zone
from fastreid_fancl.individuals.export.stations import read_stations
from fastreid_fancl.individuals.ledger import Ledger
from fastreid_fancl.individuals.notes import BESIDE, NO_ANIMAL, NOT_OURS
from fastreid_fancl.individuals.rows import Change, Decision, Individual, Photograph
from fastreid_fancl.individuals.storage import read_table, table_text

SCHEMAS = Path(__file__).with_name("schemas") / "camtrapdp"
STATIONS = """station,latitude,longitude,x,y,start,end
North ridge,-1.5,36.25,250000,9834000,2024-06-01,2024-06-05
Pool_1,-1.75,36.5,252000.5,9831000,2024-06-01T12:00:00,2024-06-04
Unused,-2,37,255000,9830000,2024-06-02,2024-06-05
"""
HALVES = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0))


@dataclass
class Project:
    """The part of a project that exports use."""

    photographs: list[Photograph]
    animals: list[Individual] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    settings: dict = field(
        default_factory=lambda: {"name": "Lions", "encoder": "resnet50", "species": "", "timezone": ""}
    )

    @property
    def by_key(self):
        return {row.key: row for row in self.photographs}

    def stored_features(self):
        usable = [row.key for row in self.photographs if row.usable]
        return usable, np.eye(len(usable), 4, dtype=np.float32)


def photograph(root, path, number, station, time, **values):
    """A row and its file: 40 by 20 pixels, in a grey of its own."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 20), number).save(file)
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    return Photograph(
        content[:16], content, path, str(root), station=station, date_time=time, date_time_source="exif", **values
    )


@pytest.fixture
def project(tmp_path):
    """LION-001 twice in a burst at North ridge and once at Pool_1, where LION-002 stands beside it; one is unsure."""
    root = tmp_path / "photographs"
    first = {"sequence": "s1", "individual": "LION-001", "status": "confirmed", "side": "left"}
    rows = [
        photograph(root, "N/IMG_1.JPG", 10, "North ridge", "2024-06-01T23:30:00", **first),
        photograph(root, "N/IMG_2.JPG", 20, "North ridge", "2024-06-01T23:30:20", **first),
        photograph(root, "P/IMG_1.JPG", 30, "Pool_1", "2024-06-03T06:00:00", sequence="s2", box=HALVES[0]),
        photograph(root, "P/IMG_3.JPG", 40, "Pool_1", "2024-06-04T07:08:09", sequence="s3", individual="LION-001"),
        photograph(root, "P/IMG_4.JPG", 50, "Pool_1", "2024-06-04T08:00:00", sequence="s4", status="not_animal"),
    ]
    rows[2] = replace(rows[2], individual="LION-001", status="proposed", score=0.8)
    other = replace(rows[2], key=f"{rows[2].key}-2", box=HALVES[1], individual="LION-002", status="single")
    animals = [Individual("LION-001", name="Ada", sex="female", status="confirmed"), Individual("LION-002")]
    decisions = [Decision("2024-07-01T10:00:00.123Z", "Kim", "confirm", "LION-001")]
    return Project([*rows[:3], other, *rows[3:]], animals, decisions)


@pytest.fixture
def stations(tmp_path):
    path = tmp_path / "stations.csv"
    path.write_text(STATIONS)
    return path


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def filled(row):
    return {name: value for name, value in row.items() if value}


def camtrapdp(project, output, stations, **options):
    FORMATS["camtrapdp"](project, output, species="Panthera leo", timezone="+03:00", stations_table=stations, **options)


def test_camtrapdp_has_the_expected_rows(project, stations, tmp_path):
    camtrapdp(project, tmp_path / "out", stations)
    first, _, pool, beside, unsure, blank = read(tmp_path / "out/observations.csv")
    keys = [row.key for row in project.photographs]
    assert filled(first) == {
        "observationID": keys[0],
        "deploymentID": "North ridge",
        "mediaID": keys[0],
        "eventID": "s1",
        "eventStart": "2024-06-01T23:30:00+03:00",
        "eventEnd": "2024-06-01T23:30:20+03:00",
        "observationLevel": "media",
        "observationType": "animal",
        "scientificName": "Panthera leo",
        "count": "1",
        "sex": "female",
        "individualID": "LION-001",
        "classificationMethod": "human",
        "classifiedBy": "Kim",
        "classificationTimestamp": "2024-07-01T10:00:00Z",
    }
    assert (pool["individualID"], pool["classificationMethod"]) == ("LION-001", "machine")
    assert pool["classifiedBy"] == f"fastreid_fancl {__version__}, resnet50"
    assert (beside["observationID"], beside["mediaID"]) == (keys[3], keys[2]), "two animals on one photograph"
    assert [beside[f"bbox{name}"] for name in ("X", "Y", "Width", "Height")] == ["0.5", "0.0", "0.5", "1.0"]
    assert unsure["individualID"] == "", "an unsure photograph does not count for its likeliest animal"
    assert (blank["observationType"], blank["scientificName"], blank["count"]) == ("blank", "", "")
    media = read(tmp_path / "out/media.csv")
    assert [row["filePath"] for row in media] == [
        "N/IMG_1.JPG",
        "N/IMG_2.JPG",
        "P/IMG_1.JPG",
        "P/IMG_3.JPG",
        "P/IMG_4.JPG",
    ]
    assert filled(media[0])["timestamp"] == "2024-06-01T23:30:00+03:00" and media[0]["fileMediatype"] == "image/jpeg"
    deployments = read(tmp_path / "out/deployments.csv")
    assert [row["deploymentID"] for row in deployments] == ["North ridge", "Pool_1", "Unused"], "effort counts"
    assert filled(deployments[1]) == {
        "deploymentID": "Pool_1",
        "locationID": "Pool_1",
        "locationName": "Pool_1",
        "latitude": "-1.75",
        "longitude": "36.5",
        "deploymentStart": "2024-06-01T12:00:00+03:00",
        "deploymentEnd": "2024-06-04T23:59:59+03:00",
    }


def test_camtrapdp_refuses_a_photograph_that_was_taken_while_its_station_had_no_camera(project, stations, tmp_path):
    for end in ("2024-06-03", "2024-06-04T08:00:00+03:00", "2024-06-04T04:59:59Z"):
        stations.write_text(STATIONS.replace("12:00:00,2024-06-04", f"12:00:00,{end}"))
        if end.endswith("+03:00"):  # the time of the last photograph
            camtrapdp(project, tmp_path / "out", stations)
            continue
        with pytest.raises(ValueError, match=r"IMG_.\.JPG was taken on 2024-06-04 .*, but .* has Pool_1 from .* until"):
            camtrapdp(project, tmp_path / "again", stations)


def test_times_of_stations_are_those_of_the_cameras_clocks(tmp_path, caplog):
    (tmp_path / "t.csv").write_text(
        "station,start,end\nA,2024-06-01T22:00:00Z,2024-06-05\nB,2024-06-01,2024-06-05T12:00\n"
    )
    first, other = read_stations(tmp_path / "t.csv", parse_zone("+03:00"))
    assert [str(first.start), str(first.end)] == ["2024-06-02 01:00:00", "2024-06-05 23:59:59"]
    assert [str(other.start), str(other.end)] == ["2024-06-01 00:00:00", "2024-06-05 12:00:00"]
    assert not caplog.text
    assert str(read_stations(tmp_path / "t.csv")[0].start) == "2024-06-01 22:00:00"
    assert "times with a zone are taken as they are written, as the project has no time zone: disc" in caplog.text


def test_camtrapdp_calls_a_photograph_blank_once_and_only_without_any_animal(project, stations, tmp_path):
    root, pool = Path(project.photographs[0].root), "Pool_1"
    both = photograph(root, "P/IMG_5.JPG", 60, pool, "2024-06-04T09:00:00", box=HALVES[0], status="not_animal")
    leopard = photograph(root, "P/IMG_6.JPG", 70, pool, "2024-06-04T10:00:00", status="not_animal", note=NOT_OURS)
    second = replace(project.photographs[3], status="not_animal", individual="")
    project.photographs[3:4] = [second]
    project.photographs += [both, replace(both, key=f"{both.key}-2", box=HALVES[1]), leopard]
    camtrapdp(project, tmp_path / "out", stations)
    rows = read(tmp_path / "out/observations.csv")
    beside = [row["observationType"] for row in rows if row["mediaID"] == second.hash[:16]]
    blank = [row for row in rows if row["mediaID"] == both.key]
    assert beside == ["animal"]
    assert [(row["observationID"], row["observationType"], row["bboxX"]) for row in blank] == [(both.key, "blank", "")]
    assert leopard.key not in {row["mediaID"] for row in rows}, "it shows an animal, of which the project says nothing"
    assert leopard.key in {row["mediaID"] for row in read(tmp_path / "out/media.csv")}
    for note in (NOT_OURS, BESIDE):  # a person says so, too
        project.photographs[-1] = replace(leopard, note=note)
        ledger = Ledger(project, "now")
        ledger.clear_note(leopard.key)
        project.photographs[-1] = ledger.rows[leopard.key]
        camtrapdp(project, tmp_path / note, stations)
        assert leopard.key not in {row["mediaID"] for row in read(tmp_path / note / "observations.csv")}


def test_camtrapdp_names_only_people_whose_decisions_hold(project, stations, tmp_path):
    """An undone confirmation, and a photograph that a detector found empty."""
    blank = project.photographs[-1]
    project.photographs[-1] = replace(blank, note=NO_ANIMAL)
    project.decisions += [
        Decision("2024-07-02T10:00:00Z", "Ann", "confirm", "LION-001"),
        Decision("2024-07-02T11:00:00Z", "Ann", "undo", "2024-07-02T10:00:00Z"),
    ]
    camtrapdp(project, tmp_path / "out", stations)
    first, *_, last = read(tmp_path / "out/observations.csv")
    assert (first["classifiedBy"], first["classificationTimestamp"]) == ("Kim", "2024-07-01T10:00:00Z")
    assert (last["observationType"], last["classificationMethod"], last["classifiedBy"]) == ("blank", "", "")
    project.decisions.append(Decision("2024-07-03T10:00:00Z", "Ann", "not_animal", blank.key))
    camtrapdp(project, tmp_path / "again", stations)
    assert read(tmp_path / "again/observations.csv")[-1]["classifiedBy"] == "Ann"


def seasons(project):
    """The same photographs in two seasons, with two cameras at Pool_1."""
    rows = [replace(row, season="2024", camera=row.path[-5]) for row in project.photographs]
    further = [photograph(Path(rows[0].root), "Q/later.png", 60, "Pool_1", "2025-01-02T03:04:05", status="unsure")]
    return replace(project, photographs=rows + [replace(row, season="2025") for row in further])


def stations_of_seasons(stations):
    """The stations of 2024, and Pool_1 in 2025."""
    header, *rows = STATIONS.splitlines()
    further = "Pool_1,-1.75,36.5,252000.5,9831000,,,2025"
    stations.write_text("\n".join([f"{header},season", *(f"{row},2024" for row in rows), further]))


@pytest.fixture
def frictionless():
    """The package, without the higher limit on the length of cells that it sets for the whole process."""
    limit = csv.field_size_limit()
    yield pytest.importorskip("frictionless", reason="frictionless is not installed")
    csv.field_size_limit(limit)


@pytest.mark.parametrize("several", [False, True])
def test_camtrapdp_is_valid_by_frictionless_and_the_profile(project, stations, tmp_path, frictionless, several):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    output = tmp_path / "out"
    if several:
        stations_of_seasons(stations)
    camtrapdp(seasons(project) if several else project, output, stations, files="copy")
    description = json.loads((output / "datapackage.json").read_text())
    jsonschema.validate(description, json.loads((SCHEMAS / "camtrap-dp-profile.json").read_text()))
    for resource in description["resources"]:
        resource["schema"] = json.loads((SCHEMAS / Path(resource["schema"]).name).read_text())
    del description["profile"]
    package = frictionless.Package.from_descriptor(description, basepath=str(output))
    report = package.validate()
    assert report.valid, report.flatten(["rowNumber", "fieldName", "type", "note"])
    assert [resource.name for resource in package.resources] == ["deployments", "media", "observations"]
    assert all((output / row["filePath"]).is_file() for row in read(output / "media.csv"))


def test_a_wrong_package_is_not_valid(project, stations, tmp_path, frictionless):
    camtrapdp(project, tmp_path / "out", stations)
    path = tmp_path / "out/observations.csv"
    path.write_text(path.read_text().replace("animal", "lion", 1))
    schema = frictionless.Schema.from_descriptor(str(SCHEMAS / "observations-table-schema.json"))
    schema.foreign_keys = []
    report = frictionless.validate(frictionless.Resource(path=path.name, basepath=str(path.parent), schema=schema))
    assert report.flatten(["fieldName", "type"]) == [["observationType", "constraint-error"]]


def test_a_season_and_a_camera_are_part_of_a_deployment_where_there_are_several(project, stations, tmp_path):
    stations_of_seasons(stations)
    camtrapdp(seasons(project), tmp_path / "out", stations)
    names = {row["deploymentID"] for row in read(tmp_path / "out/deployments.csv")}
    assert {"2024_Pool_1_1", "2024_Pool_1_3", "2024_Pool_1_4", "2024_North ridge_1", "2025_Pool_1"} <= names
    assert read(tmp_path / "out/media.csv")[-1]["filePath"] == "2025/Q/later.png"


def test_two_deployments_never_share_a_name(project, stations, tmp_path):
    """Camera 1 of the station Pool and the station Pool_1 would both be Pool_1."""
    rows = project.photographs
    project.photographs[:2] = [replace(row, station="Pool", camera=str(n)) for n, row in enumerate(rows[:2])]
    stations.write_text(STATIONS.replace("North ridge", "Pool"))
    camtrapdp(project, tmp_path / "out", stations)
    places = {(row["deploymentID"], row["locationID"]) for row in read(tmp_path / "out/deployments.csv")}
    assert places == {("Pool_0", "Pool"), ("Pool_1", "Pool"), ("Pool_1_2", "Pool_1"), ("Unused", "Unused")}
    assert [row["deploymentID"] for row in read(tmp_path / "out/media.csv")] == ["Pool_0", "Pool_1"] + ["Pool_1_2"] * 3


def test_camtrapdp_refuses_a_path_that_it_forbids(project, stations, tmp_path):
    project.photographs[0] = replace(project.photographs[0], path="N/..hidden.jpg")
    with pytest.raises(ValueError, match=r"allows no path such as N/\.\.hidden\.jpg: take out"):
        camtrapdp(project, tmp_path / "out", stations)
    assert not (tmp_path / "out").exists()


def test_camtrapr_has_the_expected_lines(project, stations, tmp_path):
    FORMATS["camtrapr"](project, tmp_path / "out", species="Panthera leo", stations_table=stations)
    north, pool = tmp_path / "photographs/N", tmp_path / "photographs/P"
    assert (tmp_path / "out/record_table.csv").read_text().splitlines() == [
        "Station,Species,Individual,DateTimeOriginal,Date,Time,"
        "delta.time.secs,delta.time.mins,delta.time.hours,delta.time.days,Directory,FileName",
        f"North ridge,Panthera leo,LION-001,2024-06-01 23:30:00,2024-06-01,23:30:00,0,0,0.0,0.0,{north},IMG_1.JPG",
        f"North ridge,Panthera leo,LION-001,2024-06-01 23:30:20,2024-06-01,23:30:20,20,0,0.0,0.0,{north},IMG_2.JPG",
        f"Pool_1,Panthera leo,LION-001,2024-06-03 06:00:00,2024-06-03,06:00:00,0,0,0.0,0.0,{pool},IMG_1.JPG",
        f"Pool_1,Panthera leo,LION-002,2024-06-03 06:00:00,2024-06-03,06:00:00,0,0,0.0,0.0,{pool},IMG_1.JPG",
    ]
    assert (tmp_path / "out/station_table.csv").read_text().splitlines() == [
        "Station,X,Y,Setup_date,Retrieval_date",
        "North ridge,250000.0,9834000.0,2024-06-01,2024-06-05",
        "Pool_1,252000.5,9831000.0,2024-06-01,2024-06-04",
        "Unused,255000.0,9830000.0,2024-06-02,2024-06-05",
    ]


def test_secr_has_one_line_for_an_animal_a_detector_and_an_occasion(project, stations, tmp_path):
    FORMATS["secr"](project, tmp_path / "out", stations_table=stations)
    # The first occasion is 1 June, the first start; the burst of two is one capture.
    assert (tmp_path / "out/captures.txt").read_text().splitlines() == [
        "# Session ID Occasion Detector",
        "1 LION-001 1 North-ridge",
        "1 LION-001 3 Pool-1",
        "1 LION-002 3 Pool-1",
    ]
    assert (tmp_path / "out/traps.txt").read_text().splitlines() == [
        "# Detector X Y Usage",
        "North-ridge 250000 9834000 11111",
        "Pool-1 252000.5 9831000 11110",
        "Unused 255000 9830000 01111",
    ]
    FORMATS["secr"](project, tmp_path / "two", stations_table=stations, occasion_days=2)
    assert "1 LION-001 2 Pool-1" in (tmp_path / "two/captures.txt").read_text().splitlines()
    # 1 and 2 June, 3 and 4 June, 5 June
    assert "Pool-1 252000.5 9831000 110" in (tmp_path / "two/traps.txt").read_text().splitlines()


def test_secr_counts_days_after_the_last_capture_without_any_start_or_end(project, stations, tmp_path):
    """Photographs of 1 to 4 June, the last animal that counts on the 3rd: secr would end there without usage."""
    stations.write_text("station,x,y\nNorth ridge,1,2\nPool_1,3,4\n")
    FORMATS["secr"](project, tmp_path / "out", stations_table=stations)
    lines = (tmp_path / "out/traps.txt").read_text().splitlines()
    assert lines == ["# Detector X Y Usage", "North-ridge 1 2 1111", "Pool-1 3 4 1111"]


def two_seasons(project, stations):
    """2024 as it is and 2025, in which nobody identified the animal; only North ridge has a row of its own for 2024."""
    project.photographs = [row for row in seasons(project).photographs if row.status != "not_animal"]
    project.photographs[-1] = replace(project.photographs[-1], station="Pool_1")
    stations.write_text(
        "station,season,x,y,start,end\n"
        "North ridge,,1,1,2023-01-01,2025-12-31\nNorth ridge,2024,250000,9834000,2024-06-01,2024-06-04\n"
        "Pool_1,,252000,9831000,,\n"
    )


def test_secr_takes_the_seasons_row_of_a_station_and_names_what_it_does_without(project, stations, tmp_path, caplog):
    two_seasons(project, stations)
    FORMATS["secr"](project, tmp_path / "out", stations_table=stations)
    assert (tmp_path / "out/traps.txt").read_text().splitlines() == [
        "# Detector X Y Usage",
        "North-ridge 250000 9834000 1111",
        "Pool-1 252000 9831000 1111",
    ]
    assert "No animal is identified in 2025: the export has no session for it" in caplog.text
    assert "no start or end of Pool_1: the first or the last day of the season stands in for it" in caplog.text


def test_secr_asks_for_the_season_of_a_start_where_there_are_several_seasons(project, stations, tmp_path):
    project = seasons(project)
    with pytest.raises(ValueError, match="of North ridge, Pool_1, Unused without a season, .* seasons: 2024, 2025"):
        FORMATS["secr"](project, tmp_path / "out", stations_table=stations)
    assert not (tmp_path / "out").exists()
    stations_of_seasons(stations)
    FORMATS["secr"](project, tmp_path / "out", stations_table=stations)
    assert "Unused 255000 9830000 01111" in (tmp_path / "out/traps.txt").read_text()


def test_camtrapr_has_numbered_sessions_where_the_project_has_several_seasons(project, stations, tmp_path, caplog):
    """It refuses a Session of names, and one in both tables. No day of North ridge in 2025 is known."""
    two_seasons(project, stations)
    stations.write_text("station,x,y\nNorth ridge,250000,9834000\nPool_1,252000,9831000\n")
    FORMATS["camtrapr"](project, tmp_path / "out", species="Panthera leo", stations_table=stations)
    assert (tmp_path / "out/station_table.csv").read_text().splitlines() == [
        "Station,X,Y,Setup_date,Retrieval_date,Session,Season",
        "North ridge,250000.0,9834000.0,2024-06-01,2024-06-01,1,2024",
        "Pool_1,252000.0,9831000.0,2024-06-03,2024-06-04,1,2024",
        "Pool_1,252000.0,9831000.0,2025-01-02,2025-01-02,2,2025",
    ]
    (record, *_) = records = read(tmp_path / "out/record_table.csv")
    assert {row["Season"] for row in records} == {"2024"} and "Session" not in record
    assert "Left out of the export, as they have no photograph and no start or end: North ridge in 2025." in caplog.text
    assert "refuses a setup and a retrieval on one day, as of North ridge, Pool_1: give start and end" in caplog.text


def test_camtrapr_takes_the_seasons_row_of_a_station(project, stations, tmp_path):
    two_seasons(project, stations)
    given = {"species": "Panthera leo", "stations_table": stations}
    with pytest.raises(ValueError, match="start or an end of North ridge without a season, .* seasons: 2024, 2025"):
        FORMATS["camtrapr"](project, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    stations.write_text(stations.read_text().replace("North ridge,,1,1,2023-01-01", "North ridge,2025,1,1,2025-01-01"))
    FORMATS["camtrapr"](project, tmp_path / "out", **given)
    assert (tmp_path / "out/station_table.csv").read_text().splitlines()[1:] == [
        "Pool_1,252000.0,9831000.0,2024-06-03,2024-06-04,1,2024",
        "North ridge,250000.0,9834000.0,2024-06-01,2024-06-04,1,2024",
        "Pool_1,252000.0,9831000.0,2025-01-02,2025-01-02,2,2025",
        "North ridge,1.0,1.0,2025-01-01,2025-12-31,2,2025",
    ]


@pytest.mark.parametrize("name", ["secr", "camtrapr"])
def test_a_photograph_of_a_day_without_usage_is_refused(project, stations, tmp_path, name):
    """Of a station whose end alone is known, the message names no start."""
    options = {"species": "Panthera leo"} if name == "camtrapr" else {}
    for start, said in (("2024-06-01T12:00:00", " from 2024-06-01"), ("", "")):
        stations.write_text(STATIONS.replace("2024-06-01T12:00:00,2024-06-04", f"{start},2024-06-02"))
        with pytest.raises(
            ValueError, match=rf"P/IMG_1\.JPG was taken on 2024-06-03, .* Pool_1{said} until 2024-06-02:"
        ):
            FORMATS[name](project, tmp_path / "out", stations_table=stations, **options)
        assert not (tmp_path / "out").exists()


def test_secr_refuses_two_stations_with_one_legal_name(project, stations, tmp_path):
    stations.write_text(STATIONS + "Pool-1,0,0,1,1,,\n")
    with pytest.raises(ValueError, match="Pool-1 and Pool_1 would both be called Pool-1 in secr"):
        FORMATS["secr"](project, tmp_path / "out", stations_table=stations)


def test_wildbook_has_an_encounter_for_each_animal_of_a_sequence(project, tmp_path):
    FORMATS["wildbook"](project, tmp_path / "out", species="Panthera leo")
    sheet = tmp_path / "out/sheet_1"
    rows, names = read(sheet / "sheet_1.csv"), [f"{row.hash[:16]}.jpg" for row in project.photographs]
    assert list(rows[0]) == [
        "Encounter.mediaAsset0", "Encounter.mediaAsset1", "Encounter.year", "Encounter.month", "Encounter.day",
        "Encounter.hour", "Encounter.minutes", "Encounter.genus", "Encounter.specificEpithet",
        "Encounter.verbatimLocality", "Encounter.sightingID", "MarkedIndividual.individualID",
    ]  # fmt: skip
    values = [",".join(row.values()) for row in rows]
    assert values == [
        f"{names[0]},{names[1]},2024,6,1,23,30,Panthera,leo,North ridge,s1,LION-001",
        f"{names[2]},,2024,6,3,6,0,Panthera,leo,Pool_1,s2,LION-001",
        f"{names[3]},,2024,6,3,6,0,Panthera,leo,Pool_1,s2,LION-002",
        f"{names[4]},,2024,6,4,7,8,Panthera,leo,Pool_1,s3,",
    ]
    assert {path.name for path in sheet.glob("*.jpg")} == set(names[:5])


def test_sequences_of_two_stations_are_two_sightings_in_wildbook(project, tmp_path):
    """Its IDs have no other letters than those of English: of some names nothing else is left, or the same."""
    names = ["leo Север 1", "leo Юг 1", "A 1", "A-1", "Юг", ""]
    project.photographs = [replace(row, sequence=name) for row, name in zip(project.photographs, names, strict=True)]
    project.photographs[-1] = replace(project.photographs[-1], status="unsure")
    FORMATS["wildbook"](project, tmp_path / "out", species="Panthera leo")
    sightings = [row["Encounter.sightingID"] for row in read(tmp_path / "out/sheet_1/sheet_1.csv")]
    digits = [hashlib.sha256(name.encode()).hexdigest()[:8] for name in names]
    assert sightings == [f"leo-1-{digits[0]}", f"leo-1-{digits[1]}", "A-1", f"A-1-{digits[3]}", digits[4], ""]


def test_wildbook_sheets_have_at_most_200_encounters(project, tmp_path):
    one = project.photographs[0]
    project.photographs = [replace(one, key=f"{one.key}-{n + 2}", sequence=f"s{n:03d}") for n in range(201)]
    FORMATS["wildbook"](project, tmp_path / "out", species="Panthera leo")
    assert [len(read(tmp_path / f"out/sheet_{n}/sheet_{n}.csv")) for n in (1, 2)] == [200, 1]


def test_coco_has_boxes_in_pixels_and_individual_ids(project, tmp_path):
    FORMATS["coco"](project, tmp_path / "coco.json", species="Panthera leo")
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [(image["id"], image["file_name"], image["width"], image["height"]) for image in found["images"]] == [
        (1, "N/IMG_1.JPG", 40, 20),
        (2, "N/IMG_2.JPG", 40, 20),
        (3, "P/IMG_1.JPG", 40, 20),
        (4, "P/IMG_3.JPG", 40, 20),
        (5, "P/IMG_4.JPG", 40, 20),
    ]
    assert [(each["image_id"], each["individual_id"], each["bbox"]) for each in found["annotations"]] == [
        (1, "LION-001", [0, 0, 40, 20]),
        (2, "LION-001", [0, 0, 40, 20]),
        (3, "LION-001", [0, 0, 20, 20]),
        (3, "LION-002", [20, 0, 20, 20]),
        (4, "", [0, 0, 40, 20]),
    ]
    assert found["categories"] == [{"id": 1, "name": "Panthera leo", "supercategory": "animal"}]


def test_coco_measures_photographs_upright(project, tmp_path):
    row = project.photographs[0]
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    Image.new("L", (40, 20)).save(row.file, exif=exif)
    project.photographs = [row]
    FORMATS["coco"](project, tmp_path / "coco.json")
    (image,) = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert (image["width"], image["height"]) == (20, 40)


@pytest.mark.parametrize("files", ["copy", "link"])
def test_folders_hold_each_animal_and_the_unmatched(project, tmp_path, files):
    FORMATS["folders"](project, tmp_path / "out", files=files)
    one, pool = project.photographs[0], project.photographs[2]
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*")}
    assert found == {
        f"LION-001/IMG_1-{one.key}.JPG", "LION-001/IMG_2.JPG", f"LION-001/IMG_1-{pool.key}.JPG",
        "LION-002/IMG_1.JPG", "Unmatched/IMG_3.JPG",
    }  # fmt: skip
    path = tmp_path / "out/LION-002/IMG_1.JPG"
    assert path.is_symlink() == (files == "link")
    assert path.read_bytes() == pool.file.read_bytes()


def test_features_are_written_with_what_names_their_rows(project, tmp_path):
    FORMATS["features"](project, tmp_path / "out")
    with np.load(tmp_path / "out/features.npz") as found:
        assert found["features"].shape == (5, 4)
        assert found["individual"].tolist() == ["LION-001", "LION-001", "LION-001", "LION-002", ""]
        assert found["key"].tolist() == [row.key for row in project.photographs[:5]]
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(tmp_path / "out/features.parquet")
    assert table.column("features").to_pylist()[1] == [0, 1, 0, 0]


def test_features_are_written_without_pyarrow(project, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    FORMATS["features"](project, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["features.npz"]


def test_animalclef_has_a_cluster_for_every_photograph(project, tmp_path):
    FORMATS["animalclef"](project, tmp_path / "submission.csv")
    unsure, blank = project.photographs[4:]
    expected = [
        "image_id,cluster",
        "N/IMG_1.JPG,LION-001",
        "N/IMG_2.JPG,LION-001",
        "P/IMG_1.JPG,LION-001",
        f"P/IMG_3.JPG,unmatched-{unsure.key}",
        f"P/IMG_4.JPG,unmatched-{blank.key}",
    ]
    assert (tmp_path / "submission.csv").read_text().splitlines() == expected
    ids = tmp_path / "metadata.csv"
    paths = [row.path for row in project.photographs if row.key[-2] != "-"]
    ids.write_text("image_id,path\n" + "".join(f"{n},images/{path}\n" for n, path in enumerate(paths, start=100)))
    with pytest.raises(ValueError, match="submission.csv is there already"):
        FORMATS["animalclef"](project, tmp_path / "submission.csv", image_ids=ids)
    assert (tmp_path / "submission.csv").read_text().splitlines() == expected
    FORMATS["animalclef"](project, tmp_path / "numbered.csv", image_ids=ids)
    assert (tmp_path / "numbered.csv").read_text().splitlines()[1] == "100,LION-001"
    ids.write_text("image_id,path\n1,N/IMG_1.JPG\n")
    with pytest.raises(ValueError, match="--image-ids does not name N/IMG_2.JPG"):
        FORMATS["animalclef"](project, tmp_path / "other.csv", image_ids=ids)


def test_a_photograph_is_found_whose_name_is_decomposed_on_disk(project, stations, tmp_path):
    """As macOS stores names; tables hold them composed."""
    on_disk, in_table = (unicodedata.normalize(form, "N/Löwe é.JPG") for form in ("NFD", "NFC"))
    row = project.photographs[0]
    row.file.rename(Path(row.root, on_disk))
    project.photographs[0] = replace(row, path=in_table)
    FORMATS["folders"](project, tmp_path / "folders")
    assert (tmp_path / "folders/LION-001" / Path(in_table).name).is_file()
    FORMATS["coco"](project, tmp_path / "coco.json")
    FORMATS["camtrapr"](project, tmp_path / "camtrapr", species="Panthera leo", stations_table=stations)
    records = read(tmp_path / "camtrapr/record_table.csv")
    assert all(Path(one["Directory"], one["FileName"]).is_file() for one in records)


def saved(text: str, separator: str, encoding: str) -> bytes:
    """A table as a spreadsheet of another country saves it."""
    return text.replace(",", separator).encode(encoding)


SAVED = [(",", "utf-8-sig"), (";", "cp1252"), ("\t", "utf-16")]


@pytest.mark.parametrize(("separator", "encoding"), SAVED)
def test_tables_that_are_given_are_read_as_spreadsheets_save_them(project, tmp_path, separator, encoding):
    path = tmp_path / "table.csv"
    path.write_bytes(saved("Station,Latitude\nHügel,-1.5\n", separator, encoding))
    assert [(one.station, one.latitude) for one in read_stations(path)] == [("Hügel", -1.5)]
    names = sorted({row.path for row in project.photographs})
    lines = ["path,image_id", *(f"images/{name},é{number}" for number, name in enumerate(names))]
    path.write_bytes(saved("\n".join(lines), separator, encoding))
    FORMATS["animalclef"](project, tmp_path / "out.csv", image_ids=path)
    assert [row["image_id"] for row in read(tmp_path / "out.csv")] == ["é0", "é1", "é2", "é3", "é4"]
    when = [decision.when for decision in project.decisions]
    path.write_bytes(saved(table_text(project.decisions, Decision), separator, encoding))
    assert [one.when for one in read_table(path, Decision)] == when == ["2024-07-01T10:00:00.123Z"]


BROKEN = {
    "a huge cell": ("x" * 200_000 + "\n", "field larger than field limit"),
    "a short row": ("x\n", "table.csv line 2: 1 cells, but the header has 2"),
    "no table": (None, "table.csv cannot be read"),
}


@pytest.mark.parametrize(("rows", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_tables_that_are_given_are_named_alike(project, tmp_path, rows, said):
    for header, give in (
        ("station,x\n", read_stations),
        ("image_id,path\n", lambda path: FORMATS["animalclef"](project, tmp_path / "out.csv", image_ids=path)),
    ):
        if rows is not None:
            (tmp_path / "table.csv").write_text(header + rows)
        with pytest.raises(UserError, match=said):
            give(tmp_path / "table.csv")


def test_rows_that_a_quote_joins_are_warned_of(tmp_path, caplog):
    (tmp_path / "table.csv").write_text('station,x\n"A\nB",1\nC,2\n')
    assert [one.station for one in read_stations(tmp_path / "table.csv")] == ["A\nB", "C"]
    assert "1 row over several lines" in caplog.text


def test_a_table_of_image_ids_names_a_photograph_once(project, tmp_path):
    paths = sorted({row.path for row in project.photographs})
    lines = [f"{number},{path}\n" for number, path in enumerate(paths)]
    (tmp_path / "ids.csv").write_text("image_id,path\n" + "".join(lines) + f"9,./{paths[0]}\n")
    with pytest.raises(UserError, match=f"ids.csv line 7: {paths[0]} is there twice"):
        FORMATS["animalclef"](project, tmp_path / "out.csv", image_ids=tmp_path / "ids.csv")


def test_photographs_of_two_cards_with_one_path_stay_two(project, stations, tmp_path):
    """Two cards of one season, whose cameras count alike."""
    one, other = (
        photograph(tmp_path / card, "N/IMG_1.JPG", grey, "Pool_1", "2024-06-01T23:30:00", status="unsure")
        for card, grey in (("a", 70), ("b", 80))
    )
    project.photographs = [one, other]
    names = [f"N/IMG_1-{row.hash[:16]}.JPG" for row in project.photographs]
    for files in ("copy", "link"):
        camtrapdp(project, tmp_path / files, stations, files=files)
        paths = {row["mediaID"]: row["filePath"] for row in read(tmp_path / files / "media.csv")}
        assert [paths[row.key] for row in (one, other)] == [f"media/{name}" for name in names]
        for row in (one, other):
            assert (tmp_path / files / paths[row.key]).read_bytes() == row.file.read_bytes()
    FORMATS["animalclef"](project, tmp_path / "ids.csv")
    assert {row["image_id"] for row in read(tmp_path / "ids.csv")} == set(names)
    FORMATS["coco"](project, tmp_path / "coco.json")
    files = {Path(image["file_name"]) for image in json.loads((tmp_path / "coco.json").read_text())["images"]}
    assert files == {one.file, other.file}
    (tmp_path / "given.csv").write_text("image_id,path\n1,N/IMG_1.JPG\n")
    with pytest.raises(UserError, match="Several photographs have the path N/IMG_1.JPG, which --image-ids cannot"):
        FORMATS["animalclef"](project, tmp_path / "out.csv", image_ids=tmp_path / "given.csv")


def lacks(project, name, **options):
    return FORMATS[name].requirements(Contents(project, Options(**options)))


def test_all_that_is_missing_is_asked_for_by_its_flag_before_anything_is_written(project, tmp_path):
    project.decisions = []
    with pytest.raises(ValueError) as error:
        FORMATS["camtrapdp"](project, tmp_path / "out")
    assert str(error.value).splitlines() == [
        "For camtrapdp the project lacks:",
        '  the species, as genus and epithet: --species "Panthera leo"',
        "  the time zone of the cameras' clocks: --timezone +03:00 (or Africa/Nairobi)",
        '  who contributes the data: --contributor "Ada Lovelace"',
        "  the coordinates of North ridge, Pool_1: --stations-table stations.csv with the columns station, latitude, "
        "longitude in decimal degrees",
    ]
    assert not (tmp_path / "out").exists()
    assert lacks(project, "folders") == []
    assert lacks(project, "wildbook", species="Panthera leo") == []


def test_a_project_without_stations_dates_or_animals_says_what_to_discover(project, stations, tmp_path):
    bare = [replace(row, station="", date_time="", individual="", status="unsure") for row in project.photographs]
    project.photographs = bare
    missing = lacks(project, "secr", stations_table=stations)
    assert missing == [
        "photographs with an animal: discover finds none in this project",
        "dates of photographs: discover --photos FOLDER --table metadata.csv with a column date_time",
        "the station of 6 photographs, such as N/IMG_1.JPG: discover --photos FOLDER --stations 1",
    ]


def test_a_photograph_that_is_not_exported_needs_no_station(project, stations, tmp_path):
    root = Path(project.photographs[0].root)
    stray = photograph(root, "setup.jpg", 80, "", "2024-06-04T10:00:00", status="not_animal")
    project.photographs.append(stray)
    given = {"species": "Panthera leo", "stations_table": stations}
    for name in ("camtrapr", "wildbook", "secr"):
        assert lacks(project, name, **given) == []
    project.photographs[-1] = replace(stray, status="unsure")
    cure = "--table metadata.csv with the columns path, station"
    expected = [f"the station of 1 photograph, such as setup.jpg: discover --photos FOLDER {cure}"]
    assert lacks(project, "wildbook", **given) == expected and lacks(project, "camtrapr", **given) == []


def test_a_table_of_stations_of_other_seasons_says_so(project, stations):
    project.photographs = [replace(row, season="leo_2024") for row in project.photographs]
    header, *rows = STATIONS.splitlines()
    stations.write_text("\n".join([f"{header},session", *(f"{row},2024" for row in rows)]))
    (said,) = lacks(project, "secr", stations_table=stations)
    assert said.startswith("the coordinates of North ridge, Pool_1: --stations-table")
    assert ". It has them for the season 2024, not for leo_2024: correct its column, or leave it empty" in said


def test_photographs_without_a_date_are_left_out_with_a_warning(project, stations, tmp_path, caplog):
    project.photographs[1] = replace(project.photographs[1], date_time="")
    camtrapdp(project, tmp_path / "out", stations)
    assert len(read(tmp_path / "out/media.csv")) == 4
    assert "Left out of the export, as they have no date: 1 photograph." in caplog.text


def test_an_option_of_another_format_is_refused(project, tmp_path):
    with pytest.raises(ValueError, match="folders does not use --timezone; its options: --files"):
        FORMATS["folders"](project, tmp_path / "out", timezone="Z")


def test_an_output_with_files_in_it_stays_as_it_is(project, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there already: remove it, or give another name"):
        FORMATS["folders"](project, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_file_is_not_written_over_a_folder(project, tmp_path):
    with pytest.raises(UserError, match="coco is written to a file, and .*photographs is a folder"):
        FORMATS["coco"](project, tmp_path / "photographs")


def test_a_failed_export_leaves_nothing(project, tmp_path):
    project.photographs[2].file.unlink()
    with pytest.raises(ValueError, match=r"There is no .*IMG_1\.JPG: put the photographs back"):
        FORMATS["folders"](project, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photographs"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\nA\n", "expected a column station, got 'name'"),
        ("station,x\nA,east\n", "line 2: expected x to be a number with a decimal point, got 'east'"),
        ("station;lat;lon\nA;91;0\n", "line 2: expected latitude to be within 90 of zero, got '91'"),
        ("station,start\nA,June\n", "line 2: expected start to be a date such as 2024-06-03, got 'June'"),
        ("station,x\nA,1\nA,2\n", "the station A is there twice"),
    ],
)
def test_a_table_of_stations_that_does_not_fit_is_an_error_with_its_line(project, tmp_path, text, message):
    (tmp_path / "stations.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        FORMATS["secr"](project, tmp_path / "out", stations_table=tmp_path / "stations.csv")


def test_a_time_zone_is_an_offset_or_a_name_that_knows_summer_time():
    from datetime import datetime

    assert parse_zone("") is None
    summer, winter = datetime(2024, 7, 1), datetime(2024, 1, 1)
    zone = parse_zone("Europe/Berlin")
    assert [time.replace(tzinfo=zone).isoformat()[-6:] for time in (summer, winter)] == ["+02:00", "+01:00"]
    assert summer.replace(tzinfo=parse_zone("-03:30")).isoformat()[-6:] == "-03:30"
    for wrong in ("EAT+3", "+25:00", "../x"):
        with pytest.raises(ValueError, match="Expected --timezone such as"):
            parse_zone(wrong)


def test_wildbook_sheets_are_xlsx_as_well_where_openpyxl_is_installed(project, tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    project.photographs = [replace(row, station=f"={row.station}") for row in project.photographs]
    FORMATS["wildbook"](project, tmp_path / "out", species="Panthera leo")
    sheet = tmp_path / "out/sheet_1"
    cells = list(openpyxl.load_workbook(sheet / "sheet_1.xlsx").active.iter_rows())
    assert {cell.data_type for row in cells for cell in row} == {"n", "s"}, "none is a formula"
    text = [tuple("" if cell.value is None else str(cell.value) for cell in row) for row in cells]
    assert text == [
        tuple(read(sheet / "sheet_1.csv")[0]),
        *(tuple(row.values()) for row in read(sheet / "sheet_1.csv")),
    ]
