"""Exports of a project for other programs, a file for each format."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from ...escape import visible
from . import animalclef, camtrapdp, camtrapr, coco, features, folders, requirements, secr, wildbook
from .contents import Contents, Options, check_output

if TYPE_CHECKING:
    from ..project import Project


@dataclass(frozen=True)
class Format:
    """An export: called with a project, where to write, and options by name.

    Attributes:
        name: as in --to.
        write: writes the output, whole or not at all.
        needs: what it demands.
        uses: options that it knows.
        folder: whether the output is a folder.
    """

    name: str
    write: Callable[[Contents, Path], None]
    needs: tuple[requirements.Check, ...] = ()
    uses: tuple[str, ...] = ()
    folder: bool = True

    def __call__(self, project: "Project", output: str | os.PathLike, **options) -> None:
        """Write the export.

        Raises:
            ValueError: naming all that is missing, each with its flag, before anything is written.
        """
        known = {option.name for option in fields(Options)}
        wrong = [name for name in options if name not in known or name not in self.uses]
        if wrong:
            used = ", ".join(map(flag, self.uses)) or "none"
            raise UserError(f"{self.name} does not use {', '.join(map(flag, wrong))}; its options: {used}.")
        contents = Contents(project, Options(**options))
        missing = self.requirements(contents)
        if missing:
            listed = "".join(f"\n  {each}" for each in missing)
            raise UserError(f"For {self.name} the project lacks:{listed}")
        if Path(output).is_dir() and not self.folder:
            raise UserError(
                f"{self.name} is written to a file, and {visible(output)} is a folder: give the name of a file in it."
            )
        check_output(Path(output))
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        self.write(contents, Path(output))

    def requirements(self, contents: Contents) -> list[str]:
        """What is missing, each with the flag to give."""
        return [text for text in (check(contents) for check in self.needs) if text]


def flag(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format(
            "camtrapdp",
            camtrapdp.write,
            (
                requirements.species,
                requirements.timezone,
                requirements.contributor,
                requirements.dates,
                requirements.stations,
                requirements.degrees,
                requirements.own_files_brought_along,
            ),
            ("species", "timezone", "contributor", "stations_table", "files"),
        ),
        Format(
            "camtrapr",
            camtrapr.write,
            (
                requirements.animals,
                requirements.species,
                requirements.dates,
                requirements.stations_of_identified,
                requirements.metres,
            ),
            ("species", "stations_table"),
        ),
        Format(
            "secr",
            secr.write,
            (requirements.animals, requirements.dates, requirements.stations_of_identified, requirements.metres),
            ("stations_table", "occasion_days"),
        ),
        Format(
            "wildbook",
            wildbook.write,
            (
                requirements.species,
                requirements.dates,
                requirements.stations_of_animals,
                requirements.own_files_of_animals,
            ),
            ("species", "stations_table"),
        ),
        Format("coco", coco.write, (requirements.own_files,), ("species",), folder=False),
        Format("folders", folders.write, (requirements.own_files_of_animals,), ("files",)),
        Format("features", features.write, (requirements.features,)),
        Format("animalclef", animalclef.write, (), ("image_ids",), folder=False),
    )
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of all formats."""
    add = parser.add_argument
    add("--timezone", help="time zone of the cameras' clocks: +03:00 or Africa/Nairobi (camtrapdp)")
    add("--species", help='such as "Panthera leo" (camtrapdp, camtrapr, wildbook, coco)')
    add("--stations-table", type=Path, metavar="FILE", help="station, season, latitude, longitude, x, y, start, end")
    add("--contributor", metavar="NAME", help="who stands for the data (camtrapdp)")
    add("--files", choices=("copy", "link"), help="bring photographs along (camtrapdp, folders: copy by default)")
    add("--occasion-days", type=int, metavar="DAYS", help="length of an occasion, 1 by default (secr)")
    add("--image-ids", type=Path, metavar="FILE", help="a table with the columns image_id, path (animalclef)")
