"""Setup of the stand-in FlagGems: as the real one it needs modules that an isolated build has not."""

import pip  # noqa: F401  the real one imports torch and pip; an isolated build has neither
from setuptools import find_packages, setup

setup(
    name="flag_gems",
    version="2.1",
    description="stand-in for FlagGems, of the r1deploy lab",
    package_dir={"": "src"},
    packages=find_packages("src"),
    install_requires=["triton>=2.2.0"],
)
