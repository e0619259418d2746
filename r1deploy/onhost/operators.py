"""The operators of a DeepSeek-V3 forward pass: what each takes, at the model's shapes, and how it is called.

The same ``call`` makes the reference (on the CPU, in fp64) and the answer (on the chip). Operators that only move
numbers have to give exactly what the CPU gives. Functions, not ``+`` and ``*``: those turn a kernel's TypeError into
"unsupported operand", and its cause is lost.
"""

from __future__ import annotations

import zlib
from typing import Any, Callable, List, NamedTuple, Sequence

HIDDEN, QUERY, LATENT, ROPE, EXPERTS, CHOSEN = 7168, 1536, 512, 64, 256, 8
SHARD, HEADS, HEAD, VOCABULARY, SCORES = 2048, 16, 128, 2020, 2049
EPS = 1e-6
FILLED = 1.5
FLOATS = ("bf16", "fp32")
BOUNDS = {"bf16": 1e-2, "fp32": 1e-5}
LARGEST = 1 << 20


class Inputs:
    """Makes inputs on the CPU: from a seed, never zeros, of the wanted type."""

    def __init__(self, torch: Any, seed: str, dtype: str) -> None:
        self.torch, self.kind = torch, type_of(torch, dtype)
        self.source = torch.Generator().manual_seed(zlib.crc32(seed.encode()))

    def normal(self, *shape: int) -> Any:
        return self.torch.randn(*shape, generator=self.source).to(self.kind)

    def positive(self, *shape: int) -> Any:
        return (self.torch.rand(*shape, generator=self.source) + 0.5).to(self.kind)

    def weight(self, *shape: int) -> Any:
        return (self.torch.randn(*shape, generator=self.source) * shape[0] ** -0.5).to(self.kind)

    def below(self, end: int, *shape: int) -> Any:
        return self.torch.randint(end, shape, generator=self.source)

    def order(self, number: int) -> Any:
        return self.torch.randperm(number, generator=self.source)

    def pairs(self, number: int) -> Any:
        """Of an order, and what lies between its numbers: the index of tokens as ``where`` gives it has a stride."""
        return self.torch.stack([self.order(number), self.order(number)], dim=1)

    def mask(self, *shape: int) -> Any:
        return self.torch.randn(*shape, generator=self.source) > 0

    def unwritten(self, *shape: int) -> Any:
        return self.torch.full(shape, float("nan"), dtype=self.kind)


Make = Callable[[Inputs, int], List[Any]]
Call = Callable[[Any, List[Any]], Any]


class Operator(NamedTuple):
    """One operator.

    ``atens`` are the dispatcher's names that it goes through, the one to blame first before the others; ``rows`` the
    inputs that are cut by token; a ``composite`` is to blame where none of its parts is.
    """

    name: str
    atens: tuple[str, ...]
    make: Make
    call: Call
    rows: tuple[int, ...] = ()
    exact: bool = False
    dtypes: tuple[str, ...] = FLOATS
    most: int = LARGEST
    composite: bool = False


class Case(NamedTuple):
    """An operator at one type and one number of tokens."""

    dtype: str
    tokens: int

    @property
    def name(self) -> str:
        return f"{self.dtype} {self.tokens}"


def type_of(torch: Any, name: str) -> Any:
    """bf16, fp32, fp64, int64 → torch's type."""
    names = {"bf16": "bfloat16", "fp32": "float32", "fp64": "float64", "int64": "int64"}
    return getattr(torch, names[name])


def cases_of(operator: Operator, tokens: Sequence[int]) -> list[Case]:
    """The cases, small ones first; a number of tokens is scaled down where memory asks for it."""
    sizes = sorted({min(operator.most, number) for number in tokens})
    return [Case(dtype, size) for size in sizes for dtype in operator.dtypes]


def bound_of(operator: Operator, dtype: str) -> float:
    """The largest relative error that is right."""
    if operator.exact:
        return 0.0
    return 2e-2 if operator.name == "cumsum" and dtype == "bf16" else BOUNDS[dtype]


def normed(torch: Any, x: list[Any]) -> Any:
    """RMSNorm as the model writes it: in fp32, the weight in the type of the input."""
    wide = x[0].to(torch.promote_types(x[0].dtype, torch.float32))
    wide = torch.mul(wide, torch.rsqrt(torch.add(torch.pow(wide, 2).mean(-1, keepdim=True), EPS)))
    return torch.mul(x[1], wide.to(x[0].dtype))


def chosen(torch: Any, x: list[Any]) -> Any:
    """The values of the chosen, and what lies where they are said to be (looked up on the CPU)."""
    values, where = torch.topk(x[0], CHOSEN, dim=-1)
    return [values, Looked(where)]


class Looked(NamedTuple):
    """Indices: what counts is the value that they lead to, since equal values may come in any order."""

    where: Any


def _product(torch: Any, x: list[Any]) -> Any:
    return torch.mm(x[0], x[1])


def _cast(torch: Any, x: list[Any]) -> Any:
    return x[0].to(torch.float32 if x[0].dtype == torch.bfloat16 else torch.bfloat16)


def _new(x: list[Any]) -> Any:
    return {"dtype": x[0].dtype, "device": x[0].device}


_MOVES = (
    Operator("embedding", ("embedding", "index_select"),
             lambda m, n: [m.below(VOCABULARY, n), m.normal(VOCABULARY, HIDDEN)],
             lambda t, x: t.nn.functional.embedding(x[0], x[1]), exact=True),
    Operator("cat", ("cat",), lambda m, n: [m.normal(n, LATENT), m.normal(n, ROPE)],
             lambda t, x: t.cat(x, dim=-1), exact=True),
    Operator("gather", ("gather",), lambda m, n: [m.normal(n, EXPERTS), m.below(EXPERTS, n, CHOSEN)],
             lambda t, x: t.gather(x[0], 1, x[1]), exact=True),
    Operator("index_select", ("index_select",), lambda m, n: [m.normal(n, HIDDEN), m.below(n, n)],
             lambda t, x: t.index_select(x[0], 0, x[1]), exact=True, most=4096),
    Operator("index_select.strided", ("index_select",), lambda m, n: [m.normal(n, SHARD), m.below(n, n, 2)],
             lambda t, x: t.index_select(x[0], 0, x[1][:, 1]), exact=True),
    Operator("topk", ("topk",), lambda m, n: [m.normal(n, EXPERTS)], chosen, exact=True),
    Operator("argmax", ("argmax",), lambda m, n: [m.normal(n, 16160)],
             lambda t, x: [Looked(t.argmax(x[0], dim=-1, keepdim=True))], exact=True, most=1009),
    Operator("where", ("where.self",), lambda m, n: [m.mask(n, EXPERTS), m.normal(n, EXPERTS), m.normal(n, EXPERTS)],
             lambda t, x: t.where(x[0], x[1], x[2]), exact=True),
    Operator("masked_fill", ("masked_fill.Scalar",), lambda m, n: [m.normal(n, EXPERTS), m.mask(n, EXPERTS)],
             lambda t, x: x[0].masked_fill(x[1], float("-inf")), exact=True),
    Operator("masked_fill_", ("masked_fill_.Scalar",), lambda m, n: [m.normal(n, EXPERTS), m.mask(n, EXPERTS)],
             lambda t, x: x[0].masked_fill_(x[1], float("-inf")), exact=True),
    Operator("arange", ("arange", "arange.start", "arange.start_step"), lambda m, n: [m.below(9, n)],
             lambda t, x: [t.arange(len(x[0]), device=x[0].device),
                           t.arange(7, 7 + len(x[0]), device=x[0].device)], exact=True, dtypes=("int64",)),
    Operator("zeros", ("zeros",), lambda m, n: [m.normal(n, HIDDEN)],
             lambda t, x: t.zeros(x[0].shape, **_new(x)), exact=True, most=4096),
    Operator("full", ("full",), lambda m, n: [m.normal(n, HIDDEN)],
             lambda t, x: t.full(x[0].shape, FILLED, **_new(x)), exact=True, most=4096),
    Operator("index", ("index.Tensor",), lambda m, n: [m.normal(n, EXPERTS), m.below(n, n), m.below(EXPERTS, n)],
             lambda t, x: x[0][x[1], x[2]], exact=True),
    Operator("nonzero", ("nonzero",), lambda m, n: [m.mask(n, EXPERTS)],
             lambda t, x: list(t.where(x[0])), exact=True, dtypes=("int64",)),
    Operator("gt", ("gt.Tensor",), lambda m, n: [m.normal(n, EXPERTS), m.normal(n, EXPERTS)],
             lambda t, x: t.gt(x[0], x[1]), exact=True),
    Operator("neg", ("neg",), lambda m, n: [m.normal(n, SHARD)], lambda t, x: t.neg(x[0]), exact=True),
    Operator("contiguous", ("contiguous", "clone", "copy_"), lambda m, n: [m.normal(HEADS, n, HEAD)],
             lambda t, x: x[0].transpose(0, 1).contiguous(), exact=True),
    Operator("copy_", ("copy_",), lambda m, n: [m.unwritten(n, HIDDEN), m.normal(HIDDEN, n)],
             lambda t, x: x[0].copy_(x[1].t()), exact=True, most=4096),
    Operator("cast", ("_to_copy", "copy_"), lambda m, n: [m.normal(n, HIDDEN)], _cast, exact=True, most=4096),
)  # fmt: skip

_PRODUCTS = (
    Operator("mm", ("mm",), lambda m, n: [m.normal(n, HIDDEN), m.weight(HIDDEN, LATENT + ROPE)], _product, rows=(0,)),
    Operator("mm.out", ("mm.out",),
             lambda m, n: [m.normal(n, HIDDEN), m.weight(HIDDEN, LATENT + ROPE), m.unwritten(n, LATENT + ROPE)],
             lambda t, x: t.mm(x[0], x[1], out=x[2]), rows=(0, 2)),
    Operator("addmm", ("addmm",), lambda m, n: [m.normal(QUERY), m.normal(n, HIDDEN), m.weight(HIDDEN, QUERY)],
             lambda t, x: t.addmm(x[0], x[1], x[2]), rows=(1,)),
    Operator("addmm.out", ("addmm.out",),
             lambda m, n: [m.normal(QUERY), m.normal(n, HIDDEN), m.weight(HIDDEN, QUERY), m.unwritten(n, QUERY)],
             lambda t, x: t.addmm(x[0], x[1], x[2], out=x[3]), rows=(1, 3)),
    Operator("linear", ("linear", "mm"), lambda m, n: [m.normal(n, HIDDEN), m.weight(SHARD, HIDDEN)],
             lambda t, x: t.nn.functional.linear(x[0], x[1]), rows=(0,)),
    Operator("bmm", ("bmm",), lambda m, n: [m.normal(HEADS, n, HEAD), m.normal(HEADS, HEAD, LATENT)],
             lambda t, x: t.bmm(x[0], x[1]), most=2048),
)  # fmt: skip

_ELEMENTS = (
    Operator("softmax", ("_softmax", "softmax.int"), lambda m, n: [m.normal(n, SCORES)],
             lambda t, x: t.softmax(x[0], dim=-1), rows=(0,)),
    Operator("rmsnorm.pow", ("pow.Tensor_Scalar",), lambda m, n: [m.normal(n, HIDDEN)],
             lambda t, x: t.pow(x[0], 2), rows=(0,)),
    Operator("rmsnorm.mean", ("mean.dim",), lambda m, n: [m.positive(n, HIDDEN)],
             lambda t, x: x[0].mean(-1, keepdim=True), rows=(0,)),
    Operator("rmsnorm.rsqrt", ("rsqrt",), lambda m, n: [m.positive(n, 1)], lambda t, x: t.rsqrt(x[0]), rows=(0,)),
    Operator("rmsnorm.mul", ("mul.Tensor",), lambda m, n: [m.normal(n, HIDDEN), m.positive(n, 1), m.positive(HIDDEN)],
             lambda t, x: t.mul(x[2], t.mul(x[0], x[1])), rows=(0, 1)),
    Operator("rmsnorm", ("pow.Tensor_Scalar", "mean.dim", "rsqrt", "add.Tensor", "mul.Tensor", "_to_copy"),
             lambda m, n: [m.normal(n, HIDDEN), m.positive(HIDDEN)], normed, rows=(0,), composite=True),
    Operator("silu", ("silu",), lambda m, n: [m.normal(n, SHARD)], lambda t, x: t.nn.functional.silu(x[0]), rows=(0,)),
    Operator("mul", ("mul.Tensor",), lambda m, n: [m.normal(n, SHARD), m.normal(n, SHARD)],
             lambda t, x: t.mul(x[0], x[1]), rows=(0, 1)),
    Operator("mul_", ("mul_.Tensor",), lambda m, n: [m.normal(n, SHARD), m.normal(n, SHARD)],
             lambda t, x: x[0].mul_(x[1]), rows=(0, 1)),
    Operator("add", ("add.Tensor",), lambda m, n: [m.normal(n, HIDDEN), m.normal(n, HIDDEN)],
             lambda t, x: t.add(x[0], x[1]), rows=(0, 1), most=4096),
    Operator("add_", ("add_.Tensor",), lambda m, n: [m.normal(n, HIDDEN), m.normal(n, HIDDEN)],
             lambda t, x: x[0].add_(x[1]), rows=(0, 1), most=4096),
    Operator("mul.number", ("mul.Tensor", "mul.Scalar"), lambda m, n: [m.normal(n, SHARD)],
             lambda t, x: t.mul(x[0], 0.3), rows=(0,)),
    Operator("add.number", ("add.Tensor", "add.Scalar"), lambda m, n: [m.normal(n, SHARD)],
             lambda t, x: t.add(x[0], 0.3), rows=(0,)),
    Operator("div", ("div.Tensor",), lambda m, n: [m.normal(n, CHOSEN), m.positive(n, 1)],
             lambda t, x: t.div(x[0], x[1]), rows=(0, 1)),
    Operator("sum", ("sum.dim_IntList",), lambda m, n: [m.positive(n, CHOSEN)],
             lambda t, x: x[0].sum(-1, keepdim=True), rows=(0,)),
    Operator("pow.number", ("pow.Scalar",), lambda m, n: [m.normal(n, ROPE)], lambda t, x: t.pow(3.0, x[0]), rows=(0,)),
    Operator("cos", ("cos",), lambda m, n: [m.normal(n, ROPE)], lambda t, x: t.cos(x[0]), rows=(0,)),
    Operator("sin", ("sin",), lambda m, n: [m.normal(n, ROPE)], lambda t, x: t.sin(x[0]), rows=(0,)),
    Operator("index_add", ("index_add",), lambda m, n: [m.normal(n, SHARD), m.order(n), m.normal(n, SHARD)],
             lambda t, x: t.index_add(x[0], 0, x[1], x[2])),
    Operator("index_add.strided", ("index_add",), lambda m, n: [m.normal(n, SHARD), m.pairs(n), m.normal(n, SHARD)],
             lambda t, x: t.index_add(x[0], 0, x[1][:, 1], x[2])),
    Operator("sigmoid", ("sigmoid",), lambda m, n: [m.normal(n, EXPERTS)], lambda t, x: t.sigmoid(x[0]), rows=(0,)),
    Operator("cumsum", ("cumsum",), lambda m, n: [m.positive(n, EXPERTS)], lambda t, x: t.cumsum(x[0], -1), rows=(0,)),
)  # fmt: skip

OPERATORS = (*_PRODUCTS, *_ELEMENTS, *_MOVES)
