"""Build backend of the stand-in FlagScale: setuptools, reached through a module of the tree."""

from setuptools import build_meta


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
