"""Wildbook's bulk import: sheets of at most 200 encounters, each beside its photographs under legal names."""

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ...escape import csv_cell
from ..rows import Photograph
from .contents import Contents, dated, new_folder, place_file, station_of, write_csv
from .stations import Station

logger = logging.getLogger(__name__)

MOST = 200  # encounters on a sheet
# Sequences that differ have different IDs without a hash: words, and perhaps the time of the first photograph.
PLAIN = re.compile(r"(?:\w+ )*(?:\w+|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)?", re.ASCII)
Encounter = dict[str, object]


def write(contents: Contents, output: Path) -> None:
    """Write sheet_<n>/sheet_<n>.csv, and .xlsx where openpyxl is installed, with their photographs.

    An encounter is an animal in a sequence; a photograph without an animal or a sequence is one by itself. Photographs
    without a date cannot be imported and are left out with a warning.
    """
    encounters, stations = _encounters(contents), contents.stations
    with new_folder(output) as folder:
        for start in range(0, len(encounters), MOST):
            sheet = folder / f"sheet_{start // MOST + 1}"
            sheet.mkdir()
            part = encounters[start : start + MOST]
            for row in {row.hash: row for rows in part for row in rows}.values():
                place_file(row, sheet / legal_file(row))
            _write_sheet(sheet, [_encounter(contents, stations, rows) for rows in part])


def legal_file(row: Photograph) -> str:
    """The photograph's hash and its ending: letters, digits and a period, unique."""
    return row.hash[:16] + re.sub(r"[^a-z0-9.]", "", row.file.suffix.lower())


def legal_sighting(sequence: str) -> str:
    """The sighting ID of a sequence: letters, digits, - and _, the same in every export.

    A name that is not PLAIN also gets a hash, so that no two sequences share an ID.
    """
    legal = re.sub(r"[^A-Za-z0-9_-]+", "-", sequence).strip("-")
    if PLAIN.fullmatch(sequence):
        return legal
    digits = hashlib.sha256(sequence.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{legal}-{digits}".strip("-")


def _encounters(contents: Contents) -> list[list[Photograph]]:
    encounters: dict[tuple, list[Photograph]] = defaultdict(list)
    for row in dated([row for row in contents.photographs if row.usable]):
        together = row.counts and row.individual and row.sequence
        encounters[(row.season, row.sequence, row.individual) if together else (row.key,)].append(row)
    return list(encounters.values())


def _encounter(contents: Contents, stations: Sequence[Station], rows: list[Photograph]) -> Encounter:
    first, time = rows[0], rows[0].moment
    genus, *epithet = contents.species.split()
    station = station_of(stations, first)
    return {
        **{f"Encounter.mediaAsset{number}": legal_file(row) for number, row in enumerate(rows)},
        "Encounter.year": time.year,
        "Encounter.month": time.month,
        "Encounter.day": time.day,
        "Encounter.hour": time.hour,
        "Encounter.minutes": time.minute,
        "Encounter.genus": genus,
        "Encounter.specificEpithet": " ".join(epithet),
        "Encounter.verbatimLocality": first.station,
        "Encounter.decimalLatitude": "" if station is None or station.latitude is None else station.latitude,
        "Encounter.decimalLongitude": "" if station is None or station.longitude is None else station.longitude,
        "Encounter.sightingID": legal_sighting(first.sequence),
        "MarkedIndividual.individualID": first.individual if first.counts else "",
    }


def _write_sheet(folder: Path, encounters: list[Encounter]) -> None:
    """Columns that are empty on the whole sheet are left out, as Wildbook refuses them; photographs come first."""
    names = {name for encounter in encounters for name, value in encounter.items() if value != ""}
    media = sorted((name for name in names if "mediaAsset" in name), key=lambda name: int(name.split("mediaAsset")[1]))
    columns = media + [name for name in encounters[0] if name in names and name not in media]
    rows = [[encounter.get(name, "") for name in columns] for encounter in encounters]
    write_csv(folder / f"{folder.name}.csv", columns, rows)
    try:
        import openpyxl
    except ImportError:
        logger.info("Sheets are written as CSV; openpyxl (pip install openpyxl) adds xlsx.")
        return
    book = openpyxl.Workbook()
    for row in (columns, *rows):
        # openpyxl would take a name that begins with = for a formula
        book.active.append([None if value == "" else csv_cell(value) for value in row])
    book.save(folder / f"{folder.name}.xlsx")
