"""What YAML readers pass over in a configuration file."""

import os
from pathlib import Path

import yaml

from ..compat.config import bases_of
from ..errors import UserError

MERGE = "tag:yaml.org,2002:merge"


def refuse_repeated_keys(path: str) -> None:
    """Check that no mapping of a YAML file has a key twice: of two values, or whole sections, readers take the last.

    Pipes and files that are no YAML are left to the reader.

    Raises:
        ValueError: with every such key and its lines.
    """
    if not Path(path).is_file():  # a pipe can be read once only
        return
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError):
        return
    problems = _repeated(root)
    if problems:
        raise UserError(f"{path} has keys twice: {'; '.join(problems)}. Keep one of each.")


def refuse_repeated_keys_with_bases(path: str) -> None:
    """`refuse_repeated_keys` for a configuration file, its bases and theirs."""
    seen: set[str] = set()
    waiting = [os.path.expanduser(path)]
    while waiting:
        file = waiting.pop()
        if os.path.realpath(file) not in seen:
            seen.add(os.path.realpath(file))
            refuse_repeated_keys(file)
            waiting += reversed(_bases(file))


def _bases(file: str) -> list[str]:
    """The bases that a file names; none where reading it as a configuration will fail, which says why."""
    if not os.path.isfile(file):
        return []
    try:
        return bases_of(yaml.safe_load(Path(file).read_text(encoding="utf-8")), file)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError, AttributeError, TypeError, ValueError):
        return []


def _repeated(root: yaml.Node | None) -> list[str]:
    problems: list[str] = []
    waiting, seen = [(root, "")], set()
    while waiting:
        node, prefix = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(entry, prefix) for entry in reversed(node.value)]
        elif isinstance(node, yaml.MappingNode):
            problems += _repeated_here(node, prefix)
            waiting += [(value, f"{prefix}{key.value}.") for key, value in reversed(node.value)]
    return problems


def _repeated_here(node: yaml.MappingNode, prefix: str) -> list[str]:
    first: dict[str, int] = {}
    problems = []
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
            continue
        line = key.start_mark.line + 1
        if key.value in first:
            problems.append(f"{prefix}{key.value} (lines {first[key.value]} and {line})")
        first.setdefault(key.value, line)
    return problems
