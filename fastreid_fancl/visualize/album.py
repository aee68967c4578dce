"""Write pictures to <OUTPUT_DIR>/pictures/*.png and to the index that the HTML report reads."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from ..engine.trained_model import RunLabel
from ..report.album import add_picture
from .drawing import DPI


@dataclass(frozen=True)
class Picture:
    """A drawn figure with its texts.

    Attributes:
        kind: fana, attention, retrieval, clusters, eps or matches.
        caption: what the picture shows; the file has it, too, as the PNG's Description.
        alt: a description of the picture for people who cannot see it.
        variant: distinguishes pictures of the same kind and origin.
    """

    kind: str
    label: RunLabel
    figure: Figure = field(repr=False)
    caption: str
    alt: str
    variant: str = ""

    @property
    def file(self) -> str:
        """The file's name, such as retrieval_hardest_fancl_seed_0_epoch_8.png."""
        words = (self.kind, self.variant, self.label.system, f"seed {self.label.seed}", self.label.stage)
        return re.sub(r"[^\w.-]+", "_", "_".join(filter(None, words))) + ".png"


def add(output: Path, picture: Picture) -> Path:
    """Write a picture and its index entry, replacing an older one of the same name; return its path.

    Raises:
        UserError: if the index is damaged.
    """
    entry = {"kind": picture.kind, "file": picture.file, "caption": picture.caption, "alt": picture.alt}
    return add_picture(output, picture.figure, entry, dpi=DPI)
