"""Camtrap DP 1.0.2 (https://camtrap-dp.tdwg.org): deployments, media, observations and their datapackage.json."""

import json
import mimetypes
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...escape import visible
from ...version import __version__
from ..links import active
from ..notes import NO_ANIMAL, NOT_OURS
from ..rows import Photograph, iso_time
from .contents import (
    Contents,
    check_within,
    dated,
    distinct,
    new_folder,
    place_file,
    station_of,
    warn_of_effort,
    write_csv,
)
from .requirements import names_of_contributors
from .stations import Station

SCHEMAS = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"
COLUMNS = {
    "deployments": (
        "deploymentID", "locationID", "locationName", "latitude", "longitude", "coordinateUncertainty",
        "deploymentStart", "deploymentEnd", "setupBy", "cameraID", "cameraModel", "cameraDelay", "cameraHeight",
        "cameraDepth", "cameraTilt", "cameraHeading", "detectionDistance", "timestampIssues", "baitUse", "featureType",
        "habitat", "deploymentGroups", "deploymentTags", "deploymentComments",
    ),
    "media": (
        "mediaID", "deploymentID", "captureMethod", "timestamp", "filePath", "filePublic", "fileName", "fileMediatype",
        "exifData", "favorite", "mediaComments",
    ),
    "observations": (
        "observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd", "observationLevel",
        "observationType", "cameraSetupType", "scientificName", "count", "lifeStage", "sex", "behavior", "individualID",
        "individualPositionRadius", "individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth",
        "bboxHeight", "classificationMethod", "classifiedBy", "classificationTimestamp", "classificationProbability",
        "observationTags", "observationComments",
    ),
}  # fmt: skip
LEGAL_PATH = re.compile(r"^(?=^[^./~])(^((?!\.{2}).)*$).*$")  # of media.filePath


def write(contents: Contents, output: Path) -> None:
    """Write the package; with --files, the photographs lie in it.

    A deployment is a station in a season, and a camera where a station has several. Scores are no probabilities, so
    classificationProbability stays empty. Photographs without a date are left out with a warning.

    Raises:
        ValueError: if the path of a photograph is one that the format forbids, or it was taken while its station had
            no camera.
    """
    package = Package(contents)
    check_within(contents.stations, package.rows)
    tables = {"deployments": package.deployments, "media": package.media, "observations": package.observations}
    with new_folder(output) as folder:
        for name, rows in tables.items():
            columns = COLUMNS[name]
            write_csv(folder / f"{name}.csv", columns, ([row.get(column, "") for column in columns] for row in rows()))
        text = json.dumps(package.description(), indent=2, ensure_ascii=False)
        (folder / "datapackage.json").write_text(text + "\n", encoding="utf-8")
        if contents.options.files:
            for row in package.by_file.values():
                place_file(row, folder / package.path(row), contents.options.files)


class Package:
    """The rows of the three tables, as dictionaries without the columns that stay empty.

    Attributes:
        rows: photographs with a date.
        by_file: one of the rows of each file, by the file's hash.
    """

    def __init__(self, contents: Contents):
        self.contents = contents
        self.rows = dated(contents.photographs)
        self.by_file = {row.hash: row for row in reversed(self.rows)}
        self.sexes = {animal.individual: animal.sex for animal in contents.project.animals}

    @cached_property
    def cameras(self) -> dict[str, set[str]]:
        """The cameras of each station."""
        by_station: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            by_station[row.station].add(row.camera)
        return by_station

    def deployment(self, row: Photograph) -> str:
        """The deployment that a photograph belongs to."""
        return self._names[self._place(row)]

    def _place(self, row: Photograph) -> tuple[str, str, str]:
        """Season, station and camera, as far as there are several of them."""
        season = row.season if len(self.contents.seasons) > 1 else ""
        return season, row.station, row.camera if len(self.cameras[row.station]) > 1 else ""

    @cached_property
    def _names(self) -> dict[tuple[str, str, str], str]:
        """Place -> deploymentID; camera 1 of station A and a station A_1 are numbered, as both would be A_1."""
        places = {self._place(row) for row in self.rows}
        places |= {(station.season, station.station, "") for station in self._unused}
        names: dict[str, tuple[str, str, str]] = {}
        for place in sorted(places):
            name = joined = "_".join(filter(None, place))
            number = 1
            while name in names:
                number += 1
                name = f"{joined}_{number}"
            names[name] = place
        return {place: name for name, place in names.items()}

    @cached_property
    def _unused(self) -> list[Station]:
        """Stations of the table that had a camera and have no photographs."""
        stations = self.contents.stations
        seen = {station_of(stations, row) for row in self.rows}
        return [station for station in stations if station not in seen and station.start and station.end]

    def time(self, value: datetime) -> str:
        """A local time with its zone."""
        return value.replace(tzinfo=self.contents.zone).isoformat(timespec="seconds")

    def path(self, row: Photograph) -> str:
        """Where a photograph lies below the package; without --files, where it lay below the folder of its season."""
        path = f"media/{self._places[row.hash]}" if self.contents.options.files else self._below_season(row)
        if not LEGAL_PATH.match(path):
            raise UserError(
                f"Camtrap DP allows no path such as {visible(path)}: take out '..', or a leading '.' or '~'."
            )
        return path

    @cached_property
    def _places(self) -> dict[str, str]:
        return distinct({content: self._below_season(row) for content, row in self.by_file.items()})

    def _below_season(self, row: Photograph) -> str:
        return f"{row.season}/{row.path}" if len(self.contents.seasons) > 1 and row.season else row.path

    def deployments(self) -> Iterator[dict[str, Any]]:
        """A row for each camera at a station in a season, and for each station of the table without photographs."""
        groups: dict[str, list[Photograph]] = defaultdict(list)
        for row in self.rows:
            groups[self.deployment(row)].append(row)
        stations = self.contents.stations
        warn_of_effort({station_of(stations, rows[0]) for rows in groups.values()})
        for name, rows in sorted(groups.items()):
            times = [row.moment for row in rows]
            yield self._deployment(name, station_of(stations, rows[0]), times, rows[0].camera, rows[0].season)
        for station in self._unused:
            name = self._names[station.season, station.station, ""]
            yield self._deployment(name, station, [], "", station.season)

    def _deployment(self, name: str, station: Station, times: list[datetime], camera: str, season: str) -> dict:
        return {
            "deploymentID": name,
            "locationID": station.station,
            "locationName": station.station,
            "latitude": station.latitude,
            "longitude": station.longitude,
            "deploymentStart": self.time(station.start or min(times)),
            "deploymentEnd": self.time(station.end or max(times)),
            "cameraID": camera,
            "deploymentGroups": f"season:{season}" if season else "",
        }

    def media(self) -> Iterator[dict[str, Any]]:
        """A row for each file."""
        for row in reversed(self.by_file.values()):
            yield {
                "mediaID": row.hash[:16],
                "deploymentID": self.deployment(row),
                "timestamp": self.time(row.moment),
                "filePath": self.path(row),
                "filePublic": "false",
                "fileName": row.file.name,
                "fileMediatype": mimetypes.guess_type(row.file.name)[0] or "image/jpeg",
            }

    def observations(self) -> Iterator[dict[str, Any]]:
        """A row for each animal on a photograph; one `blank` for a photograph that shows none.

        A photograph that shows people, vehicles or other species alone has none: it is not blank.
        """
        events = self._events()
        for row in self._observed():
            start, end = events[row.season, row.sequence or row.key]
            observation = {
                "observationID": row.key,
                "deploymentID": self.deployment(row),
                "mediaID": row.hash[:16],
                "eventID": row.sequence or row.key,
                "eventStart": self.time(start),
                "eventEnd": self.time(end),
                "observationLevel": "media",
                "observationType": "animal" if row.usable else "blank",
                **self._classification(row),
            }
            if row.usable:
                observation |= {"scientificName": self.contents.species, "count": 1}
            if row.counts and row.individual:
                sex = self.sexes.get(row.individual, "")
                observation |= {"individualID": row.individual, "sex": sex if sex in ("female", "male") else ""}
            if row.box and row.usable:
                observation |= dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), row.box, strict=True))
            yield observation

    def _observed(self) -> Iterator[Photograph]:
        """The rows that are observations: those of animals, and the first one of a photograph without any."""
        seen = {row.hash for row in self.rows if row.usable}
        for row in self.rows:
            blank = row.hash not in seen and not row.note.startswith(NOT_OURS)
            if row.usable or blank:
                seen.add(row.hash)
                yield row

    def _events(self) -> dict[tuple[str, str], tuple[datetime, datetime]]:
        times: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        for row in self.rows:
            times[row.season, row.sequence or row.key].append(row.moment)
        return {event: (min(found), max(found)) for event, found in times.items()}

    def _classification(self, row: Photograph) -> dict[str, str]:
        decided = self._decided.get(row.key) or self._decided.get(row.individual)
        if row.note == NO_ANIMAL and not (row.usable or decided):
            return {}  # a detector said so, or who made the Camtrap DP that came in; which one is not on record
        if row.status not in ("confirmed", "not_animal"):
            encoder = self.contents.project.settings["encoder"]
            return {"classificationMethod": "machine", "classifiedBy": f"fastreid_fancl {__version__}, {encoder}"}
        who, when = decided or ("", "")
        return {"classificationMethod": "human", "classifiedBy": who, "classificationTimestamp": when}

    @cached_property
    def _decided(self) -> dict[str, tuple[str, str]]:
        """Who decided last on a photograph or an animal, and when (UTC, whole seconds)."""
        classified = {}
        for decision in active(self.contents.project.decisions):
            concerned = (decision.a, decision.b) if decision.kind in ("same", "different") else (decision.a,)
            if decision.kind not in ("name", "sex", "unsure", "side"):
                when = iso_time(decision.when).astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
                classified.update(dict.fromkeys(concerned, (decision.who, when)))
        return classified

    def description(self) -> dict[str, Any]:
        """The content of datapackage.json."""
        contents, times = self.contents, [row.moment for row in self.rows]
        name = contents.project.settings["name"]
        points = [(row["longitude"], row["latitude"]) for row in self.deployments()]
        return {
            "resources": [_resource(table) for table in COLUMNS],
            "profile": f"{SCHEMAS}/camtrap-dp-profile.json",
            "name": re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-") or "camera-traps",
            "title": name,
            "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "contributors": [{"title": person, "role": "contributor"} for person in names_of_contributors(contents)],
            "project": {
                "title": name,
                "samplingDesign": "opportunistic",
                "captureMethod": ["activityDetection"],
                "individualAnimals": True,
                "observationLevel": ["media"],
            },
            "spatial": _box(points),
            "temporal": {"start": f"{min(times):%Y-%m-%d}", "end": f"{max(times):%Y-%m-%d}"},
            "taxonomic": [{"scientificName": contents.species, "taxonRank": "species"}],
        }


def _resource(table: str) -> dict[str, str]:
    return {
        "name": table,
        "path": f"{table}.csv",
        "profile": "tabular-data-resource",
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "schema": f"{SCHEMAS}/{table}-table-schema.json",
    }


def _box(points: list[tuple[float, float]]) -> dict[str, Any]:
    """The rectangle around longitudes and latitudes, as GeoJSON."""
    west, south = (min(values) for values in zip(*points, strict=True))
    east, north = (max(values) for values in zip(*points, strict=True))
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
