"""config.json out of a GGUF file's metadata, and the metadata out of config.json."""
import math

import numpy as np

from gguf_families import FAMILIES, Dims, Refused, llama3_frequencies


def shortest(value):
    """1e-05 instead of 9.999999747378752e-06: the decimal number that the float32 was made from."""
    return float(str(np.float32(value)))


# ---- from GGUF

def dims_of_gguf(source, arch):
    hidden, heads = source.need(f"{arch}.embedding_length"), source.need(f"{arch}.attention.head_count")
    for key in ("head_count", "head_count_kv"):
        if isinstance(source.get(f"{arch}.attention.{key}"), list):
            raise Refused(f"{source.path}: {arch}.attention.{key} differs between layers, which is not implemented")
    if not isinstance(heads, int) or heads <= 0:
        raise Refused(f"{source.path}: {arch}.attention.head_count is {heads!r}")
    if source.need(f"{arch}.block_count") > len(source.tensors):
        raise Refused(f"{source.path}: {arch}.block_count is {source.get(f'{arch}.block_count')}, for "
                      f"{len(source.tensors)} tensors")
    try:
        return Dims(
            hidden, source.need(f"{arch}.feed_forward_length"), source.need(f"{arch}.block_count"), heads,
            source.get(f"{arch}.attention.head_count_kv", heads),
            source.get(f"{arch}.attention.key_length", hidden // heads),
            source.get(f"{arch}.vocab_size", len(source.need("tokenizer.ggml.tokens"))),
            source.need(f"{arch}.context_length"))
    except Refused as e:
        raise Refused(f"{source.path}: {e}") from e


def llama3_scaling(source, dims, theta):
    """Llama 3.1's settings are not in the metadata; the factors that they give are."""
    stored = np.asarray(source.tensors["rope_freqs.weight"].data, dtype=np.float32).reshape(-1)
    for original in (8192,):
        for factor in (8.0, 32.0, 4.0, 16.0):
            scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": original}
            expected = llama3_frequencies(scaling, theta, dims.head_dim)
            if stored.shape == expected.shape and np.allclose(stored, expected, rtol=1e-5):
                return scaling
    raise Refused(f"{source.path}: rope_freqs.weight is not Llama 3.1's RoPE scaling with a known factor")


def rope_scaling(source, arch, dims, theta):
    if arch == "llama" and "rope_freqs.weight" in source.tensors:
        return llama3_scaling(source, dims, theta)
    if "rope_factors_long.weight" in source.tensors:
        return {"type": "longrope"} | {
            f"{which}_factor": [shortest(x) for x in np.asarray(source.tensors[f"rope_factors_{which}.weight"].data)]
            for which in ("long", "short")}
    kind = source.get(f"{arch}.rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise Refused(f"{source.path}: RoPE scaling '{kind}' is not implemented for GGUF input")
    scaling = {"rope_type": kind, "factor": shortest(source.need(f"{arch}.rope.scaling.factor"))}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = source.need(f"{arch}.rope.scaling.original_context_length")
    return scaling


def model_config(source, dtype):
    """(family, sizes, config.json) of a GGUF file."""
    arch = source.need("general.architecture")
    if arch not in FAMILIES:
        raise Refused(f"{source.path}: architecture '{arch}' is not implemented; known: {', '.join(FAMILIES)}")
    if source.get(f"{arch}.expert_count", 0):
        raise Refused(f"{source.path}: mixtures of experts are not implemented")
    family, dims = FAMILIES[arch], dims_of_gguf(source, arch)
    token = {key: source.get(f"tokenizer.ggml.{name}_token_id")
             for key, name in (("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding"))}
    head = source.tensors.get("output.weight")
    embedding = source.tensors.get("token_embd.weight")
    # GPT-2's and others' files repeat a tied head.
    tied = head is None or (embedding is not None and head.tensor_type == embedding.tensor_type
                            and np.array_equal(head.data, embedding.data))
    config = {"architectures": [family.architecture], "model_type": family.model_type, **token,
              "tie_word_embeddings": tied, "torch_dtype": dtype, "use_cache": True, "vocab_size": dims.vocab}
    if arch == "gpt2":
        return family, dims, config | {
            "activation_function": "gelu_new", "n_ctx": dims.context, "n_embd": dims.hidden, "n_head": dims.heads,
            "n_inner": dims.feed_forward, "n_layer": dims.layers, "n_positions": dims.context,
            "layer_norm_epsilon": shortest(source.need("gpt2.attention.layer_norm_epsilon"))}
    rotated = source.get(f"{arch}.rope.dimension_count", dims.head_dim)
    if rotated != dims.head_dim and arch != "phi3":
        raise Refused(f"{source.path}: RoPE on {rotated} of {dims.head_dim} dimensions is not implemented")
    theta = shortest(source.get(f"{arch}.rope.freq_base", 1e6 if arch == "gemma3" else 1e4))
    config |= {
        "attention_bias": False, "attention_dropout": 0.0, "head_dim": dims.head_dim, "hidden_size": dims.hidden,
        "initializer_range": 0.02, "intermediate_size": dims.feed_forward, "max_position_embeddings": dims.context,
        "num_attention_heads": dims.heads, "num_hidden_layers": dims.layers, "num_key_value_heads": dims.kv_heads,
        "rms_norm_eps": shortest(source.need(f"{arch}.attention.layer_norm_rms_epsilon")), "rope_theta": theta,
        "rope_scaling": rope_scaling(source, arch, dims, theta)}
    if arch.startswith("gemma"):
        # 27B models scale by the width of a head's share, the others by a head's size.
        whole = (arch, dims.layers) in (("gemma2", 46), ("gemma3", 62))
        config |= {"hidden_activation": "gelu_pytorch_tanh",
                   "query_pre_attn_scalar": dims.hidden // dims.heads if whole else dims.head_dim,
                   "sliding_window": source.get(f"{arch}.attention.sliding_window", 4096),
                   "layer_types": layer_types(source, arch, dims)}
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            value = source.get(f"{arch}.{key}")
            config[key] = None if value is None else shortest(value)
        if arch == "gemma3":
            config["rope_local_base_freq"] = shortest(source.get("gemma3.rope.freq_base_swa", 1e4))
    else:
        config["hidden_act"] = "silu"
    if arch == "llama":
        config |= {"attention_bias": "blk.0.attn_q.bias" in source.tensors, "mlp_bias": False, "pretraining_tp": 1}
    if arch == "qwen2":
        config["use_sliding_window"] = False
        del config["attention_bias"]
    if arch == "phi3":
        config |= {"sliding_window": source.get("phi3.attention.sliding_window", 0) or None,
                   "partial_rotary_factor": rotated / dims.head_dim,
                   "original_max_position_embeddings": source.get("phi3.rope.scaling.original_context_length",
                                                                  dims.context)}
        del config["attention_bias"], config["head_dim"]
    return family, dims, config


def layer_types(source, arch, dims):
    pattern = source.get(f"{arch}.attention.sliding_window_pattern", 2 if arch == "gemma2" else 6)
    if isinstance(pattern, int) and pattern > 0:
        pattern = [(layer + 1) % pattern != 0 for layer in range(dims.layers)]
    if not isinstance(pattern, list) or len(pattern) != dims.layers:
        raise Refused(f"{source.path}: {arch}.attention.sliding_window_pattern does not fit {dims.layers} layers")
    return ["sliding_attention" if sliding else "full_attention" for sliding in pattern]


# ---- to GGUF

def dims_of_hf(config):
    if config["model_type"] == "gpt2":
        heads = config["n_head"]
        return Dims(config["n_embd"], config.get("n_inner") or 4 * config["n_embd"], config["n_layer"], heads, heads,
                    config["n_embd"] // heads, config["vocab_size"], config["n_positions"])
    heads = config["num_attention_heads"]
    return Dims(config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"], heads,
                config.get("num_key_value_heads") or heads,
                config.get("head_dim") or config["hidden_size"] // heads, config["vocab_size"],
                config["max_position_embeddings"])


def rope_settings(config):
    """(theta, the local theta, scaling or None); transformers 5 keeps them in rope_parameters."""
    parameters = config.get("rope_parameters") or {}
    local = parameters.get("sliding_attention") or {}
    parameters = parameters.get("full_attention", parameters)
    theta = config.get("rope_theta") or parameters.get("rope_theta") or 10000.0
    scaling = config.get("rope_scaling") or parameters
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    return (theta, config.get("rope_local_base_freq") or local.get("rope_theta"),
            None if kind == "default" else scaling | {"rope_type": "longrope" if kind == "su" else kind})


def metadata(config):
    """(architecture, sizes, {key: value}, extra tensors) for a config.json. Keys lack the architecture; floats
    are float32, whole numbers uint32."""
    arch = next((name for name, f in FAMILIES.items()
                 if f.model_type == config.get("model_type") and f.architecture in config.get("architectures", [])), None)
    if arch is None:
        known = ", ".join(f.architecture for f in FAMILIES.values())
        raise Refused(f"architecture {config.get('architectures')} is not written as GGUF; known: {known}")
    try:
        dims = dims_of_hf(config)
    except KeyError as e:
        raise Refused(f"config.json: {e} is missing") from e
    keys = {"context_length": dims.context, "embedding_length": dims.hidden, "block_count": dims.layers,
            "feed_forward_length": dims.feed_forward, "attention.head_count": dims.heads}
    if arch == "gpt2":
        return arch, dims, keys | {"attention.layer_norm_epsilon": float(config["layer_norm_epsilon"])}, {}
    theta, local, scaling = rope_settings(config)
    keys |= {"attention.head_count_kv": dims.kv_heads, "vocab_size": dims.vocab, "rope.freq_base": float(theta),
             "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"])}
    if arch != "phi3":
        keys |= {"attention.key_length": dims.head_dim, "attention.value_length": dims.head_dim}
    rotated = int(dims.head_dim * config.get("partial_rotary_factor", 1)) if arch == "phi3" else dims.head_dim
    if arch in ("llama", "phi3"):
        keys["rope.dimension_count"] = rotated
    if config.get("sliding_window") and arch in ("gemma2", "gemma3", "phi3"):
        keys["attention.sliding_window"] = config["sliding_window"]
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key):
            keys[key] = float(config[key])
    if arch == "gemma3":
        keys["rope.freq_base_swa"] = float(local or 1e4)
    if arch.startswith("gemma"):
        default = 2 if arch == "gemma2" else 6
        types = config.get("layer_types") or ["sliding_attention" if (i + 1) % default else "full_attention"
                                              for i in range(dims.layers)]
        if types != ["sliding_attention" if (i + 1) % default else "full_attention" for i in range(dims.layers)]:
            keys["attention.sliding_window_pattern"] = [t == "sliding_attention" for t in types]
    extra = {}
    kind = scaling and scaling["rope_type"]
    if kind == "llama3" and arch == "llama":
        extra["rope_freqs.weight"] = llama3_frequencies(scaling, theta, dims.head_dim)
    elif kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": kind, "rope.scaling.factor": float(scaling["factor"])}
        if kind == "yarn":
            keys["rope.scaling.original_context_length"] = scaling["original_max_position_embeddings"]
    elif kind == "longrope" and arch == "phi3":
        for which in ("long", "short"):
            extra[f"rope_factors_{which}.weight"] = np.array(scaling[f"{which}_factor"], dtype=np.float32)
        ratio = dims.context / config["original_max_position_embeddings"]
        keys["rope.scaling.attn_factor"] = (
            math.sqrt(1 + math.log(ratio) / math.log(config["original_max_position_embeddings"])) if ratio > 1 else 1.0)
    elif kind:
        raise Refused(f"RoPE scaling '{kind}' is not written as GGUF for {arch}")
    if arch == "phi3":
        keys["rope.scaling.original_context_length"] = config.get("original_max_position_embeddings", dims.context)
    return arch, dims, keys, extra
