"""Other names for the columns of a metadata.csv, so that a column is never ignored silently."""

import re
from collections.abc import Sequence

from ...errors import nearest_names

# Other common names of the columns, in lower case, without spaces, hyphens and underscores.
SYNONYMS = {
    "path": "file filename filepath fname image imagename imagepath imagefile img imgname imgpath photo photopath"
    " picture",
    "identity": "individual individualid individualname animal animalid animalname name nameid label labelid class"
    " classid id pid personid target identityid identityname ident",
    "split": "set subset partition fold datasplit splitset usage",
    "camera": "cam camid cameraid cameratrap cameraname trap trapid device deviceid",
    "sequence": "burst event eventid sequenceid seq seqid",
    "date_time": "datetime datetimeoriginal timestamp",
    "orientation": "side view viewpoint pose flank facing",
}
KNOWN_AS = {synonym: name for name, synonyms in SYNONYMS.items() for synonym in synonyms.split()}
BOX = re.compile(
    r"(bbox|bndbox|boundingbox|box|roi).*|[xy](min|max|1|2|center|centre)|(min|max)[xy]|left|top|right|bottom"
)


def likely_name(column: str, free: Sequence[str]) -> str | None:
    """Guess which of the `free` names, those that the table lacks, a column is meant to be."""
    likely = KNOWN_AS.get(_normalised(column))
    if likely:
        return likely if likely in free else None
    return next(iter(nearest_names(column.lower(), free, number=1)), None)


def box_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that describe a bounding box."""
    matching = [name for name in columns if BOX.fullmatch(_normalised(name))]
    corner = {name for name in columns if _normalised(name) in ("x", "y", "w", "h")}
    return [name for name in columns if name in matching or (len(corner) == 4 and name in corner)]


def explain_unused(header: Sequence[str], known: Sequence[str]) -> tuple[list[str], str]:
    """Explain which columns are not used.

    Args:
        header: column names as in the table.
        known: names of the columns that are read, in lower case.

    Returns:
        Warnings for columns that are probably misnamed or that are boxes, and a line that names all others ("" if there
        are none).
    """
    present = {name.lower() for name in header}
    free = [name for name in known if name not in present]
    unused = [name for name in header if name.lower() not in known]
    placed = box_columns(unused)
    likely = {name: likely_name(name, free) for name in unused if name not in placed}
    warnings = [
        f"column {name!r} is ignored; rename it if it is meant to be {other!r}"
        for name, other in likely.items()
        if other
    ]
    if placed:
        warnings.append(
            f"the boxes in {', '.join(placed)} are not used: whole photographs are used. If some show several "
            "animals, cut these out first, a file for each"
        )
    plain = [name or "(without a name)" for name, other in likely.items() if not other]
    return warnings, f"columns that are not used: {', '.join(plain)}" if plain else ""


def _normalised(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())
