"""Packaging: the metadata are in pyproject.toml; this file puts configs/ into the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies configs/ into the built package, where `shipped.find_config` looks.

    An editable install needs no copy: there the folder lies beside the package.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            built = Path(self.build_lib, "fastreid_fancl", "configs")
            shutil.rmtree(built, ignore_errors=True)  # an earlier build may have left files that are gone since
            shutil.copytree("configs", built)


setup(cmdclass={"build_py": BuildWithConfigs})
