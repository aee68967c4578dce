"""Pictures as files: <OUTPUT_DIR>/pictures/*.png, and an index.json of them that the HTML report reads."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from ..files import replacing
from .drawing import DPI
from .origin import Origin

FOLDER, INDEX = "pictures", "index.json"


@dataclass(frozen=True)
class Picture:
    """A drawn figure and what there is to say of it.

    Attributes:
        kind: fana, attention, retrieval, clusters or eps.
        caption: what is shown; also in the file, as the PNG's Description.
        alt: what can be seen, for those who cannot.
        variant: tells apart two pictures of one kind and origin.
    """

    kind: str
    origin: Origin
    figure: Figure = field(repr=False)
    caption: str
    alt: str
    variant: str = ""

    @property
    def file(self) -> str:
        """Such as retrieval_hardest_fancl_seed_0_epoch_8.png."""
        words = (self.kind, self.variant, self.origin.system, f"seed {self.origin.seed}", self.origin.stage)
        return re.sub(r"[^\w.-]+", "_", "_".join(filter(None, words))) + ".png"


def add(output: Path, picture: Picture) -> Path:
    """Write a picture and its entry, in place of an older one of the same name; returns the picture's path.

    Raises:
        ValueError: if the index is damaged.
    """
    folder = output / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    entries = [entry for entry in read_index(folder / INDEX) if entry["file"] != picture.file]
    entries.append({"kind": picture.kind, "file": picture.file, "caption": picture.caption, "alt": picture.alt})
    with replacing(folder / picture.file) as temporary:
        picture.figure.savefig(temporary, format="png", dpi=DPI, metadata={"Description": picture.caption})
    with replacing(folder / INDEX) as temporary:
        Path(temporary).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return folder / picture.file


def read_index(path: Path) -> list[dict]:
    """The entries of an album, none where there is no file."""
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(entry, dict) and "file" in entry for entry in entries):
            return entries
        problem = "it is no list of entries with a file"
    except (ValueError, TypeError) as error:
        problem = str(error)
    raise ValueError(f"{path} cannot be read ({problem}): remove it; the pictures are drawn again by their commands.")
