"""What the columns of a metadata.csv are called elsewhere, so that none is passed over without a word."""

import difflib
import re
from collections.abc import Sequence

# Names in use for what this package reads, without letter case, spaces, hyphens and underscores.
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


def nearest(column: str, free: Sequence[str]) -> str | None:
    """Which of the `free` names, those that the table lacks, a column is likely meant to be."""
    likely = KNOWN_AS.get(_bare(column))
    if likely:
        return likely if likely in free else None
    return next(iter(difflib.get_close_matches(column.lower(), free, n=1)), None)


def boxes(columns: Sequence[str]) -> list[str]:
    """Those of the columns that place an animal in its photograph."""
    found = [name for name in columns if BOX.fullmatch(_bare(name))]
    corner = {name for name in columns if _bare(name) in ("x", "y", "w", "h")}
    return [name for name in columns if name in found or (len(corner) == 4 and name in corner)]


def explain_unused(header: Sequence[str], known: Sequence[str]) -> tuple[list[str], str]:
    """What to say of the columns that are not used.

    Args:
        header: names of columns as the table has them.
        known: names of the columns that are read, in lower case.

    Returns:
        Warnings of those that are likely meant, and the line that names all others; empty if there are none.
    """
    present = {name.lower() for name in header}
    free = [name for name in known if name not in present]
    unused = [name for name in header if name.lower() not in known]
    placed = boxes(unused)
    likely = {name: nearest(name, free) for name in unused if name not in placed}
    warnings = [
        f"column {name!r} is ignored; rename it if it is meant to be {other!r}"
        for name, other in likely.items()
        if other
    ]
    if placed:
        warnings.append(
            f"the boxes in {', '.join(placed)} are not used: each photograph is taken whole. If some show several "
            "animals, cut these out first, a file for each"
        )
    plain = [name or "(without a name)" for name, other in likely.items() if not other]
    return warnings, f"columns that are not used: {', '.join(plain)}" if plain else ""


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())
