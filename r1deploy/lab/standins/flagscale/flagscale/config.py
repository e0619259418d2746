"""Loads a configuration as Hydra composes it, as far as a serve configuration needs it."""

import logging
import os
import sys

from omegaconf import OmegaConf


def part(folder, name, entry):
    """One entry of the defaults list: the group's file, under the group's key."""
    group, choice = next(iter(entry.items()))
    path = os.path.join(folder, group, f"{choice}.yaml")
    if not os.path.isfile(path):
        sys.exit(f"In '{name}': Could not find '{group}/{choice}'\n\nConfig search path: file://{folder}")
    return {group: OmegaConf.load(path)}


def load(folder, name, overrides=()):
    """The composed configuration; the `hydra` section is carried out and taken away."""
    path = os.path.join(folder, f"{name}.yaml")
    if not os.path.isfile(path):
        sys.exit(f"Cannot find primary config '{name}'. Check that it's in your config search path.")
    own = OmegaConf.load(path)
    defaults = own.pop("defaults", ["_self_"])
    config = OmegaConf.create({})
    for entry in defaults:
        added = own if entry == "_self_" else OmegaConf.create(part(folder, name, entry))
        config = OmegaConf.merge(config, added)
    if "_self_" not in defaults:
        config = OmegaConf.merge(config, own)
    config = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    leave_trace(config, overrides)
    return config


def leave_trace(config, overrides):
    """Hydra writes what it composed, what it was told and a log below hydra.run.dir."""
    run_dir = OmegaConf.select(config, "hydra.run.dir") or "outputs/hydra"
    own = config.pop("hydra", None)
    os.makedirs(os.path.join(run_dir, ".hydra"), exist_ok=True)
    OmegaConf.save(config, os.path.join(run_dir, ".hydra", "config.yaml"))
    OmegaConf.save(OmegaConf.create({"hydra": own}), os.path.join(run_dir, ".hydra", "hydra.yaml"))
    OmegaConf.save(OmegaConf.create(list(overrides)), os.path.join(run_dir, ".hydra", "overrides.yaml"))
    log = logging.FileHandler(os.path.join(run_dir, "run.log"))
    logging.basicConfig(handlers=[log, logging.StreamHandler()], level=logging.INFO)
