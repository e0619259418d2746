"""Ansible callback: r1deploy is asked before each task whether it holds the cluster, before each play if it goes on.

It waits for the answer. Where there is none, r1deploy is ending this run, or is gone and its supervisor does.
"""

from __future__ import annotations

import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: r1_held
type: aggregate
short_description: Asks r1deploy before each task and each play whether the run goes on
description:
  - Works below r1deploy only, which names the folder of the run in the environment.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Asks through two named pipes in the run's folder."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "r1_held"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        folder = os.environ["R1_RUN_FOLDER"]
        self._ask, self._answer = (os.open(os.path.join(folder, name), os.O_RDWR) for name in ("ask", "answer"))

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins."""
        self._wait(b"p")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins, on all of its hosts."""
        self._wait()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler begins."""
        self._wait()

    def _wait(self, question: bytes = b"?") -> None:
        os.write(self._ask, question)
        while os.read(self._answer, 1) != b"y":
            time.sleep(1)
