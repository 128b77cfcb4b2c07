"""Puts the files of configs/ into the package of a wheel, where `fpsset train NAME` finds them.

Everything else is in setup.cfg. An editable installation reads configs/ itself.
"""

import setuptools
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Adds the package fpsset.configs, which lies in configs/."""

    def finalize_options(self) -> None:
        """Adds it to wheels and source distributions alone."""
        super().finalize_options()
        if not self.editable_mode:
            self.packages = [*self.packages, "fpsset.configs"]
            self.package_dir = {**(self.package_dir or {}), "fpsset.configs": "configs"}


setuptools.setup(cmdclass={"build_py": BuildPy})
