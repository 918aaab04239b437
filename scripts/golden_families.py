#!/usr/bin/env python3
"""Makes tests/data/families/NAME/: for each model family a tiny checkpoint with random weights, and what
transformers and peft say with it.

    python scripts/golden_families.py [NAME...]       # transformers 4.57.1, peft 0.17.1: all but minimax_m2
    python scripts/golden_families.py minimax_m2      # transformers 5.23.0, peft 0.21.2
    python scripts/golden_families.py --configs       # transformers 5: config_transformers5.json of all
    python scripts/golden_families.py --check         # any version: its logits of the checkpoints against the files

torch 2.11 on a CPU; the same versions write the same bytes. A folder holds

    config.json, model.safetensors   as transformers writes them (or, where it knows no such type, as the makers do)
    config_transformers5.json        the same config as transformers 5 writes it
    adapter/                         a LoRA adapter as peft writes it, on the linear layers of the blocks
    golden.safetensors               ids [n] of three sequences one after the other, lengths [3];
                                     logits [n, vocab], each sequence alone; lora_logits with the adapter;
                                     loss [1], the mean NLL of every next token; grad.NAME of it by stored tensor;
                                     prompt.0, prompt.1, and generated.I [10], generated_logits.I [10, vocab]:
                                     greedy continuation with the cache
"""
import argparse
import functools
import json
import math
import pathlib
import shutil
import tempfile
import zlib

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "families"
LENGTHS = (5, 13, 1)
NEW_TOKENS = 10
VERSION = int(transformers.__version__.split(".")[0])

# Small, and no setting equal to another's default: a wrong epsilon, theta or scale must show.
COMMON = dict(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=0.01, rope_theta=50.0,
              bos_token_id=1, eos_token_id=2, pad_token_id=None, tie_word_embeddings=False)
HEAD_DIM = COMMON | dict(head_dim=8)  # heads * head_dim is not hidden_size
GPT = dict(vocab_size=50, n_positions=64, layer_norm_epsilon=0.01, n_layer=2, bos_token_id=1, eos_token_id=2,
           resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
NEOX = dict(vocab_size=50, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=64, layer_norm_eps=0.01, rotary_emb_base=50, rotary_pct=0.5, bos_token_id=1,
            eos_token_id=2)
LATENT = COMMON | dict(num_attention_heads=2, num_key_value_heads=2, kv_lora_rank=12, qk_nope_head_dim=6,
                       qk_rope_head_dim=4, v_head_dim=10, moe_intermediate_size=8, first_k_dense_replace=1)
YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=4, beta_slow=1, mscale=1.0,
            mscale_all_dim=0.8)
V2_GROUP = LATENT | dict(
    q_lora_rank=10, qk_rope_head_dim=8, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
    routed_scaling_factor=1.5, topk_method="group_limited_greedy", n_group=4, topk_group=2, attention_bias=True,
    max_position_embeddings=256, rope_theta=10.0, rope_scaling=YARN | dict(mscale=0.707, mscale_all_dim=0.5))
V3 = LATENT | dict(
    num_hidden_layers=3, q_lora_rank=10, qk_rope_head_dim=8, n_routed_experts=8, n_shared_experts=1,
    num_experts_per_tok=3, norm_topk_prob=True, routed_scaling_factor=2.5, n_group=2, topk_group=1,
    max_position_embeddings=256, rope_theta=10.0, rope_scaling=YARN)
KIMI = V3 | dict(
    num_hidden_layers=2, n_group=1, routed_scaling_factor=2.827, max_position_embeddings=64,
    rope_scaling=dict(YARN, beta_fast=1.0, original_max_position_embeddings=16, mscale_all_dim=1.0))
QWEN_MOE = HEAD_DIM | dict(num_hidden_layers=3, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=8)
MINIMAX = HEAD_DIM | dict(
    num_hidden_layers=3, layer_types=["linear_attention", "full_attention", "linear_attention"], block_size=4,
    num_local_experts=4, num_experts_per_tok=2, linear_attn_alpha_factor=1.5, linear_attn_beta_factor=0.8,
    full_attn_alpha_factor=1.3, full_attn_beta_factor=0.9, mlp_alpha_factor=1.2, mlp_beta_factor=0.7)

LLAMA_LORA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LATENT_LORA = LLAMA_LORA + ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
MINIMAX_LORA = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "output_gate", "out_proj", "w1", "w2", "w3")

# name: (transformers' model type, settings, layers that take LoRA); besides them MADE_OF_OTHERS below
FAMILIES = {
    "gpt2": ("gpt2", GPT | dict(n_embd=16, n_head=2), ("c_attn", "c_proj", "c_fc")),
    "gpt_neox": ("gpt_neox", NEOX, ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")),
    "gpt_neox_sequential": ("gpt_neox", NEOX | dict(use_parallel_residual=False),
                            ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")),
    "gptj": ("gptj", GPT | dict(n_embd=16, n_head=2, n_inner=40, rotary_dim=4),
             ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")),
    "llama": ("llama", COMMON, LLAMA_LORA),
    "llama3": ("llama", HEAD_DIM | dict(
        rope_theta=10.0, max_position_embeddings=128, tie_word_embeddings=True,
        rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=32)), LLAMA_LORA),
    "llama_linear_bias": ("llama", COMMON | dict(attention_bias=True, mlp_bias=True,
                                                 rope_scaling=dict(rope_type="linear", factor=2.0)), LLAMA_LORA),
    "mistral": ("mistral", HEAD_DIM | dict(sliding_window=4), LLAMA_LORA),
    "qwen2": ("qwen2", COMMON | dict(tie_word_embeddings=True), LLAMA_LORA),
    "qwen2_sliding": ("qwen2", COMMON | dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=4,
                                             max_window_layers=1), LLAMA_LORA),
    "qwen3": ("qwen3", HEAD_DIM | dict(tie_word_embeddings=True), LLAMA_LORA),
    "qwen3_moe": ("qwen3_moe", QWEN_MOE | dict(norm_topk_prob=True, mlp_only_layers=[0]), LLAMA_LORA),
    "qwen3_moe_plain": ("qwen3_moe", QWEN_MOE | dict(norm_topk_prob=False, decoder_sparse_step=2), "all-linear"),
    "gemma2": ("gemma2", HEAD_DIM | dict(
        num_hidden_layers=3, attn_logit_softcapping=3.0, final_logit_softcapping=2.0, sliding_window=4,
        query_pre_attn_scalar=12, tie_word_embeddings=True), LLAMA_LORA),
    "gemma3_text": ("gemma3_text", HEAD_DIM | dict(
        num_hidden_layers=3, sliding_window=4, sliding_window_pattern=2, query_pre_attn_scalar=12,
        rope_theta=500.0, rope_local_base_freq=20.0, rope_scaling=dict(rope_type="linear", factor=2.0),
        tie_word_embeddings=True), LLAMA_LORA),
    "phi3": ("phi3", COMMON | dict(num_attention_heads=2, num_key_value_heads=1, partial_rotary_factor=0.75, sliding_window=6),
             ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "phi3_longrope": ("phi3", COMMON | dict(
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32, original_max_position_embeddings=8,
        rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1, 1.3, 1.6], long_factor=[1.2, 1.9, 2.8, 3.7])),
        ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "deepseek_v2": ("deepseek_v2", LATENT | dict(
        q_lora_rank=None, n_routed_experts=4, n_shared_experts=2, num_experts_per_tok=2, routed_scaling_factor=1.7,
        topk_method="greedy"), LATENT_LORA),
    "deepseek_v2_group": ("deepseek_v2", V2_GROUP, LATENT_LORA),
    "deepseek_v3": ("deepseek_v3", V3, LATENT_LORA),
    "kimi_k2": ("deepseek_v3", KIMI, LATENT_LORA),
    "minimax": ("minimax", MINIMAX, MINIMAX_LORA),
    "minimax_m1": ("minimax", MINIMAX | dict(partial_rotary_factor=0.5), MINIMAX_LORA),
    "minimax_m2": ("minimax_m2", HEAD_DIM | dict(num_local_experts=6, num_experts_per_tok=2, rotary_dim=4),
                   ("q_proj", "k_proj", "v_proj", "o_proj")),
    "pangu_embedded": ("llama", COMMON | dict(attention_bias=True), LLAMA_LORA),
    "pangu_pro_moe": ("llama", COMMON | dict(attention_bias=True, num_hidden_layers=3), LLAMA_LORA),
    "pangu_ultra_moe": ("deepseek_v3", V3 | dict(n_group=1, rope_scaling=None), LATENT_LORA),
}
NEEDS_5 = {"minimax_m2"}


# What transformers 4.57.1 computes otherwise than the makers' own modeling files (and, but for MiniMax's rotary_dim,
# than transformers 5).

def expert_choice(router, scores):
    """DeepSeek-V3's choice of experts: those outside the best groups at -inf, where 4.57.1 has 0."""
    choice = scores.view(-1, router.n_routed_experts) + router.e_score_correction_bias
    groups = choice.view(len(choice), router.n_group, -1)
    best = groups.topk(2, dim=-1)[0].sum(-1).topk(router.topk_group, dim=-1)[1]
    closed = torch.ones_like(groups, dtype=torch.bool).scatter_(
        1, best[:, :, None].expand(-1, -1, groups.shape[-1]), False)
    return groups.masked_fill(closed, -math.inf).flatten(1).topk(router.top_k, dim=-1, sorted=False)[1]


def repair_deepseek(model):
    config = model.config
    for layer in model.model.layers:
        if config.model_type == "deepseek_v2" and config.rope_scaling is not None:
            mscale = 0.1 * config.rope_scaling["mscale_all_dim"] * math.log(config.rope_scaling["factor"]) + 1.0
            layer.self_attn.scaling *= mscale * mscale
        if config.model_type == "deepseek_v3" and hasattr(layer.mlp, "gate"):
            layer.mlp.gate.get_topk_indices = torch.no_grad()(functools.partial(expert_choice, layer.mlp.gate))


def partial_rotary(q, k, cos, sin, position_ids=None, unsqueeze_dim=1):
    """MiniMax's own: only the first rotary_dim of a head turn."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    width = cos.shape[-1]

    def turn(x):
        a, b = x[..., :width].chunk(2, dim=-1)
        return torch.cat([x[..., :width] * cos + torch.cat([-b, a], dim=-1) * sin, x[..., width:]], dim=-1)

    return turn(q), turn(k)


# openPangu, after the modeling files that Huawei publishes with the weights.

class PanguProMoE(nn.Module):
    """Mixture of grouped experts: softmax over all, the best one of each group, times its router_scale."""

    def __init__(self, config, experts=6, chosen=3, width=8, shared_width=12):
        super().__init__()
        self.chosen = chosen
        self.gate = nn.Linear(config.hidden_size, experts, bias=False)
        self.router_scale = nn.Parameter(torch.ones(1, experts))
        mlp = transformers.models.llama.modeling_llama.LlamaMLP
        small = type(config)(**{**config.to_dict(), "intermediate_size": width})
        self.experts = nn.ModuleList([mlp(small) for _ in range(experts)])
        self.shared_expert = mlp(type(config)(**{**config.to_dict(), "intermediate_size": shared_width}))

    def forward(self, x):
        scores = self.gate(x).float().softmax(-1).unflatten(-1, (self.chosen, -1))
        weight, best = scores.max(-1)
        expert = best + torch.arange(self.chosen) * scores.shape[-1]
        weight = weight * self.router_scale[0][expert]
        every = torch.stack([e(x) for e in self.experts], dim=-2)
        picked = every.gather(-2, expert[..., None].expand(*expert.shape, x.shape[-1]))
        return (picked * weight[..., None]).sum(-2) + self.shared_expert(x)


def sandwich(layer, config):
    """openPangu-Ultra's block: a norm before and one after each half."""
    norm = type(layer.input_layernorm)
    layer.pre_mlp_layernorm = norm(config.hidden_size, eps=config.rms_norm_eps)
    layer.post_mlp_layernorm = norm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(hidden_states, **kwargs):
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + layer.post_attention_layernorm(attended)
        return hidden_states + layer.post_mlp_layernorm(layer.mlp(layer.pre_mlp_layernorm(hidden_states)))

    layer.forward = forward


def make(name):
    """The model of a family in fp32 and eager attention, not yet filled."""
    kind, settings, _ = FAMILIES[name]
    config = AutoConfig.for_model(kind, **json.loads(json.dumps(settings)))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    modeling = getattr(transformers.models, kind, None)
    if kind.startswith("deepseek") and VERSION < 5:
        repair_deepseek(model)
    if kind == "minimax":
        whole = getattr(modeling.modeling_minimax, "whole_rotary", modeling.modeling_minimax.apply_rotary_pos_emb)
        modeling.modeling_minimax.whole_rotary = whole
        modeling.modeling_minimax.apply_rotary_pos_emb = partial_rotary if name == "minimax_m1" else whole
    if name == "pangu_pro_moe":
        for layer in list(model.model.layers)[1:]:
            layer.mlp = PanguProMoE(config)
    if name == "pangu_ultra_moe":
        for layer in model.model.layers:
            sandwich(layer, config)
            if hasattr(layer.mlp, "gate"):
                del layer.mlp.gate.e_score_correction_bias
                layer.mlp.gate.e_score_correction_bias = 0.0
    return model


@torch.no_grad()
def fill(model, draw):
    """Random weights with activations of order one; biases and norms away from 0 and 1."""
    def normal(tensor, std, mean=0.0):
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=draw))

    for name, tensor in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        kind = type(owner).__name__
        if isinstance(owner, nn.Embedding):  # a tied one is the head too; Gemma multiplies by sqrt(hidden_size)
            normal(tensor, 1.2 / math.sqrt(tensor.shape[1]) if model.config.tie_word_embeddings else 1.0)
        elif name.endswith("router_scale"):
            normal(tensor, 0.3, 1.0)
        elif "Norm" in kind and name.endswith("weight"):
            normal(tensor, 0.3, 0.0 if kind.startswith("Gemma") else 1.0)
        elif tensor.ndim == 1:
            normal(tensor, 0.3)
        else:
            inputs = tensor.shape[0] if kind == "Conv1D" else tensor.shape[-1]
            routes = name.endswith("gate.weight") or "Router" in kind
            normal(tensor, (2.0 if routes else 1.3) / math.sqrt(inputs))
    for name, tensor in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            normal(tensor, 0.3)


def sequences(ids):
    return [part[None] for part in ids.split(LENGTHS)]


def logits_of(model, ids):
    return torch.cat([model(input_ids=part, use_cache=False).logits[0] for part in sequences(ids)])


@torch.no_grad()
def generate(model, prompt, cached):
    out = model.generate(prompt[None], attention_mask=torch.ones_like(prompt)[None], max_new_tokens=NEW_TOKENS,
                         min_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0,
                         use_cache=cached, return_dict_in_generate=True, output_logits=True)
    logits = torch.cat(out.logits)
    again = torch.stack([model(input_ids=out.sequences[:, :len(prompt) + i], use_cache=False).logits[0, -1]
                         for i in range(NEW_TOKENS)])
    assert (logits - again).abs().max() < 2e-4, (logits - again).abs().max()  # the cache changes nothing
    best = logits.topk(2, dim=-1)[0]
    return out.sequences[0, len(prompt):], logits, float((best[:, 0] - best[:, 1]).min())


@torch.no_grad()
def steady(model, texts, draw):
    """Whether a change of 1e-4 changes next to nothing: no choice of an expert is a near tie."""
    before = [model(input_ids=text, use_cache=False).logits for text in texts]
    table = model.get_input_embeddings().weight
    kept = table.clone()
    table.mul_(1 + 1e-4 * torch.randn(table.shape, generator=draw))
    moved = max((model(input_ids=text, use_cache=False).logits - a).abs().max() for text, a in zip(texts, before))
    table.copy_(kept)
    return moved < 1e-2


def stored(model, folder):
    """Saves as transformers does; the stored tensors."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return load_file(str(folder / "model.safetensors"))


def gradients(model):
    """The gradient of every stored tensor that is a parameter: saved in the weights' place, so that their names and
    layout on disk are theirs."""
    buffers = {name for name, _ in model.named_buffers()}
    kept = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for p in model.parameters():
            p.copy_(torch.zeros_like(p) if p.grad is None else p.grad)
        saved = stored(model, pathlib.Path(folder))
        for p, value in zip(model.parameters(), kept):
            p.copy_(value)
    return {f"grad.{k}": v for k, v in saved.items()
            if k not in buffers and not k.endswith("e_score_correction_bias")}


def write_json(path, value, sort=True):
    path.write_text(json.dumps(value, indent=2, sort_keys=sort) + "\n")


def adapt(model, targets, folder, ids, draw):
    from peft import LoraConfig, get_peft_model
    adapted = get_peft_model(model, LoraConfig(
        r=3, lora_alpha=5, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
        target_modules=targets if isinstance(targets, str) else list(targets),
        fan_in_fan_out=model.config.model_type == "gpt2"))
    with torch.no_grad():
        for key, value in adapted.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn(value.shape, generator=draw) *
                            (1 / math.sqrt(value.shape[-1]) if "lora_A" in key else 0.3))
        said = logits_of(adapted, ids)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])  # a set: its order is not fixed
    write_json(folder / "adapter_config.json", config)
    return said


def makers_config(name, config, folder):
    """config.json of families that transformers does not know by their own name."""
    drop = {"_name_or_path"}
    if name == "kimi_k2":
        config |= dict(model_type="kimi_k2", scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1,
                       aux_loss_alpha=0.001, seq_aux=True, ep_size=1, num_nextn_predict_layers=0, auto_map=dict(
                           AutoConfig="configuration_deepseek.DeepseekV3Config",
                           AutoModel="modeling_deepseek.DeepseekV3Model",
                           AutoModelForCausalLM="modeling_deepseek.DeepseekV3ForCausalLM"))
        config["rope_scaling"].pop("rope_type")
        drop |= {"head_dim", "qk_head_dim", "rope_interleave"}
    if name == "minimax_m1":
        config |= dict(model_type="minimax_m1", architectures=["MiniMaxM1ForCausalLM"], postnorm=True,
                       attn_type_list=[int(t == "full_attention") for t in config["layer_types"]],
                       rotary_dim=int(config["head_dim"] * config["partial_rotary_factor"]),
                       shared_intermediate_size=0, shared_moe_mode="sigmoid")
        for mine, theirs in (("linear_attn", "linear_attention"), ("full_attn", "full_attention"), ("mlp", "mlp")):
            for factor in ("alpha", "beta"):
                config[f"layernorm_{theirs}_{factor}"] = config.pop(f"{mine}_{factor}_factor")
        drop |= {"layer_types", "partial_rotary_factor", "block_size"}
    if name == "minimax_m2":
        config |= dict(rope_theta=config["rope_parameters"]["rope_theta"], scoring_func="sigmoid", use_qk_norm=True,
                       qk_norm_type="per_layer", use_routing_bias=True, use_mtp=True, num_mtp_modules=3,
                       mtp_transformer_layers=1, shared_intermediate_size=0,
                       attn_type_list=[1] * config["num_hidden_layers"])
        drop |= {"rope_parameters"}
    if name.startswith("pangu"):
        drop |= {"head_dim", "pretraining_tp", "rope_scaling", "mlp_bias", "attention_bias"}
    if name == "pangu_embedded":
        config |= dict(model_type="PanguEmbedded", architectures=["PanguEmbeddedForCausalLM"], bias=True)
    if name == "pangu_pro_moe":
        config |= dict(model_type="PanguProMoE", architectures=["PanguProMoEForCausalLM"], num_experts=6,
                       num_experts_per_tok=3, moe_intermediate_size=8, shared_expert_intermediate_size=12,
                       mlp_only_layers=[0])
    if name == "pangu_ultra_moe":
        config |= dict(model_type="pangu_ultra_moe", architectures=["PanguUltraMoEForCausalLM"], sandwich_norm=True,
                       num_mtp_layers=0)
        for mine, theirs in (("kv_lora_rank", "attention_kv_lora_dim"), ("q_lora_rank", "attention_q_lora_dim"),
                             ("qk_rope_head_dim", "attention_qk_rope_dim"), ("v_head_dim", "attention_v_dim"),
                             ("qk_nope_head_dim", "attention_qk_dim"), ("n_routed_experts", "num_routed_experts"),
                             ("n_shared_experts", "num_shared_experts"), ("first_k_dense_replace", "num_dense_layers")):
            config[theirs] = config.pop(mine)
        drop |= {"n_group", "topk_group", "qk_head_dim", "rope_interleave"}
    write_json(folder / "config.json", {k: v for k, v in config.items() if k not in drop})


def add_prediction_layer(model, tensors, draw):
    """DeepSeek-V3's multi-token prediction layer, which follows the last one and transformers ignores."""
    last, d = model.config.num_hidden_layers, model.config.hidden_size
    extra = {k.replace(f"layers.{last - 1}.", f"layers.{last}."): v.clone() for k, v in tensors.items()
             if f"layers.{last - 1}." in k and ".experts." not in k}
    shapes = dict(enorm=(d,), hnorm=(d,), eh_proj=(d, 2 * d), embed_tokens=(model.config.vocab_size, d))
    shapes |= {"shared_head.norm": (d,), "shared_head.head": (model.config.vocab_size, d)}
    extra |= {f"model.layers.{last}.{k}.weight": torch.randn(shape, generator=draw) for k, shape in shapes.items()}
    return tensors | extra


def golden(name):
    for attempt in range(20):  # until no choice, of a token or an expert, is a near tie
        draw = torch.Generator().manual_seed(zlib.crc32(name.encode()) + attempt)
        model = make(name)
        fill(model, draw)
        ids = torch.randint(0, 50, (sum(LENGTHS),), generator=draw)
        prompts = [sequences(ids)[0][0], sequences(ids)[1][0, :7]]
        # 4.57.1 masks wrongly where longrope's other factors begin and the cache is made anew.
        made = [generate(model, prompt, cached=name != "phi3_longrope") for prompt in prompts]
        texts = sequences(ids) + [torch.cat([p, new])[None] for p, (new, *_) in zip(prompts, made)]
        if min(margin for *_, margin in made) > 5e-3 and steady(model, texts, draw):
            break
    else:
        raise RuntimeError(f"{name}: every draw has near ties")
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    tensors = stored(model, folder)
    config = json.loads((folder / "config.json").read_text())
    if name == "deepseek_v3":
        config["num_nextn_predict_layers"] = 1
        tensors = add_prediction_layer(model, tensors, draw)
        save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    makers_config(name, config, folder)

    out = dict(ids=ids, lengths=torch.tensor(LENGTHS))
    logits = logits_of(model, ids)
    nll = [-part[:-1].log_softmax(-1).gather(1, own[0, 1:, None])
           for part, own in zip(logits.split(LENGTHS), sequences(ids))]
    loss = torch.cat(nll).mean()
    loss.backward()
    out |= dict(logits=logits.detach(), loss=loss.detach()[None]) | gradients(model)
    for i, (prompt, (tokens, step_logits, _)) in enumerate(zip(prompts, made)):
        out |= {f"prompt.{i}": prompt, f"generated.{i}": tokens, f"generated_logits.{i}": step_logits}
    out["lora_logits"] = adapt(model, FAMILIES[name][2], folder / "adapter", ids, draw)
    moved = (out["lora_logits"] - out["logits"]).abs().max()
    save_file({k: v.clone() for k, v in out.items()}, str(folder / "golden.safetensors"))
    print(f"{name}: loss {float(loss):.3f}, logits {float(logits.std()):.2f}, adapter {float(moved):.2f}, "
          f"draw {attempt}, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())} bytes")


def golden_fp8():
    """deepseek_v3 with its linear layers in fp8 blocks; golden: the logits of what they stand for."""
    source, folder, block = OUT / "deepseek_v3", OUT / "deepseek_v3_fp8", 8
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8",
                                         weight_block_size=[block, block])
    config["num_nextn_predict_layers"] = 0
    write_json(folder / "config.json", config)
    model = make("deepseek_v3")
    weights, packed = {}, {}
    for name, tensor in load_file(str(source / "model.safetensors")).items():
        if f"layers.{config['num_hidden_layers']}." in name:
            continue
        if not name.endswith("_proj.weight") and "kv_a_proj_with_mqa" not in name:
            weights[name] = packed[name] = tensor
            continue
        rows, columns = tensor.shape
        tensor = tensor * torch.linspace(0.5, 1.5, rows)[:, None]  # so that the blocks' scales differ
        spread = nn.functional.pad(tensor, (0, -columns % block, 0, -rows % block))
        scale = spread.unflatten(0, (-1, block)).unflatten(-1, (-1, block)).abs().amax((1, 3)) / 448
        by_weight = scale.repeat_interleave(block, 0).repeat_interleave(block, 1)[:rows, :columns]
        packed[name] = (tensor / by_weight).to(torch.float8_e4m3fn)
        packed[name + "_scale_inv"] = scale
        weights[name] = packed[name].float() * by_weight
    save_file(packed, str(folder / "model.safetensors"), metadata={"format": "pt"})
    model.load_state_dict(weights)
    given = load_file(str(source / "golden.safetensors"))
    with torch.no_grad():
        logits = logits_of(model, given["ids"])
    save_file(dict(ids=given["ids"], lengths=given["lengths"], logits=logits), str(folder / "golden.safetensors"))
    print("deepseek_v3_fp8:", float((logits - given["logits"]).abs().max()), "from deepseek_v3")


def golden_gpt2_bare():
    """gpt2 as the first files are named: without prefix, with the causal masks."""
    source, folder = OUT / "gpt2", OUT / "gpt2_bare"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    n = config["n_positions"]
    write_json(folder / "config.json", config | dict(n_ctx=n))
    weights = {k.removeprefix("transformer."): v for k, v in load_file(str(source / "model.safetensors")).items()}
    masks = {f"h.{i}.attn.bias": torch.ones(n, n).tril()[None, None] for i in range(config["n_layer"])}
    save_file(weights | masks, str(folder / "model.safetensors"), metadata={"format": "pt"})
    given = load_file(str(source / "golden.safetensors"))
    save_file({k: given[k] for k in ("ids", "lengths", "logits")}, str(folder / "golden.safetensors"))
    print("gpt2_bare")


MADE_OF_OTHERS = {"deepseek_v3_fp8": golden_fp8, "gpt2_bare": golden_gpt2_bare}
SOURCE = {"deepseek_v3_fp8": "deepseek_v3", "gpt2_bare": "gpt2"}


def own_kind(folder):
    """The model type that transformers knows a family by, and whether config.json says so."""
    kind = FAMILIES[SOURCE.get(folder.name, folder.name)][0]
    return kind, json.loads((folder / "config.json").read_text())["model_type"] == kind


def loaded(folder):
    """The checkpoint of a folder in this version of transformers; where it does not know the makers' model type, the
    weights in what it calls the same. ValueError where it cannot."""
    kind, known = own_kind(folder)
    if VERSION < 5 and folder.name in NEEDS_5 or VERSION >= 5 and not known:
        raise ValueError(f"transformers {transformers.__version__} has no {folder.name}")
    if known:
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        if kind.startswith("deepseek") and VERSION < 5:
            repair_deepseek(model)
        return model
    model = make(folder.name)
    model.load_state_dict(functools.reduce(
        dict.__or__, (load_file(str(f)) for f in sorted(folder.glob("model*.safetensors")))))
    return model


def check():
    for folder in sorted(f for f in OUT.iterdir() if f.is_dir() and f.name != "deepseek_v3_fp8"):
        given = load_file(str(folder / "golden.safetensors"))
        try:
            with torch.no_grad():
                logits = logits_of(loaded(folder), given["ids"])
            print(f"{folder.name}: {float((logits - given['logits']).abs().max()):.1e}")
        except ValueError as error:
            print(error)


def write_configs():
    for folder in sorted(f for f in OUT.iterdir() if f.name in FAMILIES and own_kind(f)[1]):
        with tempfile.TemporaryDirectory() as scratch:
            AutoConfig.from_pretrained(folder).save_pretrained(scratch)
            config = json.loads((pathlib.Path(scratch) / "config.json").read_text())
        write_json(folder / "config_transformers5.json", config | dict(dtype="float32"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="families; all that this transformers can make without")
    parser.add_argument("--configs", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.check:
        return check()
    if options.configs:
        return write_configs()
    known = [n for n in FAMILIES if (n in NEEDS_5) == (VERSION >= 5)]
    for name in options.names or known + list(MADE_OF_OTHERS) * (VERSION < 5):
        if name in MADE_OF_OTHERS:
            MADE_OF_OTHERS[name]()
        else:
            golden(name)


if __name__ == "__main__":
    main()
