"""The contents of each synthetic data set."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .animals import Animal, red_panda
from .camera import Camera
from .species import other_animal

SPECIES: dict[str, Callable[[np.random.Generator], Animal]] = {"panda": red_panda, "other": other_animal}
# A zoo: even light, views from the side. Pictures of one panda differ more in pose than in colour.
PANDA_CAMERA = Camera(
    warmth=0.015, tint=0.006, exposure=0.05, contrast=0.03, shade=0.1, blur=0.004, noise=0.012, occluded=0.1,
    yaw=(-0.45, 0.1), tilt=(0.0, 0.25), framing=(0.92, 1.02), sun=(0.2, 0.5, 0.9), ambient=(0.6, 0.75),
)  # fmt: skip
SOURCE_CAMERA = Camera(warmth=0.06, exposure=0.3, contrast=0.1, shade=0.4, blur=0.01, noise=0.03, quality=(70, 95))


@dataclass(frozen=True)
class Recipe:
    """Recipe of a data set: which animals it shows, how often, where, and with which camera.

    Attributes:
        species: key of ``SPECIES``; also the first part of every identity's name.
        train: number of training animals.
        train_images: number of training images, unevenly distributed, as photographs of real animals are.
        test: number of test animals, all different from the training animals.
        queries: query images per test animal.
        gallery_images: number of gallery images, unevenly distributed.
        size: width and height in pixels.
        seed: seed of everything that is random.
        camera: camera of all photographs.
        places: where the animals live (``scene.PLACES``).
        travellers: number of training animals that are also photographed in ``elsewhere``.
        elsewhere: the other place of these animals.
    """

    species: str
    train: int
    train_images: int
    test: int
    queries: int
    gallery_images: int
    size: tuple[int, int]
    seed: int
    camera: Camera
    places: tuple[str, ...] = ("indoor",)
    travellers: int = 0
    elsewhere: str = "outdoor"

    def animal(self, number: int) -> Animal:
        """Return the animal with this number, always the same."""
        return SPECIES[self.species](np.random.default_rng([self.seed, 0, number]))

    def photographs(self) -> list["PlannedPhotograph"]:
        """List every photograph of the data set, in order."""
        rng = np.random.default_rng([self.seed, 1])
        planned = []
        for animal, count in enumerate(_uneven_counts(rng, self.train_images, self.train)):
            planned += self._of(rng, "train", animal, count, animal < self.travellers)
        tested = range(self.train, self.train + self.test)
        for split, counts in (
            ("query", [self.queries] * self.test),
            ("gallery", _uneven_counts(rng, self.gallery_images, self.test)),
        ):
            for animal, count in zip(tested, counts, strict=True):
                planned += self._of(rng, split, animal, count, False)
        return [PlannedPhotograph(self, number, *fields) for number, fields in enumerate(planned)]

    def _of(self, rng, split: str, animal: int, count: int, travels: bool) -> list[tuple[str, int, str]]:
        return [
            (split, animal, self.elsewhere if travels and rng.random() < 0.5 else str(rng.choice(self.places)))
            for _ in range(count)
        ]


@dataclass(frozen=True)
class PlannedPhotograph:
    """One photograph to draw; everything random in it depends on its number and the seed of its recipe."""

    recipe: Recipe
    number: int
    split: str
    animal: int
    place: str

    @property
    def identity(self) -> str:
        """Name of the animal."""
        return f"{self.recipe.species}{self.animal:03d}"

    @property
    def path(self) -> str:
        """Path below the folder of the data set."""
        return f"images/{self.split}/{self.identity}_{self.number:05d}.jpg"

    def rng(self) -> np.random.Generator:
        """Make the generator of everything random in this photograph."""
        return np.random.default_rng([self.recipe.seed, 2, self.number])


def _uneven_counts(rng: np.random.Generator, images: int, animals: int) -> np.ndarray:
    """Draw the number of images of each animal, about 0.5 to 1.5 times the mean; the sum is ``images``."""
    share = rng.uniform(0.5, 1.5, animals)
    ends = np.round(np.cumsum(share) / share.sum() * images).astype(int)
    return np.diff(ends, prepend=0)


RECIPES = {
    "SyntheticPandas": Recipe(
        "panda", 20, 1967, 23, 6, 1382, (256, 128), seed=43, camera=PANDA_CAMERA, travellers=10
    ),
    "SyntheticPandasSmall": Recipe(
        "panda", 20, 1000, 46, 4, 800, (128, 64), seed=43, camera=PANDA_CAMERA
    ),
    "SyntheticTiny": Recipe("panda", 6, 48, 4, 2, 16, (64, 32), seed=43, camera=PANDA_CAMERA, travellers=3),
    "SyntheticSource": Recipe(
        "other", 160, 6400, 20, 4, 400, (256, 128), seed=7, camera=SOURCE_CAMERA, places=("plain",)
    ),
    "SyntheticSourceSmall": Recipe(
        "other", 120, 2400, 20, 3, 240, (128, 64), seed=7, camera=SOURCE_CAMERA, places=("plain",)
    ),
}  # fmt: skip
