"""Setup of the stand-in FlagScale: the tree itself is the package flag_scale."""

import git  # noqa: F401  the real one needs GitPython to build
from setuptools import setup

PARTS = ("flagscale", "examples", "tools", "tests")

setup(
    name="flag_scale",
    version="0.8.0",
    description="stand-in for FlagScale, of the r1deploy lab",
    packages=["flag_scale", *(f"flag_scale.{part}" for part in PARTS)],
    package_dir={"flag_scale": "", **{f"flag_scale.{part}": part for part in PARTS}},
    package_data={f"flag_scale.{part}": ["**/*"] for part in PARTS},
    install_requires=["click", "gitpython", "cryptography", "setuptools>=77.0.0", "packaging>=24.2"],
    entry_points={"console_scripts": ["flagscale=flag_scale.flagscale.cli:flagscale"]},
)
