"""Names find their data sets: registered, drawn, or a folder."""

import logging
import multiprocessing
import os
from pathlib import Path

import pytest
from PIL import Image

from fastreid_fancl.data import synthetic as drawing
from fastreid_fancl.data.datasets import SYNTHETIC, FolderDataset, RedPanda, load, resolve
from fastreid_fancl.data.datasets import synthetic as drawn
from fastreid_fancl.data.datasets.red_panda import TABLE_I

from fastreid.data.datasets import DATASET_REGISTRY, Market1501  # isort: skip

NYALA = Path(__file__).resolve().parents[2] / "shared" / "data"


pytestmark = pytest.mark.usefixtures("root")


def photographs(folder, identities):
    """`{split: (identities, images)}` as folders, all files links to one image."""
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "one.png")
    for split, (animals, images) in identities.items():
        for number in range(images):
            place = folder / split / f"{split == 'train'}{number % animals}"
            place.mkdir(parents=True, exist_ok=True)
            os.symlink(folder / "one.png", place / f"{number}.png")


def test_stock_loaders_find_registered_names_and_folders(root):
    photographs(root / "Stripes", {"train": (2, 4)})
    assert DATASET_REGISTRY.get("Market1501") is Market1501
    cls = DATASET_REGISTRY.get("Stripes")
    assert issubclass(cls, FolderDataset) and cls.__name__ == "Stripes" and cls is resolve("Stripes")
    assert len(cls().train) == 4


def test_a_registered_name_wins_over_a_folder(root):
    (root / "Market1501").mkdir()
    assert resolve("Market1501") is Market1501


def test_an_unknown_name_lists_what_there_is_and_the_nearest(root):
    (root / "Okapis").mkdir()
    (root / ".hidden").mkdir()
    with pytest.raises(ValueError) as caught:
        resolve("Okapi")
    message = str(caught.value)
    assert "no data set named 'Okapi'. Did you mean Okapis?" in message
    assert "Market1501" in message and f"Folders in {root}: Okapis. Set FASTREID_DATASETS" in message


@pytest.mark.parametrize("name", ["", ".", "..", "../elsewhere", "/tmp"])
def test_a_name_cannot_lead_out_of_the_root(name):
    with pytest.raises(ValueError, match="no data set named"):
        resolve(name)


def test_a_root_that_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=f"Folders in {tmp_path / 'gone'}: none"):
        resolve("Okapi")


def test_a_loaded_data_set_is_read_once(root):
    photographs(root / "Loaded", {"train": (2, 4)})
    assert load("Loaded") is load("Loaded")


def test_red_pandas_in_the_numbers_of_table_i_load_without_a_warning(root, caplog):
    photographs(root / "RedPanda", TABLE_I)
    data = resolve("RedPanda")()
    assert (len(data.train), len(data.query), len(data.gallery)) == (1967, 138, 1382)
    assert data.get_num_pids(data.train) == 20 and data.get_num_pids(data.query + data.gallery) == 23
    assert "Table I" not in caplog.text


def test_red_pandas_in_other_numbers_are_warned_of_with_both(root, caplog):
    photographs(root / "RedPanda", {"train": (20, 1967), "query": (23, 138), "gallery": (23, 1400)})
    RedPanda()
    assert "gallery has 23 animals / 1400 images, the paper 23 / 1382" in caplog.text
    assert "train has" not in caplog.text


def test_missing_red_pandas_explain_how_to_lay_them_out():
    with pytest.raises(ValueError) as caught:
        RedPanda()
    for part in ("there is no folder", "RedPanda/metadata.csv", "23 / 1,382 in the gallery", "SyntheticPandas"):
        assert part in str(caught.value)


def test_the_real_nyalas_load_by_their_name(monkeypatch):
    if not (NYALA / "nyala").exists():
        pytest.skip("the nyala photographs are not there")
    monkeypatch.setenv("FASTREID_DATASETS", str(NYALA))
    data = resolve("nyala")()
    assert (len(data.train), len(data.query), len(data.gallery)) == (1213, 106, 623)
    assert data.get_num_pids(data.train) == 179 and len(data.test_identities) == 58
    data.show_train(), data.show_test()


# drawn data sets


def draw(name, root):
    """Stands in for the drawing, which has its own tests; notes each time it is really done."""
    folder = Path(root) / name
    if not (folder / "metadata.csv").exists():
        photographs(folder, {"train": (2, 4), "query": (2, 2), "gallery": (2, 4)})
        rows = [f"{path.relative_to(folder)},{path.parent.name},{path.parts[-3]}" for path in folder.glob("*/*/*.png")]
        (folder / "metadata.csv").write_text("\n".join(["path,identity,split", *rows]))
        with open(Path(root) / "drawn.txt", "a") as notes:
            notes.write("once\n")
    return folder


def test_every_drawn_name_is_registered():
    assert set(SYNTHETIC) == set(drawing.NAMES)
    assert all(resolve(name) is SYNTHETIC[name] for name in drawing.NAMES)


@pytest.fixture
def striped(monkeypatch):
    monkeypatch.setattr(drawn, "build", draw)
    return type("Striped", (drawn.SyntheticDataset,), {"dataset_name": "Striped"})


def test_a_drawn_data_set_is_drawn_at_first_use_and_then_read(root, striped, caplog):
    with caplog.at_level(logging.INFO):
        data = striped()
    assert (len(data.train), len(data.query), len(data.gallery)) == (4, 2, 4)
    assert "Drawing Striped" in caplog.text and "Striped was drawn in" in caplog.text
    striped()
    assert (root / "drawn.txt").read_text() == "once\n"


def test_a_drawn_data_set_is_read_from_a_folder_that_cannot_be_written(root, striped, monkeypatch):
    striped()

    def refused(path):
        raise PermissionError(path)

    monkeypatch.setattr(drawn, "exclusive_lock", refused)
    assert len(striped().train) == 4


def test_processes_that_ask_at_once_draw_once(root, striped):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=striped) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (root / "drawn.txt").read_text() == "once\n"


def test_a_root_that_cannot_be_written_says_so(root, striped, monkeypatch):
    (root / "file").write_text("")
    monkeypatch.setenv("FASTREID_DATASETS", str(root / "file"))
    with pytest.raises(ValueError, match="Striped cannot be drawn in .*set FASTREID_DATASETS to a folder"):
        striped()
