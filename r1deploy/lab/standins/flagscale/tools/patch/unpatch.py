"""Applies a vendor's patch; stand-in of the r1deploy lab with the real one's arguments and effects."""

import argparse
import logging
import os
import shutil
import sys
import tempfile

import yaml
from encryption_utils import decrypt_file
from git import Repo

logging.basicConfig(level=logging.INFO, format="[FlagScale-Unpatch] %(levelname)s | %(message)s", stream=sys.stderr)
logger = logging.getLogger("unpatch")
OWN = "FlagScale"
BACKENDS = {name.lower(): name for name in (OWN, "vllm", "Megatron-LM", "Megatron-Energon", "sglang", "llama.cpp")}


def backend(name):
    if name.lower() not in BACKENDS:
        raise argparse.ArgumentTypeError(f"Unsupported backend {name}")
    return BACKENDS[name.lower()]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", nargs="+", type=backend, default=["Megatron-LM"])
    parser.add_argument("--mode", choices=["symlink", "copy"], default="symlink")
    parser.add_argument("--device-type")
    parser.add_argument("--task", nargs="+", choices=["train", "inference", "post_train"])
    parser.add_argument("--commit")
    parser.add_argument("--no-force", dest="force", action="store_false")
    parser.add_argument("--no-init-submodule", dest="init_submodule", action="store_false")
    parser.add_argument("--key-path", help="folder that holds private_key.pem")
    parser.add_argument("--no-fs-extension", dest="fs_extension", action="store_false")
    parser.add_argument("--backend-commit", nargs="+", default=[None])
    return parser.parse_args()


def check(options, repo):
    """What the real one refuses before it touches anything."""
    if options.commit:
        try:
            repo.commit(options.commit)
        except ValueError:
            raise ValueError(f"Commit {options.commit} does not exist in the FlagScale.") from None
    device = options.device_type
    if device and (device.count("_") != 1 or not device[0].isupper()):
        raise ValueError("Device type is not invalid!")
    if not (device and options.task):
        sys.exit("The lab's stand-in only applies hardware patches: --device-type and --task are needed.")


def newest_commit(options, repo, root):
    """Without --commit: the last entry of the checked-out history, whatever it is good for."""
    path = os.path.join(root, "hardware", "patch_history.yaml")
    try:
        with open(path) as stream:
            history = yaml.safe_load(stream)[options.device_type]
    except (OSError, KeyError, TypeError):
        logger.warning("Try to use the current commit to unpatch.")
        return repo.head.commit.hexsha
    key = "+".join(sorted(options.backend))
    for task in options.task:
        found = (history.get(task) or {}).get(key)
        if found:
            repo.commit(found[-1])
            return found[-1]
    return repo.head.commit.hexsha


def vendor_files(folder, names):
    """For each backend: its patch and what diff.yaml says of it."""
    found = []
    for name in names:
        place = os.path.join(folder, name)
        if not os.path.exists(place):
            raise ValueError(f"{place} is not found.")
        content = sorted(os.listdir(place))
        if len(content) != 2:
            raise ValueError(f"Patch files in {place} must be a patch and a yaml.")
        patch = next(one for one in content if one.endswith((".patch", ".patch.encrypted")))
        with open(os.path.join(place, "diff.yaml")) as stream:
            found.append((name, os.path.join(place, patch), yaml.safe_load(stream)))
    return found


def newest_base(repo, wanted):
    """The newest of the base commits, by the history of the checked-out commit."""
    history = repo.git.rev_list("--topo-order", "HEAD").splitlines()
    missing = wanted - set(history)
    if missing:
        raise ValueError(f"The following commits were not found in rev-list: {missing}")
    return min(wanted, key=history.index)


def fetch_submodule(tree, name, commit):
    """As the real one at this commit: a failure is tried once more, whatever it was, the second one counts."""
    logger.info("    Initializing submodule %s in temp unpatch path %s...", name, tree)
    logger.info("Initializing submodule %s...", name)
    try:
        clone_submodule(tree, name, commit)
    except Exception:
        logger.info("Retrying to initialize submodule...")
        clone_submodule(tree, name, commit)
    logger.info("Initialized third_party/%s submodule.", name)


def clone_submodule(tree, name, commit):
    """Clone the backend from the URL in .gitmodules and set it to the vendor's commit."""
    path = f"third_party/{name}"
    for stale in (os.path.join(tree, ".git", "modules", path), os.path.join(tree, path)):
        shutil.rmtree(stale, ignore_errors=True)
    module = Repo(tree).submodule(path)
    module.update(init=True, force=True)
    if commit:
        module.module().git.reset("--hard", commit)
        logger.info("Reset %s to commit %s.", path, commit)


def apply_one(tree, name, patch, facts, options):
    """Decrypt first, clone next, apply last: with a wrong key the clone is made in vain."""
    if patch.endswith(".encrypted"):
        if options.key_path is None:
            raise ValueError(f"Patch file {patch} is encrypted, but no key path provided.")
        patch = decrypt_file(patch, os.path.join(options.key_path, "private_key.pem"))
    target = tree
    if name != OWN:
        target = os.path.join(tree, "third_party", name)
        if options.init_submodule:
            fetch_submodule(tree, name, (facts.get("backends_commit") or {}).get(name))
    Repo(target).git.apply("--whitespace", "fix", patch)
    logger.info("    Patch %s has been applied.", patch)


def copied(folder):
    """A whole copy under the temporary folder, .git included."""
    target = tempfile.mkdtemp()
    shutil.copytree(folder, target, dirs_exist_ok=True, symlinks=True)
    return target


def unpatch(root, commit, options, temporary):
    place = os.path.join(root, "build", options.device_type)
    shutil.rmtree(place, ignore_errors=True)
    temporary.append(copied(root))
    logger.info("Step 1: Copied %s to temp path %s", root, temporary[0])
    repo = Repo(temporary[0])
    repo.git.stash("push", "--include-untracked")
    logger.info("Step 2: Checking out %s", commit)
    repo.git.checkout(commit)
    folder = os.path.join(temporary[0], "hardware", options.device_type)
    if not os.path.exists(folder):
        raise ValueError(f"{folder} is not found.")
    parts = vendor_files(folder, options.backend)
    base = newest_base(repo, {facts["commit"] for _, _, facts in parts})
    logger.info("Step 3: Newest base commit %s", base)
    temporary.append(copied(temporary[0]))
    logger.info("Step 4: Copied to temp unpatch path %s", temporary[1])
    Repo(temporary[1]).git.checkout(base)
    logger.info("Step 5: Applying patch:")
    for name, patch, facts in parts:
        apply_one(temporary[1], name, patch, facts, options)
    target = os.path.join(place, os.path.basename(root))
    logger.info("Step 6: Moving patched temp path to %s", target)
    os.makedirs(place, exist_ok=True)
    # Only this copy is moved: the other one, with the plain text, stays behind, as with the real one.
    shutil.move(temporary[1], target)
    logger.info("Unpatch Ended.")


def main():
    options = arguments()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    repo = Repo(root)
    check(options, repo)
    commit = options.commit or newest_commit(options, repo, root)
    temporary = []
    try:
        unpatch(root, commit, options, temporary)
    except Exception as error:
        logger.exception("Exception occurred: %s", error)
        for path in (*temporary, os.path.join(root, "build", options.device_type)):
            shutil.rmtree(path, ignore_errors=True)
        raise ValueError("Error occurred during unpatching.") from None


if __name__ == "__main__":
    main()
