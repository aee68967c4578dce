"""What the guides show runs."""

import os
import re

import pytest
from conftest import REPO
from test_engine import SMALL, by_name

from fastreid_fancl import load_config
from fastreid_fancl.engine.run import command_line


def block(page: str, language: str) -> str:
    """The first code block of a language on a page of the docs."""
    return re.search(rf"```{language}\n(.*?)```", (REPO / "docs" / page).read_text(), re.DOTALL)[1]


def test_the_method_of_the_guide_trains(datasets, tmp_path, monkeypatch):
    (tmp_path / "my_method.py").write_text(block("add-a-method.md", "python"))
    (tmp_path / "my_method.yml").write_text(block("add-a-method.md", "yaml"))
    (tmp_path / "configs").symlink_to(REPO / "configs")
    monkeypatch.chdir(tmp_path)
    opts = [str(word) for pair in {**SMALL, "OUTPUT_DIR": os.fspath(tmp_path / "run")}.items() for word in pair]
    command_line(["--config-file", "my_method.yml", *opts])
    logged = by_name(tmp_path / "run")
    assert logged["clusters"]
    assert logged["total_loss"][-1] > 0
    assert logged["mAP"]


@pytest.mark.parametrize("name", ["nowhere.py", "nowhere.module"])
def test_an_import_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"IMPORTS {name}.*file's path"):
        load_config("", ["IMPORTS", f"('{name}',)"])


def test_a_file_is_imported_once_and_an_error_in_it_is_its_own(tmp_path):
    file = tmp_path / "counting.py"
    file.write_text("import os\nos.environ['IMPORTED'] = os.environ.get('IMPORTED', '') + 'x'\n")
    for _ in range(2):
        load_config("", ["IMPORTS", f"('{file}',)"])
    assert os.environ.pop("IMPORTED") == "x"
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_config("", ["IMPORTS", f"('{tmp_path / 'broken.py'}',)"])


def test_every_link_of_the_readme_and_the_docs_leads_to_a_file():
    pages = [REPO / "README.md", *(REPO / "docs").glob("*.md")]
    links = [(page, target) for page in pages for target in re.findall(r"\]\(([^)#]+)", page.read_text())]
    assert len(links) > 10
    missing = [(page.name, link) for page, link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
