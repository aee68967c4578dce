"""Pictures as files: <OUTPUT_DIR>/pictures/*.png, in the index that the HTML report reads."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from ..engine.trained_model import RunLabel
from ..report.album import add_picture
from .drawing import DPI


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
    label: RunLabel
    figure: Figure = field(repr=False)
    caption: str
    alt: str
    variant: str = ""

    @property
    def file(self) -> str:
        """Such as retrieval_hardest_fancl_seed_0_epoch_8.png."""
        words = (self.kind, self.variant, self.label.system, f"seed {self.label.seed}", self.label.stage)
        return re.sub(r"[^\w.-]+", "_", "_".join(filter(None, words))) + ".png"


def add(output: Path, picture: Picture) -> Path:
    """Write a picture and its entry, in place of an older one of the same name; returns the picture's path.

    Raises:
        UserError: if the index is damaged.
    """
    entry = {"kind": picture.kind, "file": picture.file, "caption": picture.caption, "alt": picture.alt}
    return add_picture(output, picture.figure, entry, dpi=DPI)
