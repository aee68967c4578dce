"""What the guides show runs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPO
from fastreid.engine import default_argument_parser
from support.pages import block
from support.runs import SMALL, by_name

from fastreid_fancl import load_config
from fastreid_fancl.compare.command import parse as compare_arguments
from fastreid_fancl.engine.run import command_line


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


PAGES = sorted([REPO / "README.md", REPO / "RESULTS.md", REPO / "CONTRIBUTING.md", *(REPO / "docs").glob("*.md")])
# Bash calls it for each program, as none can be found: nothing of what a page shows is started.
RECORD = "command_not_found_handle() { printf '%s\\0' \"$@\"; printf '\\n\\0'; }\n"
PLACEHOLDERS = {"<method>": "fancl", "<mode>": "eval"}
TOOLS = {
    "train": "train_net.py",
    "plan": "train_net.py",
    "compare": "compare.py",
    "group": "group.py",
    "visualize": "visualize.py",
}


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the blocks of a page, with its variables and braces expanded as a shell does."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(block for language, block in blocks if language in ("", "bash"))
    script = re.sub(r"<[a-z ]+>", lambda name: PLACEHOLDERS.get(name[0], "folder"), lines)
    script = re.sub(r"^\.\S*/", "", script, flags=re.MULTILINE)  # .venv/bin/python is python
    bash, nothing = shutil.which("bash"), {"PATH": "/nowhere"}
    shell = subprocess.run([bash, "-c", RECORD + script], env=nothing, cwd=REPO, capture_output=True, text=True)
    assert not shell.stderr, shell.stderr
    return [line.split("\0")[:-1] for line in shell.stdout.split("\n\0") if line]


def as_tool(words: list[str]) -> list[str]:
    """`fancl train FILE ...` as `tools/train_net.py --config-file FILE ...`; other commands without their python."""
    if words[0] == "fancl" and words[1] in TOOLS:
        file = ["--config-file"] if words[1] in ("train", "plan") and not words[2].startswith("-") else []
        return [f"tools/{TOOLS[words[1]]}", *file, *words[2:]]
    return words[1:] if words[0] == "python" else words


def settings(tool: str, words: list[str]) -> list[tuple[str, list[str]]]:
    """The configuration files and the keys with values that a command gives to a tool."""
    if tool == "tools/train_net.py":
        parser = default_argument_parser()
        parser.add_argument("--plan", action="store_true")
        args = parser.parse_args(words)
        return [(args.config_file, args.opts)]
    if tool == "tools/compare.py":
        args = compare_arguments(words)
        return [(os.fspath(file), args.set) for file in args.config_files or ()]
    return []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_name_files_targets_and_settings_that_there_are(page):
    targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    for tool, *words in map(as_tool, commands(page)):
        if tool == "make":
            assert words[0] in targets
        if tool.startswith(("tools/", "benchmarks/")):
            assert (REPO / tool).is_file(), tool
        for file, keys in settings(tool, words):
            if file != "my_method.yml":  # the guide shows what is in it
                load_config(os.fspath(REPO / file) if file.startswith("configs/") else file, keys)


def test_the_commands_of_the_readme_are_seen():
    seen = [as_tool(words)[0] for words in commands(REPO / "README.md")]
    assert {"make", "pip", "tools/train_net.py", "tools/compare.py"} <= set(seen)


def test_a_wrong_key_or_file_in_a_page_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    size = 'SIZE="INPUT.SIZE_TEST [8,8]"'
    page.write_text(f"```\n{size}\npython tools/compare.py --output x --config-files a/{{b,c}}.yml --set $SIZE\n```\n")
    tool, *words = as_tool(commands(page)[0])
    assert settings(tool, words) == [(f"a/{name}.yml", ["INPUT.SIZE_TEST", "[8,8]"]) for name in "bc"]


def test_all_python_of_the_pages_compiles():
    sources = [
        (page.name, source)
        for page in PAGES
        for source in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    assert len(sources) > 1
    for name, source in sources:
        compile(source, name, "exec")


def test_the_example_of_the_api_finds_the_animals(capsys):
    exec(block("api.md", "python"), {})
    assert "'ari': 1.0" in capsys.readouterr().out
