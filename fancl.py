"""The console command `fancl`: one subcommand for each tool.

This module stands beside the package and imports only the standard library, so that `fancl --help` answers at once:
importing `fastreid_fancl` loads PyTorch and fast-reid, which takes seconds.
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

# Subcommand -> the function that runs it, as "module:function", and what it does. A function reads `sys.argv`.
COMMANDS = {
    "train": ("fancl:train", "train or evaluate: fancl train RedPanda/fancl [--resume | --eval-only] [KEY VALUE ...]"),
    "plan": ("fancl:plan", "rehearse a training: the time, memory and disk to expect"),
    "compare": ("fancl:compare", "train several systems over seeds and write one page of tables and curves"),
    "group": ("fastreid_fancl.individuals.grouping:command_line", "group photographs by animal, with trained weights"),
    "visualize": ("fastreid_fancl.visualize.command:command_line", "draw what a model sees"),
    "discover": ("fastreid_fancl.individuals.command:discover", "find the individuals on photographs, apply decisions"),
    "match": ("fastreid_fancl.individuals.command:match", "match a photograph against the individuals that are known"),
    "export": ("fastreid_fancl.individuals.command:export", "write individuals for other programs"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run a subcommand with the rest of the arguments; its own `--help` explains them.

    Returns:
        The exit status; None is success.
    """
    args = parser().parse_args(argv)
    # As if the subcommand were a program of its own, so that its usage begins with "fancl <subcommand>".
    sys.argv = [f"fancl {args.command}", *args.words]
    return load(COMMANDS[args.command][0])()


def parser() -> argparse.ArgumentParser:
    """Subcommands take all words behind their name: each has a parser of its own."""
    whole = argparse.ArgumentParser(prog="fancl", description="Unsupervised re-identification of individual animals.")
    whole.add_argument("--version", action=Version)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, add_help=False, prefix_chars="\0")
        command.add_argument("words", nargs=argparse.REMAINDER)
    return whole


class Version(argparse.Action):
    """Prints the version of the package."""

    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"fancl {load('fastreid_fancl:__version__')}")
        parser.exit()


def load(name: str):
    """What "module:name" names; importing the package without fast-reid ends in its message."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name == "fastreid":
            sys.exit(f"error: {error}")
        raise


def train() -> None:
    """Train by a configuration that is the first word, or that --config-file names."""
    sys.argv[1:] = with_config_file(sys.argv[1:])
    load("fastreid_fancl.engine.run:command_line")()


def plan() -> None:
    """`train --plan`."""
    sys.argv[1:] = ["--plan", *with_config_file(sys.argv[1:])]
    load("fastreid_fancl.engine.run:command_line")()


def with_config_file(words: Sequence[str]) -> list[str]:
    """The arguments of tools/train_net.py for those of `fancl train`, whose first word may be a configuration."""
    if words and not words[0].startswith("-"):
        return ["--config-file", *words]
    return list(words)


def compare() -> int:
    """Compare; each run is a process of `fancl train`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the runs end with this process
    return load("fastreid_fancl.compare.command:command_line")([sys.executable, __file__, "train"])


if __name__ == "__main__":
    sys.exit(main())
