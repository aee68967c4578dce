"""Whatever a metadata.csv holds ends in a data set or in a message, and no row is lost without a word."""

import csv
import io
import logging
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastreid_fancl.data.datasets import folder as folders
from fastreid_fancl.data.datasets.folder import FolderDataset

FILES = ("a.png", "b.png", "c d.png", "sub/e.png", "\u00e9.png")
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = st.one_of(
    st.sampled_from(["", "1", "01", "Bob", "bob", "NA", "nan", "x\ny", '"', "=1+1", "\x1b[31m", "a,b", "a;b", " "]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
FIELDS = {
    "path": st.one_of(st.sampled_from([*FILES, *FILES, "missing.png", "", "./a.png", "sub\\e.png"]), NAMES),
    "identity": NAMES,
    "split": st.sampled_from(["", "train", "train", "test", "query", "gallery", "Train", "val", "NA"]),
    "camera": NAMES,
    "sequence": NAMES,
    "date_time": st.sampled_from(["", "2024-01-01 10:00:00", "2024-13-01 10:00:00", "31.5.2024"]),
    "notes": NAMES,
}


@st.composite
def tables(draw) -> tuple[list[str], list[list[str]]]:
    columns = ["path", *draw(st.lists(st.sampled_from(list(FIELDS)[1:]), unique=True))]
    rows = draw(st.lists(st.tuples(*(FIELDS[name] for name in columns)).map(list), max_size=8))
    for row in draw(st.lists(st.sampled_from(rows), max_size=1)) if rows else ():
        row.append("one too many")
    return columns, rows


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """A folder of photographs, to be described by a table."""
    root = tmp_path_factory.mktemp("root") / "Wild"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


@pytest.fixture
def read(wild, monkeypatch, caplog):
    """The data set of a table, with what was logged; None and the message where it is refused."""
    monkeypatch.setattr(FolderDataset, "dataset_name", "Wild")

    def read(content: bytes):
        folders.log_once.cache_clear()
        caplog.clear()
        caplog.set_level(logging.INFO)
        (wild / "metadata.csv").write_bytes(content)
        try:
            dataset = FolderDataset(root=str(wild.parent))
        except ValueError as error:
            assert "Wild" in str(error), "the message says where"
            return None, str(error)
        return dataset, caplog.text

    return read


@QUICK
@given(tables())
def test_each_row_is_in_the_data_set_or_named_or_counted(read, table):
    columns, rows = table
    file = io.StringIO(newline="")
    csv.writer(file).writerows([columns, *rows])
    dataset, said = read(file.getvalue().encode())
    filled = [row for row in rows if any(field.strip() for field in row)]
    if dataset is None:
        problems = re.search(r"(\d+) problems", said)
        assert problems is None or 0 < int(problems[1]) <= 2 * len(filled)
        assert problems or not filled or "no photographs" not in said
        return
    dropped = sum(map(int, re.findall(r"(\d+) (?:repeated )?rows? dropped", said)))
    assert len(dataset.photos) + dropped == len(filled)
    assert len({photo.path for photo in dataset.photos}) == len(dataset.photos)
    splits = dataset.train + dataset.query + dataset.gallery
    assert {path for path, *_ in splits} == {photo.path for photo in dataset.photos}


@QUICK
@given(st.one_of(st.binary(max_size=60), st.text('path,identity;\t"\n\ra.png\0é', max_size=60).map(str.encode)))
def test_no_file_ends_in_a_traceback(read, content):
    for head in (b"", b"path,identity\n"):
        dataset, said = read(head + content)
        assert dataset is not None or said
