"""Golden values of the decoder: tiny random Llama checkpoints made by transformers, with the logits,
the answer-only loss, every parameter's gradient and a greedy continuation. Writes tests/data/model/.

    python scripts/golden_model.py

Needs torch and transformers.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "model"

VARIANTS = {
    # name: what differs from the common settings
    "tied": dict(tie_word_embeddings=True, head_dim=16),  # heads that packed attention takes
    "untied-llama3": dict(
        tie_word_embeddings=False,
        attention_bias=True,
        mlp_bias=True,
        rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0,
                          high_freq_factor=4.0, original_max_position_embeddings=16),
    ),
    "linear": dict(tie_word_embeddings=True, rope_scaling=dict(rope_type="linear", factor=2.0),
                   num_key_value_heads=4),
}
LENGTHS = [(3, 5), (1, 4), (6, 2), (4, 4), (9, 11)]  # (prompt, answer) tokens of each example


def main():
    for index, (name, extra) in enumerate(VARIANTS.items()):
        torch.manual_seed(index)
        common = dict(vocab_size=67, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                      num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                      rope_theta=10000.0, rms_norm_eps=1e-5, initializer_range=0.15,
                      attn_implementation="eager")
        model = LlamaForCausalLM(LlamaConfig(**{**common, **extra})).float().eval()
        with torch.no_grad():  # norms and biases that are not trivially one and zero
            for key, value in model.named_parameters():
                if value.ndim == 1:
                    value.add_(0.1 * torch.randn_like(value))
        folder = OUT / name
        model.save_pretrained(folder, safe_serialization=True)
        (folder / "generation_config.json").unlink(missing_ok=True)

        examples, tensors, total, count = [], {}, 0.0, 0
        for i, (prompt, answer) in enumerate(LENGTHS):
            ids = torch.randint(0, 67, (prompt + answer,))
            examples.append(dict(prompt=ids[:prompt].tolist(), answer=ids[prompt:].tolist()))
            logits = model(ids[None]).logits[0]
            tensors[f"logits.{i}"] = logits.detach().contiguous()
            logp = logits.log_softmax(-1)[prompt - 1:-1].gather(1, ids[prompt:, None])
            total, count = total - logp.sum(), count + answer
        loss = total / count
        loss.backward()
        tensors["loss"] = loss.detach().reshape(1)
        for key, value in model.named_parameters():
            tensors[f"grad.{key}"] = value.grad.contiguous()
        save_file(tensors, str(folder / "golden.safetensors"))
        for example in examples:
            out = model.generate(torch.tensor([example["prompt"]]), max_new_tokens=8, do_sample=False,
                                 eos_token_id=None, pad_token_id=0)
            example["greedy"] = out[0, len(example["prompt"]):].tolist()
        (folder / "golden.json").write_text(json.dumps(examples) + "\n")
        print(name, "loss", float(loss))


if __name__ == "__main__":
    main()
