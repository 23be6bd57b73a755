"""Makes a random checkpoint of the shape of Llama 3.2 1B, in bfloat16, 2.5 GB: for `ppo-keras bench text`. Not a test.

python tests/pretrained/make_random.py FOLDER TOKENIZER   (TOKENIZER: a folder with a tokenizer.json of at most 128,256 pieces)
"""

import json
import math
import shutil
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

WIDTH, LAYERS, HEADS, KEY_HEADS, HEAD, MLP, VOCABULARY = 2048, 16, 32, 8, 64, 8192, 128_256
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS, "head_dim": HEAD, "intermediate_size": MLP, "hidden_act": "silu",
    "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
    "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}  # fmt: skip


def shapes():
    """{name: shape} of all tensors."""
    of_block = {
        "input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,), "self_attn.q_proj": (HEADS * HEAD, WIDTH),
        "self_attn.k_proj": (KEY_HEADS * HEAD, WIDTH), "self_attn.v_proj": (KEY_HEADS * HEAD, WIDTH), "self_attn.o_proj": (WIDTH, HEADS * HEAD),
        "mlp.gate_proj": (MLP, WIDTH), "mlp.up_proj": (MLP, WIDTH), "mlp.down_proj": (WIDTH, MLP),
    }  # fmt: skip
    blocks = {f"model.layers.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in of_block.items()}
    return {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)} | blocks


def write(folder, random):
    """Writes model.safetensors, one tensor in memory at a time: a header in JSON behind its length, then the numbers."""
    header, end = {}, 0
    for name, shape in shapes().items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes().values():
            values = np.ones(shape, np.float32) if len(shape) == 1 else random.standard_normal(shape, np.float32) * np.float32(0.02)
            file.write(values.astype(ml_dtypes.bfloat16).tobytes())


def main(folder, tokenizer):
    folder = Path(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for path in Path(tokenizer).glob("tokenizer*.json"):
        shutil.copy(path, folder)
    write(folder, np.random.default_rng(0))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"2 arguments are expected, but {len(sys.argv) - 1} were given. Use: python {sys.argv[0]} FOLDER TOKENIZER")
    main(*sys.argv[1:])
