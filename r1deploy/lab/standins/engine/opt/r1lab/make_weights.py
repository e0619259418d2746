"""Random weights of DeepSeek-V3's architecture, for the r1deploy lab's real engine: `make_weights.py FOLDER`.

A stand-in for DeepSeek-R1: the smallest checkpoint that vLLM's own DeepSeek-V3 code serves (its MLA
takes kv_lora_rank 512 with qk_rope_head_dim 64 only). It has learnt nothing; its answers are noise.
"""

import json
import os
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, PreTrainedTokenizerFast

NOTE = "Random weights of the r1deploy lab: DeepSeek-V3's architecture, nothing learnt."
SPECIAL = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer():
    """Byte-level BPE without a merge: a byte is a token."""
    names = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=SPECIAL[2:],
        model_max_length=8192,
    )
    found.chat_template = TEMPLATE
    return found


def config():
    return DeepseekV3Config(
        vocab_size=320,
        hidden_size=256,
        intermediate_size=512,
        moe_intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        q_lora_rank=128,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=1,
        dtype="bfloat16",
    )


def speak_ascii(model, words):
    """Only printable ASCII can win: the rows of all other tokens in the last layer are zero."""
    printable = [number for text, number in words.get_vocab().items() if len(text) == 1 and "!" <= text <= "~"]
    silent = torch.ones(model.config.vocab_size, dtype=torch.bool)
    silent[printable] = False
    with torch.no_grad():
        model.lm_head.weight[silent] = 0


def add(path, **more):
    with open(path) as stream:
        found = json.load(stream)
    found.update(more)
    with open(path, "w") as stream:
        json.dump(found, stream, indent=2)


def main():
    target = sys.argv[1]
    partial = target + ".partial"
    os.makedirs(partial, exist_ok=True)
    torch.manual_seed(1)
    words = tokenizer()
    model = DeepseekV3ForCausalLM(config()).to(torch.bfloat16)
    speak_ascii(model, words)
    words.save_pretrained(partial)
    model.save_pretrained(partial, max_shard_size="2MB")
    # vLLM needs the first two, which transformers drops; greedy, so that an answer never is empty.
    add(f"{partial}/config.json", topk_method="noaux_tc", scoring_func="sigmoid", _note=NOTE)
    add(f"{partial}/generation_config.json", temperature=0.0)
    for name in os.listdir(partial):
        os.chmod(os.path.join(partial, name), 0o644)
    os.rename(partial, target)


main()
