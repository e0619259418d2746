#!/usr/bin/python
"""Ansible module: record or verify the manifest of a tree."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: r1_tree
short_description: Record or verify what a tree of files holds
description:
  - With O(state=recorded) hashes all files below the parts of O(root) and writes C(manifest.json) there.
  - With O(state=verified) checks the files against C(manifest.json) and fails with the names of those that differ.
options:
  root:
    description: Folder that holds the tree and its manifest.
    type: path
    required: true
  parts:
    description: Folders below O(root) that count. Needed for O(state=recorded).
    type: list
    elements: str
    default: []
  digest:
    description: Expected digest of the manifest. Only for O(state=verified).
    type: str
  state:
    description: What to do.
    type: str
    choices: [recorded, verified]
    default: verified
author:
  - r1deploy
"""

EXAMPLES = r"""
- name: Record what was built
  r1deploy.cluster.r1_tree:
    root: /var/lib/r1deploy/trees/flagscale-0123456789ab
    parts: [FlagScale/build, wheels]
    state: recorded
"""

RETURN = r"""
digest:
  description: sha256 over the manifest.
  type: str
  returned: always
files:
  description: Number of files.
  type: int
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.r1deploy.cluster.plugins.module_utils.onhost.trees import (
    STAMPS,
    load,
    load_manifest,
    record,
    stamps,
    store,
    verify,
)


def main() -> None:
    """Module entry point."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "parts": {"type": "list", "elements": "str", "default": []},
            "digest": {"type": "str"},
            "state": {"choices": ["recorded", "verified"], "default": "verified"},
        },
        supports_check_mode=True,
    )
    root = module.params["root"]
    path = os.path.join(root, "manifest.json")
    before = load_manifest(root)
    if module.params["state"] == "recorded":
        manifest = record(root, module.params["parts"])
        if not manifest["files"] and not module.check_mode:
            module.fail_json(msg=f"nothing to record below {root}: {', '.join(module.params['parts'])}")
        # In check mode what comes before has built nothing: it would be recorded.
        changed = before is None or before["digest"] != manifest["digest"]
        if not module.check_mode:
            store(path, manifest)
            store(os.path.join(root, STAMPS), stamps(root, manifest))
    else:
        if before is None:
            module.fail_json(msg=f"{path}: no manifest")
        manifest = before
        wanted = module.params["digest"]
        if wanted and manifest["digest"] != wanted:
            module.fail_json(msg=f"{path}: digest {manifest['digest'][:12]}, expected {wanted[:12]}")
        bad = verify(root, manifest)
        if bad:
            said = f"{len(bad)} of {len(manifest['files'])} files differ: {', '.join(bad[:5])}"
            module.fail_json(msg=said, bad=bad[:50], recorded=manifest["digest"])
        known = stamps(root, manifest)
        changed = load(os.path.join(root, STAMPS)) != known
        if changed and not module.check_mode:
            store(os.path.join(root, STAMPS), known)
    module.exit_json(changed=changed, digest=manifest["digest"], files=len(manifest["files"]))


if __name__ == "__main__":
    main()
