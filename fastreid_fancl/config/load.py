"""The loading of configuration files."""

import importlib.util
import logging
import re
import shlex
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import torch
import yaml
from fastreid.config import CfgNode, get_cfg
from llvmlite.binding import get_host_cpu_features

from ..compat.config import NUMBER_OR_WORD, holds_words
from ..errors import UserError, did_you_mean
from ..files import looked_for
from ..shipped import find_config
from .access import all_keys, value_of
from .defaults import add_fancl_config
from .encoder import clear_encoder_defaults, describe_encoder
from .repeated_keys import refuse_repeated_keys_with_bases
from .values import check_values

logger = logging.getLogger(__name__)

NUMBER = re.compile(r"[\d_.+-]+")


def load_config(
    config_file: str = "", opts: list[str] | None = None, imports: Collection[str] | None = None
) -> CfgNode:
    """Read a configuration: fast-reid's defaults, then this package's keys, the file with its bases, the options.

    Args:
        config_file: path of a YAML file, or the name of a shipped one (`find_config`); empty for the defaults.
        opts: KEY VALUE KEY VALUE ..., as on the command line.
        imports: the IMPORTS of an untrusted file that may run; None allows all.

    Returns:
        A frozen configuration with MODEL.DEVICE and MODEL.PRECISION resolved.

    Raises:
        ValueError: on a flag among the options, a missing file, an unknown key (with the nearest known ones) or a value
            of the wrong type, and on IMPORTS that do not exist or may not run.
    """
    opts = opts or []
    flags = [word for word in opts if str(word).startswith("--")]
    if flags:
        raise UserError(f"{flags[0]} comes after KEY VALUE options: put it before them.")
    if len(opts) % 2:
        raise UserError(
            f"Expected options as KEY VALUE KEY VALUE ..., got {len(opts)} words: {' '.join(map(str, opts))}."
        )
    cfg = get_cfg()
    add_fancl_config(cfg)
    clear_encoder_defaults(cfg)
    try:
        if config_file:
            config_file = find_config(config_file)
            refuse_repeated_keys_with_bases(config_file)
            cfg.merge_from_file(config_file)
        cfg.merge_from_list(_words_kept(cfg, opts))
    except FileNotFoundError as error:
        raise UserError(
            f"There is no configuration file {error.filename}{looked_for(error.filename)}: check --config-file."
        ) from error
    except UserError:
        raise
    except (KeyError, AssertionError) as error:
        raise UserError(_explain_key(cfg, str(error))) from error
    except (yaml.YAMLError, TypeError, AttributeError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{config_file} or one of its _BASE_ is not a configuration file: {error}.") from error
    except ValueError as error:  # of yacs, on a value of another type, and of PyYAML, on a date that is none
        raise UserError(str(error)) from error
    if cfg.MODEL.DEVICE == "auto":
        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    if cfg.MODEL.PRECISION == "auto":
        fast = has_bfloat16(cfg.MODEL.DEVICE) and not cfg.SOLVER.AMP.ENABLED
        cfg.MODEL.PRECISION = "bfloat16" if fast else "float32"
    check_values(cfg)
    if imports is not None and "IMPORTS" not in opts[::2]:
        check_imports(config_file, [name for name in cfg.IMPORTS if name not in imports])
    for name in cfg.IMPORTS:
        _import(name)
    describe_encoder(cfg)
    cfg.freeze()
    return cfg


def has_bfloat16(device: str) -> bool:
    """Whether the hardware multiplies in bfloat16: GPUs from NVIDIA's Ampere on, CPUs with AVX512_BF16 or AMX."""
    if device.startswith("cuda"):
        with suppress(RuntimeError, AssertionError, ValueError):  # no such GPU, which check_config says
            return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
        return False
    features = get_host_cpu_features()
    return any(features.get(name) for name in ("avx512bf16", "amx-bf16"))


def check_imports(config_file: str, names: Collection[str]) -> None:
    """Raise ValueError if there are names: IMPORTS of another person's file that the user has not allowed to run."""
    if names:
        flags = " ".join(f"--allow-imports={shlex.quote(str(name))}" for name in names)
        raise UserError(
            f"{config_file} imports code by IMPORTS {', '.join(map(str, names))}, which would run here with all your "
            f"rights. Read it first, and if you trust it add: {flags}"
        )


def _import(name: str) -> None:
    """Import a module by its dotted name, or a file by its path, once in a process.

    Raises:
        ValueError: if there is none.
    """
    path = Path(name).resolve()
    if name.startswith(".") and path.suffix != ".py":
        raise UserError(f"IMPORTS {name}: give a file's path, or the whole name of a module, not a relative one.")
    try:
        if path.suffix != ".py":
            importlib.import_module(name)
        elif str(path) not in sys.modules:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None  # as for every .py file
            module = sys.modules[str(path)] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        sys.modules.pop(str(path), None)
        looked = looked_for(name) if path.suffix == ".py" else ""
        cure = "Give a file's path, or a module that Python finds."
        raise UserError(f"IMPORTS {name}: {error}{looked}. {cure}") from error


def _explain_key(cfg: CfgNode, message: str) -> str:
    key = message.rpartition(":")[2].strip(" '\"")
    return f"Unknown configuration key {key!r}." + did_you_mean(key.upper(), all_keys(cfg), least=0.5)


def _words_kept(cfg: CfgNode, opts: list[str]) -> list[str]:
    """The options, with words such as 2024 quoted where a key takes words: yacs would read a number."""
    kept = list(opts)
    for n in range(0, len(opts), 2):
        with suppress(KeyError, TypeError):  # an unknown key, which yacs tells
            default = value_of(cfg, opts[n])
            words = opts[n] not in NUMBER_OR_WORD and (isinstance(default, str) or holds_words(default))
            if words and NUMBER.fullmatch(str(opts[n + 1])):
                kept[n + 1] = repr(str(opts[n + 1]))
    return kept
