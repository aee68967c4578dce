"""The command line of pictures: which picture of which run."""

import argparse
import importlib
import importlib.util
from pathlib import Path

from ..arguments import count
from ..engine.trained_model import add_source, configuration_of
from ..errors import UserError, exit_with_message
from ..escape import visible

# The packages that each kind needs, from the extra `report`.
KINDS = {
    "fana": ("matplotlib",),
    "attention": ("matplotlib", "captum"),
    "retrieval": ("matplotlib",),
    "clusters": ("matplotlib",),
    "eps": ("matplotlib",),
    "matches": ("matplotlib",),
}


def command_line(argv: list[str] | None = None) -> None:
    """Draw the picture that the arguments ask for; wrong input ends in a message without a traceback."""
    args = parser().parse_args(argv)
    kind = args.kind
    source = ("kind", "run", "config_file", "allow_imports", "opts")
    options = {name: value for name, value in vars(args).items() if name not in source}
    with exit_with_message():
        require(KINDS[kind])
        cfg = configuration_of(args)
        album, module = (importlib.import_module(f"{__package__}.{name}") for name in ("album", kind))
        print(visible(album.add(Path(cfg.OUTPUT_DIR), module.draw(cfg, **options))))


def require(packages: tuple[str, ...]) -> None:
    """Raise UserError if a package is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"Pictures need {' and '.join(missing)}: pip install 'fastreid_fancl[report]'.")


def parser() -> argparse.ArgumentParser:
    """The arguments of tools/visualize.py."""
    parser = argparse.ArgumentParser(description="Draw what a model sees, into <OUTPUT_DIR>/pictures.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    add_kind(kinds, "fana", 5, "images: first activations, chosen regions, noised images (the paper's Figure 4)")
    attention = add_kind(kinds, "attention", 6, "queries: Grad-CAM of what sets them apart from others (Figure 1)")
    attention.add_argument("--layer", default="", metavar="NAME", help="module of the backbone; default: its output")
    retrieval = add_kind(kinds, "retrieval", 6, "queries: their nearest gallery images, right or wrong (Figure 5)")
    retrieval.add_argument("--top", type=count, default=8, metavar="K", help="gallery images per query")
    retrieval.add_argument("--hardest", action="store_true", help="the queries with the lowest average precision")
    clusters = add_kind(
        kinds, "clusters", 10, "clusters: contact sheet of the largest ones of an epoch, and their purity"
    )
    clusters.add_argument("--epoch", type=count, metavar="N", help="from 1; default: the last")
    add_kind(kinds, "eps", 6, "epochs: the radii among which PSEUDO_LABELS.EPS auto chose")
    add_kind(kinds, "matches", 6, "pairs: training images and what their local matches join")
    return parser


def add_kind(kinds, name: str, number: int, what: str) -> argparse.ArgumentParser:
    """Add the subcommand of a kind of picture, which shows `number` items by default."""
    added = kinds.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    add_source(added)
    added.add_argument("--number", type=count, default=number, metavar="N", help=f"{what.partition(':')[0]} shown")
    return added
