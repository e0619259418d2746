"""A whole small forward pass of DeepSeek-V3's architecture in plain PyTorch, with random weights from a seed.

Each run compares with the fp64 pass of the CPU, which is made before FlagGems is on. Rows: ``forward`` (one a type:
error of the logits, the token after each position, greedy tokens), or one with ``last`` where it failed; ``done``.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import Any, Dict, Mapping

from . import flaggems
from .children import Listener, Task, Tell, run_all
from .kernels import settled
from .operators import FLOATS, Inputs, type_of
from .orders import FORWARD, order_of
from .saying import say

HIDDEN, LAYERS, HEADS, QUERY, LATENT, ROPE, PLAIN, VALUE = 512, 3, 8, 384, 512, 64, 64, 64
EXPERTS, CHOSEN, EXPERT, DENSE, WORDS, SCALE = 32, 8, 256, 1024, 2048, 2.5
EPS, THETA = 1e-6, 10000.0
Weights = Dict[str, Any]
Order = Mapping[str, Any]


def weights_of(torch: Any) -> Weights:
    """All weights in fp32, on the CPU, rounded as bf16 rounds: every type starts from the same numbers."""
    made = Inputs(torch, "forward", "fp32")

    def matrix(*shape: int) -> Any:
        return made.normal(*shape) * shape[-1] ** -0.5

    found = {"words": made.normal(WORDS, HIDDEN), "norm": made.positive(HIDDEN), "head": matrix(WORDS, HIDDEN) * 4}
    for n in range(LAYERS):
        found.update({f"{n}.{name}": tensor for name, tensor in _layer(made, matrix, dense=n == 0).items()})
    return {name: tensor.to(torch.bfloat16).float() for name, tensor in found.items()}


def _layer(made: Inputs, matrix: Any, dense: bool) -> Weights:
    found = {
        "before": made.positive(HIDDEN), "after": made.positive(HIDDEN),
        "q_a": matrix(QUERY, HIDDEN), "q_norm": made.positive(QUERY), "q_b": matrix(HEADS * (PLAIN + ROPE), QUERY),
        "kv_a": matrix(LATENT + ROPE, HIDDEN), "kv_norm": made.positive(LATENT),
        "kv_b": matrix(HEADS * (PLAIN + VALUE), LATENT), "out": matrix(HIDDEN, HEADS * VALUE),
    }  # fmt: skip
    if dense:
        return {**found, **_gated(matrix, "mlp", DENSE)}
    found.update(_gated(matrix, "shared", EXPERT), router=matrix(EXPERTS, HIDDEN), bias=made.normal(EXPERTS) * 0.01)
    for n in range(EXPERTS):
        found.update(_gated(matrix, f"e{n}", EXPERT))
    return found


def _gated(matrix: Any, name: str, width: int) -> Weights:
    ends = {f"{name}.{end}": matrix(width, HIDDEN) for end in ("gate", "up")}
    return {**ends, f"{name}.down": matrix(HIDDEN, width)}


class Model:
    """The pass, at one type and in one place."""

    def __init__(self, torch: Any, weights: Weights, kind: Any, device: Any) -> None:
        self.torch, self.w = torch, {name: x.to(kind).to(device) for name, x in weights.items()}
        self.kind, self.device = kind, device
        self.wide = torch.float64 if kind == torch.float64 else torch.float32

    def linear(self, x: Any, name: str) -> Any:
        return self.torch.nn.functional.linear(x, self.w[name])

    def norm(self, x: Any, name: str) -> Any:
        wide = x.to(self.wide)
        torch = self.torch
        wide = torch.mul(wide, torch.rsqrt(torch.add(torch.pow(wide, 2).mean(-1, keepdim=True), EPS)))
        return torch.mul(self.w[name], wide.to(self.kind))

    def gated(self, x: Any, name: str) -> Any:
        silu = self.torch.nn.functional.silu
        inner = self.torch.mul(silu(self.linear(x, f"{name}.gate")), self.linear(x, f"{name}.up"))
        return self.linear(inner, f"{name}.down")

    def turned(self, x: Any) -> Any:
        """The positions, turned into x (tokens × heads × ROPE)."""
        torch, half = self.torch, ROPE // 2
        steps = torch.arange(half, device=self.device).to(self.wide)
        turns = torch.pow(THETA, torch.div(torch.neg(steps), half))
        angles = torch.mul(torch.arange(len(x), device=self.device).to(self.wide)[:, None], turns)
        cos, sin = (f(torch.cat([angles, angles], -1))[:, None].to(self.kind) for f in (torch.cos, torch.sin))
        swapped = torch.cat([torch.neg(x[..., half:]), x[..., :half]], -1)
        return torch.add(torch.mul(x, cos), torch.mul(swapped, sin))

    def attention(self, x: Any, n: int) -> Any:
        """Multi-head latent attention."""
        torch, tokens = self.torch, len(x)
        q = self.linear(self.norm(self.linear(x, f"{n}.q_a"), f"{n}.q_norm"), f"{n}.q_b").view(tokens, HEADS, -1)
        q = torch.cat([q[..., :PLAIN], self.turned(q[..., PLAIN:])], -1)
        latent = self.linear(x, f"{n}.kv_a")
        turned = self.turned(latent[:, None, LATENT:]).expand(tokens, HEADS, ROPE)
        kv = self.linear(self.norm(latent[:, :LATENT], f"{n}.kv_norm"), f"{n}.kv_b").view(tokens, HEADS, -1)
        k = torch.cat([kv[..., :PLAIN], turned], -1)
        scores = torch.mul(torch.bmm(q.transpose(0, 1), k.permute(1, 2, 0)), (PLAIN + ROPE) ** -0.5)
        later = torch.arange(tokens, device=self.device)
        scores = scores.masked_fill(torch.gt(later[None, :], later[:, None]), float("-inf"))
        shares = torch.softmax(scores.to(self.wide), -1).to(self.kind)
        found = torch.bmm(shares, kv[..., PLAIN:].transpose(0, 1)).transpose(0, 1).reshape(tokens, -1)
        return self.linear(found, f"{n}.out")

    def experts(self, x: Any, n: int) -> Any:
        """Routed by sigmoid, the bias only chooses; each expert sees its tokens only."""
        torch = self.torch
        scores = torch.sigmoid(torch.nn.functional.linear(x.to(self.wide), self.w[f"{n}.router"].to(self.wide)))
        _, where = torch.topk(torch.add(scores, self.w[f"{n}.bias"].to(self.wide)), CHOSEN, dim=-1)
        shares = torch.gather(scores, 1, where)
        shares = torch.mul(torch.div(shares, shares.sum(-1, keepdim=True)), SCALE).to(self.kind)
        found = self.gated(x, f"{n}.shared")
        for expert in range(EXPERTS):
            tokens, place = torch.where(torch.eq(where, expert))
            if len(tokens):
                out = self.gated(torch.index_select(x, 0, tokens), f"{n}.e{expert}")
                found = torch.index_add(found, 0, tokens, torch.mul(out, shares[tokens, place][:, None]))
        return found

    def logits(self, words: Any) -> Any:
        """The whole pass: logits after each token."""
        x = self.torch.nn.functional.embedding(words, self.w["words"])
        for n in range(LAYERS):
            x = self.torch.add(x, self.attention(self.norm(x, f"{n}.before"), n))
            inner = self.norm(x, f"{n}.after")
            x = self.torch.add(x, self.experts(inner, n) if n else self.gated(inner, f"{n}.mlp"))
        return self.linear(self.norm(x, "norm"), "head")


def greedy(torch: Any, model: Model, prompt: list[int], number: int) -> list[int]:
    """The likeliest tokens, one after the other."""
    words = list(prompt)
    for _ in range(number):
        logits = model.logits(torch.tensor(words).to(model.device))
        words.append(int(torch.argmax(logits[-1:], dim=-1).cpu()[0]))
    return words[len(prompt) :]


def compare(order: Order, dtype: str, tell: Tell) -> None:
    """The pass at one type against that of the CPU in fp64. Raises what a kernel raises."""
    torch: Any = importlib.import_module("torch")
    torch.set_grad_enabled(False)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // len(FLOATS)))
    weights, device = weights_of(torch), torch.device(order["device"])
    prompt = [int(word) for word in Inputs(torch, "prompt", "fp32").below(WORDS, order["prompt"])]
    words = torch.tensor(prompt)
    wanted = Model(torch, weights, torch.float64, torch.device("cpu")).logits(words)
    model, placed = Model(torch, weights, type_of(torch, dtype), device), words.to(device)
    if order["flaggems"]:
        flaggems.enable(order["unused"])
    began = time.monotonic()
    logits = model.logits(placed)
    settled(torch, order["device"])()
    seconds = round(time.monotonic() - began, 2)
    found = logits.cpu().double()
    error = float((found - wanted).norm() / wanted.norm())
    row = {"error": error if error == error and error < float("inf") else None, "seconds": seconds, "last": ""}
    row.update(next=found.argmax(-1).tolist(), wanted=wanted.argmax(-1).tolist())
    tell(dict(row, greedy=greedy(torch, model, prompt, order["greedy"])))


class Passes(Listener):
    """Says a row for each type, also for one that failed."""

    def __init__(self, order: Order) -> None:
        self.flaggems = order["flaggems"]

    def row(self, task: Task, row: dict[str, Any]) -> None:
        say("forward", dtype=task.name, flaggems=self.flaggems, **row)

    def ended(self, task: Task, how: str, last: str) -> None:
        if how != "done":
            self.row(task, {"error": None, "seconds": None, "last": last, "next": [], "wanted": [], "greedy": []})


def task_of(order: Order, dtype: str) -> Task:
    """The pass at one type."""
    return Task(dtype, lambda tell: compare(order, dtype, tell), order["deadline"])


def main(text: str) -> int:
    """Both types, each in a process of its own; the exit code."""
    order = order_of(FORWARD, text)
    began = time.monotonic()
    run_all([task_of(order, dtype) for dtype in FLOATS], len(FLOATS), Passes(order))
    say("done", seconds=round(time.monotonic() - began, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "{}"))
