"""One photograph of a data set, and the ways in which a data set may lie on disk."""

from dataclasses import dataclass

SPLITS = ("train", "query", "gallery")

LAYOUT = """Expected one of
  <name>/metadata.csv                            columns path, identity and, if known, split (train, query, gallery),
                                                 camera, orientation; paths relative to the csv
  <name>/{train,query,gallery}/<identity>/*.jpg  split by folders; photographs lying in train/ itself are unlabelled
  <name>/<identity>/*.jpg                        a folder an identity, split by fastreid_fancl.data.datasets.split
  <name>/*.jpg                                   unlabelled photographs, all for training"""


@dataclass(frozen=True)
class Photo:
    """One photograph of a data set; ``None`` is not known, ``where`` is the place that says so."""

    path: str
    identity: str | None = None
    split: str | None = None
    camera: str | None = None
    orientation: str | None = None
    where: str = ""
