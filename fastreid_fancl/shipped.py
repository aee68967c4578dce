"""The configurations that come with this package, found by name from any folder."""

import os
from pathlib import Path

from .errors import UserError, nearest_names
from .files import looked_for

PACKAGE = Path(__file__).parent


def configs_folder() -> Path:
    """Where the configurations are: inside an installed package, beside it in a checkout or an editable install."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """The names of all shipped configurations, such as "RedPanda/fancl"."""
    folder = configs_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yml"))


def find_config(name: str | os.PathLike, option: str = "--config-file") -> str:
    """The file of a configuration that is given by its path or by the name of a shipped one.

    An existing path always wins. "RedPanda/fancl", "RedPanda/fancl.yml" and "configs/RedPanda/fancl.yml" name the same
    shipped file. `option` is the one that the user gave it by, for the message.

    Raises:
        ValueError: if there is neither; it lists the nearest names.
    """
    path = Path(name).expanduser()
    if path.exists() and not path.is_dir():  # a pipe is welcome
        return os.fspath(path)
    short = path.as_posix().removeprefix("configs/").removesuffix(".yml")
    shipped = config_names()
    if short in shipped:
        return os.fspath(configs_folder() / f"{short}.yml")
    near = nearest_names(short, shipped, least=0.5)
    what = "study" if option == "--study" else "configuration file"
    nearest = f"; the nearest that are shipped: {', '.join(near)}" if near else ""
    raise UserError(
        f"There is no {what} {os.fspath(name)}{looked_for(path)}, and none of this name comes with the "
        f"package{nearest}. Check {option}."
    )
