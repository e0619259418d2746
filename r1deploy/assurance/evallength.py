"""Answers that were cut by length: which ``max_model_len`` it takes, and whether the chips' memory holds it. Pure."""

from __future__ import annotations

from r1deploy.assurance.evalrows import EvalRun, SetName
from r1deploy.planning.shardfindings import Memory

# What R1 was measured with: it may think and answer that long.
THINKING = 32768
# Of DeepSeek's attention a token leaves kv_lora_rank 512 + qk_rope_head_dim 64 numbers in each layer, of 16 bits here.
TOKEN_BYTES = 2 * (512 + 64)


def needed(run: EvalRun, name: SetName) -> tuple[int, int | None]:
    """(tokens of the largest prompt and a whole answer, those of the prompt; None where no endpoint said)."""
    prompts = [score.prompt_tokens for score in run.of(name) if score.prompt_tokens is not None]
    prompt = max(prompts, default=None)
    return THINKING + (prompt or 0), prompt


def too_short(run: EvalRun, name: SetName, memory: Memory | None) -> str:
    """What to do about answers that were cut. In: the chips' memory, None where it is not known."""
    settings = run.settings
    tokens, prompt = needed(run, name)
    asked = f"max_tokens was {settings.max_tokens}"
    holds_it = settings.max_model_len is None or settings.max_model_len >= tokens
    if settings.max_tokens >= THINKING and holds_it:
        return f"{asked}: R1 was measured with {THINKING}, so a longer max_model_len is not known to help"
    if settings.max_model_len is not None and prompt is not None and settings.max_model_len >= tokens:
        return f"{asked}, though max_model_len {settings.max_model_len} holds {THINKING}: ask for more"
    whole = f"{tokens}" if prompt is not None else f"{THINKING} and the prompt's tokens, which are not known"
    parts = f" ({THINKING} + {prompt} of the largest prompt)" if prompt is not None else ""
    return f"it takes engine.max_model_len {whole}{parts}; {asked}. {holds(memory, tokens)}"


def holds(memory: Memory | None, tokens: int) -> str:
    """Whether the memory of the fullest chip holds one sequence of so many tokens, as a sentence."""
    if memory is None or memory.layers is None:
        missing = "the weights' size" if memory is None else "the number of layers"
        return f"Whether the chips' memory holds that is not known: {missing} is missing."
    left, each = memory.room - memory.weights, tokens * memory.layers * TOKEN_BYTES / 2**20
    sum_ = (
        f"{memory.layers} layers × {tokens} × {TOKEN_BYTES} bytes = {each:.0f} MiB of {left:.0f} MiB beside the weights"
    )
    if left < each:
        return f"The chips' memory does not hold that: {sum_} ({memory.said})."
    return (
        f"The chips' memory holds {int(left // each)} such answers at a time by arithmetic: {sum_} ({memory.said}). "
        "What the engine takes for its work is not known, nor whether its cache is larger than MLA's."
    )
