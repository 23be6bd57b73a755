"""Makes the small checkpoints in `golden/` with transformers, and the logits that it computes from them. Nothing here is a test.

    python3 -m venv hf && hf/bin/pip install torch==2.13.0 transformers==5.24.0 gguf accelerate
    hf/bin/python tests/pretrained/make_golden.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Every weight is drawn anew and large, biases and norms too: a part that is left out, exchanged or turned the wrong way then changes the logits.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, GPTNeoXConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

GOLDEN = Path(__file__).parent / "golden"
COMMON = dict(
    vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
    rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
LLAMA_3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 5000.0}
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=61, n_embd=24, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2),
    "llama": LlamaConfig(**COMMON, rope_parameters={"rope_type": "default", "rope_theta": 100_000.0}, tie_word_embeddings=True),
    "llama3": LlamaConfig(**COMMON, rope_parameters=LLAMA_3, tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
    "mistral": MistralConfig(**COMMON, head_dim=8, sliding_window=None, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}),
    "qwen2": Qwen2Config(**COMMON, rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**COMMON, head_dim=10, rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}),
    "gemma3": Gemma3TextConfig(
        **COMMON | {"num_hidden_layers": 3}, head_dim=10, sliding_window=32, query_pre_attn_scalar=12,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128, hidden_act="gelu_new",
        use_parallel_residual=False, rope_parameters={"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 1.0}, bos_token_id=1, eos_token_id=2,
    ),
}  # fmt: skip
LENGTHS = (9, 4, 1)


def main():
    for number, (name, config) in enumerate(CONFIGS.items()):
        torch.manual_seed(number)
        config._attn_implementation = "eager"
        model = AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                scale = 0.3 if parameter.ndim > 1 else 0.2
                parameter.add_(torch.randn_like(parameter) * scale)
        folder = GOLDEN / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        random = np.random.default_rng(number)
        tokens = random.integers(3, 61, [len(LENGTHS), max(LENGTHS)])
        mask = np.array([[0] * (max(LENGTHS) - length) + [1] * length for length in LENGTHS])
        tokens = np.where(mask, tokens, 0)
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
        with torch.no_grad():
            logits = model(torch.tensor(tokens), attention_mask=torch.tensor(mask), position_ids=torch.tensor(positions)).logits.numpy()
        logits = np.where(mask[:, :, np.newaxis] > 0, logits, 0.0).astype(np.float32)
        np.savez_compressed(folder / "logits.npz", tokens=tokens.astype(np.int32), mask=mask.astype(np.float32), logits=logits)
        print(name, json.loads((folder / "config.json").read_text())["model_type"], float(np.abs(logits).max()))


def of_smollm2(path):
    """Logits of the real SmolLM2 for two beginnings, every 97th of them."""
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    tokens = np.array([[0, 0, 504, 4771, 436], [504, 4771, 436, 253, 1109]])
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    with torch.no_grad():
        logits = model(torch.tensor(tokens), attention_mask=torch.tensor(mask), position_ids=torch.tensor(positions)).logits.numpy()
    np.savez_compressed(GOLDEN / "smollm2.npz", tokens=tokens.astype(np.int32), mask=mask.astype(np.float32), logits=logits[:, :, ::97])


if __name__ == "__main__":
    main()
    if sys.argv[1:]:
        of_smollm2(Path(sys.argv[1]))
