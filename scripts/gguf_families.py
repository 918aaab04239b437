"""The families that GGUF files are converted from and to: names, shapes and settings on both sides.

What llama.cpp's convert_hf_to_gguf.py does to a family's tensors is undone, or done, here: q and k of
Llama interleaved, 1 added to Gemma's norms, GPT-2's matrices turned over.
"""
import math

import numpy as np


class Refused(Exception):
    """Something about the input that the user has to know; shown as one line."""


GLOBAL = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
ATTENTION = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
}
QKV_BIAS = {f"attn_{x}.bias": f"self_attn.{x}_proj.bias" for x in "qkv"}
QK_NORM = {f"attn_{x}_norm.weight": f"self_attn.{x}_norm.weight" for x in "qk"}
MLP = {f"ffn_{x}.weight": f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")}
ONE_NORM = {"ffn_norm.weight": "post_attention_layernorm.weight"}
TWO_NORMS = {
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
PHI_BLOCK = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_qkv.weight": "self_attn.qkv_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_up.weight": "mlp.gate_up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    **ONE_NORM,
}
GPT2_GLOBAL = {
    "token_embd.weight": "transformer.wte.weight",
    "position_embd.weight": "transformer.wpe.weight",
    "output_norm.weight": "transformer.ln_f.weight",
    "output_norm.bias": "transformer.ln_f.bias",
    "output.weight": "lm_head.weight",
}
GPT2_BLOCK = {
    f"{ours}.{leaf}": f"{theirs}.{leaf}"
    for ours, theirs in {
        "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
    }.items() for leaf in ("weight", "bias")
}


class Family:
    def __init__(self, model_type, architecture, block, names=None, prefix="model.layers.", permuted=False,
                 norm_offset=0, turned=False, optional=None):
        self.model_type, self.architecture = model_type, architecture
        self.names, self.block, self.prefix = names or GLOBAL, block, prefix
        self.permuted, self.norm_offset, self.turned = permuted, norm_offset, turned
        self.optional = optional or {}  # of a block, there in all layers or in none

    def hf_name(self, name):
        """GGUF's name to HF's; None for what the family does not have."""
        if name in self.names:
            return self.names[name]
        parts = name.split(".", 2)
        if len(parts) == 3 and parts[0] == "blk" and parts[1].isdigit():
            inner = (self.block | self.optional).get(parts[2])
            return inner and f"{self.prefix}{int(parts[1])}.{inner}"
        return None

    def gguf_names(self, layers, optional):
        """HF's name to GGUF's, of all tensors with this many layers."""
        names = {hf: ours for ours, hf in self.names.items()}
        for layer in range(layers):
            for ours, hf in (self.block | (self.optional if optional else {})).items():
                names[f"{self.prefix}{layer}.{hf}"] = f"blk.{layer}.{ours}"
        return names

    def to_hf(self, name, weight, dims):
        """A GGUF tensor's values as HF has them."""
        if self.permuted and (heads := dims.heads_of(name)):
            weight = unpermute(weight, heads)
        if self.norm_offset and name.endswith("norm.weight"):
            weight = weight - np.float32(self.norm_offset)
        return weight.T if self.turned and self.is_turned(name) else weight

    def to_gguf(self, name, weight, dims):
        """The way back; `name` is GGUF's."""
        if self.permuted and (heads := dims.heads_of(name)):
            weight = permute(weight, heads)
        if self.norm_offset and name.endswith("norm.weight"):
            weight = weight + np.float32(self.norm_offset)
        return weight.T if self.turned and self.is_turned(name) else weight

    @staticmethod
    def is_turned(name):
        return name.startswith("blk.") and name.endswith(".weight") and "norm" not in name


LLAMA_BIAS = {**QKV_BIAS, "attn_output.bias": "self_attn.o_proj.bias"}
FAMILIES = {
    "llama": Family("llama", "LlamaForCausalLM", ATTENTION | MLP | ONE_NORM, permuted=True, optional=LLAMA_BIAS),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM", ATTENTION | QKV_BIAS | MLP | ONE_NORM),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM", ATTENTION | QK_NORM | MLP | ONE_NORM),
    "gemma2": Family("gemma2", "Gemma2ForCausalLM", ATTENTION | MLP | TWO_NORMS, norm_offset=1),
    "gemma3": Family("gemma3_text", "Gemma3ForCausalLM", ATTENTION | QK_NORM | MLP | TWO_NORMS, norm_offset=1),
    "phi3": Family("phi3", "Phi3ForCausalLM", PHI_BLOCK),
    "gpt2": Family("gpt2", "GPT2LMHeadModel", GPT2_BLOCK, GPT2_GLOBAL, "transformer.h.", turned=True),
}


def unpermute(weight, heads):
    """llama.cpp rotates neighbouring pairs, HF the two halves of a head; its converter interleaves the
    rows of q and k for that (LlamaModel.permute), and this puts them back."""
    shape = weight.shape
    return weight.reshape(heads, shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(shape)


def permute(weight, heads):
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(shape)


class Dims:
    """A model's sizes, out of either side's settings."""

    def __init__(self, hidden, feed_forward, layers, heads, kv_heads, head_dim, vocab, context):
        self.hidden, self.feed_forward, self.layers = hidden, feed_forward, layers
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.vocab, self.context = vocab, context
        for key, value in vars(self).items():
            if not isinstance(value, int) or value <= 0:
                raise Refused(f"{key} is {value!r}, expected a number above 0")
        if heads % kv_heads:
            raise Refused(f"{heads} attention heads are no multiple of {kv_heads} for keys and values")

    def heads_of(self, name):
        """For q and k of Llama: how many heads."""
        part = name.split(".", 2)[-1]
        return {"attn_q": self.heads, "attn_k": self.kv_heads}.get(part.rsplit(".", 1)[0])

    def shape(self, name, gated_up=False):
        """Of a GGUF tensor, as the files have it: rows first, and GPT-2's matrices as [out, in]. `gated_up`:
        ffn_up holds the gate too."""
        h, f, q, kv = self.hidden, self.feed_forward, self.heads * self.head_dim, self.kv_heads * self.head_dim
        part = name.split(".", 2)[-1] if name.startswith("blk.") else name
        matrices = {
            "token_embd": (self.vocab, h), "output": (self.vocab, h), "position_embd": (self.context, h),
            "attn_q": (q, h), "attn_k": (kv, h), "attn_v": (kv, h), "attn_qkv": (q + 2 * kv, h),
            "attn_output": (h, q), "ffn_gate": (f, h), "ffn_up": (2 * f if gated_up else f, h), "ffn_down": (h, f),
        }
        stem, leaf = part.rsplit(".", 1)
        if stem in ("attn_q_norm", "attn_k_norm"):
            return (self.head_dim,)
        if stem not in matrices:
            return (h,)  # a norm
        return matrices[stem] if leaf == "weight" else matrices[stem][:1]


def llama3_frequencies(scaling, theta, head_dim):
    """The factors of Llama 3.1's RoPE scaling (transformers, modeling_rope_utils.py), as rope_freqs.weight."""
    factors = []
    for i in range(0, head_dim, 2):
        turn = 2 * math.pi * theta ** (i / head_dim)
        low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
        high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
        if turn < high:
            factors.append(1.0)
        elif turn > low:
            factors.append(float(scaling["factor"]))
        else:
            smooth = (scaling["original_max_position_embeddings"] / turn - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, dtype=np.float32)
