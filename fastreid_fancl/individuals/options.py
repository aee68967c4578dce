"""What the commands `discover`, `match` and `export` have in common."""

import argparse
import logging
from collections.abc import Callable

from ..errors import exit_with_message
from .project import Project


def guarded(run: Callable[[argparse.Namespace], None], args: argparse.Namespace, kept: str = "") -> None:
    """Run a command: progress goes to the log, and wrong input ends in its message without a traceback.

    Args:
        run: the command.
        args: its arguments.
        kept: what an interrupted command keeps, behind the advice to run it again.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in ("individuals", "local", "progress"):
        logging.getLogger(f"fastreid_fancl.{name}").setLevel(logging.INFO)
    with exit_with_message(f"run the same command again{kept}"):
        run(args)


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """--runtime, and the flag that the message of `config.load.check_imports` names, as for tools/visualize.py."""
    text = "a file named in the run's IMPORTS that you allow to execute"
    parser.add_argument("--allow-imports", action="append", default=[], metavar="FILE", help=text)
    text = "what computes features on a CPU; openvino is faster for many photographs"
    parser.add_argument("--runtime", choices=("torch", "openvino"), help=text)


def set_encoder_options(project: Project, args: argparse.Namespace) -> None:
    """Give the project's encoder the options of `add_encoder_options`."""
    options = ["TEST.RUNTIME", args.runtime] if args.runtime else []
    if options or args.allow_imports:
        project.encoder_options = {"options": options, "imports": args.allow_imports}
