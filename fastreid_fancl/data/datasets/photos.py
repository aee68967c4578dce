"""One photograph of a data set, and the possible layouts of a data set on disk."""

from dataclasses import dataclass

# A test is either "test", scored by leave-one-out, or "query" and "gallery".
SPLITS = ("train", "query", "gallery", "test")

LAYOUT = """Expected one of
  <name>/metadata.csv                            columns path, identity and, if known, split (train and test, or train,
                                                 query and gallery), camera, sequence (or date and time, for bursts of
                                                 a camera), orientation; paths relative to the csv
  <name>/{train,test}/<identity>/*.jpg           split by folders; photographs directly in train/ are unlabelled
  <name>/{train,query,gallery}/<identity>/*.jpg  the same with query and gallery
  <name>/<identity>/*.jpg                        one folder per identity, split by fastreid_fancl.data.datasets.split
  <name>/*.jpg                                   unlabelled photographs, all for training"""


@dataclass(frozen=True)
class Photo:
    """One photograph of a data set; ``None`` means unknown.

    Photographs of one ``sequence`` belong to one burst. ``where`` is the line or the path that describes the
    photograph, for messages. ``station`` is where the camera stands. ``taken`` is the date and time, as the table has
    them.
    """

    path: str
    identity: str | None = None
    split: str | None = None
    camera: str | None = None
    sequence: str | None = None
    where: str = ""
    station: str | None = None
    taken: str | None = None

    @property
    def background(self) -> str | None:
        """What has one background in all its photographs, as far as is known: the station, or else the camera."""
        return self.station or self.camera
