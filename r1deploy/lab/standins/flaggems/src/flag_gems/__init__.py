"""Stand-in for FlagGems, of the r1deploy lab: its operators are PyTorch's own kernels of the CPU, no Triton in them.

Where there is no torch it replaces no operator, as before: the everyday lab has none. It can be told to be as broken
as the real one was found (see ``faults``).
"""

import logging

from flag_gems import faults

try:
    import torch
except ImportError:
    torch = None

__version__ = "2.1"
STAND_IN = "r1deploy lab"
aten_lib = torch.library.Library("aten", "IMPL") if torch else None

# The dispatcher's name → the name of the function, as the real one names them; `unused` takes the latter.
OPERATORS = {
    "mm": "mm", "mm.out": "mm_out", "addmm": "addmm", "addmm.out": "addmm_out", "bmm": "bmm", "bmm.out": "bmm_out",
    "_softmax": "softmax", "pow.Tensor_Scalar": "pow_tensor_scalar", "pow.Scalar": "pow_scalar", "mean.dim": "mean_dim",
    "rsqrt": "rsqrt", "silu": "silu", "mul.Tensor": "mul", "mul_.Tensor": "mul_", "add.Tensor": "add",
    "add_.Tensor": "add_", "div.Tensor": "true_divide", "sum.dim_IntList": "sum_dim", "cos": "cos", "sin": "sin",
    "index_add": "index_add", "sigmoid": "sigmoid", "cumsum": "cumsum", "embedding": "embedding", "cat": "cat",
    "gather": "gather", "index_select": "index_select", "topk": "topk", "argmax": "argmax", "where.self": "where_self",
    "masked_fill.Scalar": "masked_fill", "masked_fill_.Scalar": "masked_fill_", "arange": "arange",
    "arange.start": "arange_start", "arange.start_step": "arange_start_step", "zeros": "zeros", "full": "full",
    "index.Tensor": "index", "nonzero": "nonzero", "gt.Tensor": "gt", "neg": "neg",
}  # fmt: skip


def enable(lib=None, unused=None, record=False, once=False, path="gems.log"):
    """Take the operators over but the unused; once a process. ``record`` keeps in a file which ones are called."""
    if torch:
        recorded = Recorded(path, once) if record else None
        for name, function in OPERATORS.items():
            if function not in (unused or ()):
                (lib or aten_lib).impl(name, operator_of(name, function, recorded), "CPU")
    logging.getLogger("flag_gems").info("Successfully enabled flag_gems")
    return True


def operator_of(name, function, recorded):
    """What is registered: PyTorch's own kernel below it, in front of it what the stand-in is told to do."""
    kernel = torch.library.get_kernel(f"aten::{name}", "CPU")
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)

    def operator(*args, **options):
        if recorded:
            recorded.called(function)
        if name.endswith(".Tensor"):  # a number comes as a number here, the kernel takes tensors only
            args = [torch.tensor(each) if isinstance(each, (int, float)) else each for each in args]
        if of_the_judge(args):
            return kernel.call_boxed(key, *args, **options)
        return faults.applied(function, lambda: kernel.call_boxed(key, *args, **options))

    operator.__name__ = function
    return operator


def of_the_judge(args):
    """The CPU plays the chip, and it is the judge too: what is in fp64, or yes and no only, is no answer of the chip."""
    listed = [each for arg in args for each in (arg if isinstance(arg, (list, tuple)) else [arg])]
    kinds = {each.dtype for each in listed if isinstance(each, torch.Tensor)}
    return torch.float64 in kinds or kinds == {torch.bool}


class Recorded:
    """The calls as lines of a file, as the real one writes them; each function's first one only with ``once``."""

    def __init__(self, path, once):
        self.path, self.once, self.seen = path, once, set()

    def called(self, function):
        if not (self.once and function in self.seen):
            self.seen.add(function)
            with open(self.path, "a") as stream:
                stream.write(f"[DEBUG] flag_gems.ops.{function}: GEMS {function.upper()}\n")
