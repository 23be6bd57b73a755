"""Whether other libraries compute from what we export what we compute. Nothing here is a test: it needs environments of their own.

    python tests/pretrained/check_export.py make FOLDER [smollm2]            # here: exports of every family, and our logits
    python3 -m venv hf && hf/bin/pip install torch transformers peft gguf accelerate
    hf/bin/python tests/pretrained/check_export.py transformers FOLDER       # merged folders, tokenizers, GGUF files
    hf/bin/python tests/pretrained/check_export.py peft FOLDER               # adapters on their checkpoints; it leaves adapters of its own
    python tests/pretrained/check_export.py back FOLDER                      # here again: these, loaded to be trained further
    python3 -m venv hub && hub/bin/pip install keras-hub
    hub/bin/python tests/pretrained/check_export.py keras_hub FOLDER

Each prints the largest gap between two logits, and how large the largest logit is.
"""

import json
import sys
from pathlib import Path

import numpy as np

FAMILIES = ["gpt2", "llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3", "gpt_neox"]
GGUF = ["gpt2", "llama", "mistral", "qwen2", "qwen3"]
HUB = ("gpt2", "qwen2", "qwen3")  # families that KerasHub 0.32 converts rightly: of Llama it drops the epsilon, Mistral and Gemma 3 differ, too
TEXTS = ["A fine film, and a dull one.", "The  ending was  good", " In 2024 it cost 350.", "naïve café 电影", "a\n\nb", "x"]


def said(what, found, expected):
    print(f"{what:32} gap {np.abs(np.asarray(found, np.float64) - expected).max():.1e} of {np.abs(expected).max():.1f}", flush=True)


def made(folder):
    """(name, its folder, tokens, our logits) of all that was made."""
    for path in sorted(Path(folder).glob("*/logits.npz")):
        with np.load(path) as file:
            yield path.parent.name, path.parent, file["tokens"], file["logits"]


def older(config):
    """What transformers 4 and KerasHub read instead of `rope_parameters`."""
    rotary = config.get("rope_parameters") or {}
    entries = {"rope_theta": rotary.get("rope_theta"), "rope_local_base_freq": rotary.get("sliding_attention", {}).get("rope_theta")}
    entries |= {"rotary_pct": rotary.get("partial_rotary_factor"), "rotary_emb_base": rotary.get("rope_theta")}
    entries["rope_scaling"] = rotary if rotary.get("rope_type") == "llama3" else None
    return {name: value for name, value in entries.items() if value}


def make(folder, *further):
    """With ours: checkpoints with adapters that change much, and networks from nothing."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from test_export import moved

    from helpers import tiny_policy
    from ppo_keras import Tokenizer, export_pretrained, load_pretrained
    from small_checkpoint import write_checkpoint

    def keep(place, policy, tokenizer, **options):
        tokens = np.random.default_rng(0).integers(4, 300, [2, 12]).astype(np.int32)
        np.savez(place / "logits.npz", tokens=tokens, logits=policy(tokens)[0].numpy())
        (place / "texts.json").write_text(json.dumps([tokenizer.encode(text, begin=True) for text in TEXTS]))
        export_pretrained(policy, tokenizer, place / "merged", **options, dtype="float32")

    for name in FAMILIES:
        place = Path(folder) / name
        (place / "checkpoint").mkdir(parents=True)
        config = json.loads((write_checkpoint(place / "checkpoint", name) / "config.json").read_text())
        (place / "checkpoint" / "config.json").write_text(json.dumps(config | older(config)))
        policy, tokenizer = load_pretrained(place / "checkpoint", lora_rank=3, lora_alpha=5.0, lora_layers="all", memory=16)
        keep(place, moved(policy), tokenizer, checkpoint=place / "checkpoint")
        export_pretrained(policy, tokenizer, place / "adapters", checkpoint=place / "checkpoint", layout="adapters")
        if name in GGUF:
            export_pretrained(policy, tokenizer, place / "gguf", checkpoint=place / "checkpoint", layout="gguf", dtype="float32")
    for name, codes in (("own", []), ("own-codes", ["positive:", "negative:"])):
        tokenizer = Tokenizer.train([f"a fine film {i}, a good story, the ending was dull: 电影" for i in range(60)], 320, codes)
        (Path(folder) / name).mkdir()
        keep(Path(folder) / name, tiny_policy(layers=2, vocabulary_size=tokenizer.vocabulary_size), tokenizer)
    for name in further:
        place = Path(folder) / name
        place.mkdir()
        policy, tokenizer = load_pretrained(name, lora_rank=8, memory=64)
        keep(place, moved(policy, 0.02), tokenizer, checkpoint=name)
        for layout in ("adapters", "gguf"):
            export_pretrained(policy, tokenizer, place / layout, checkpoint=name, layout=layout)


def transformers(folder):
    """With transformers: what was merged, its tokenizer, and the GGUF files."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print("transformers", transformers.__version__)
    for name, place, tokens, expected in made(folder):
        with torch.no_grad():
            model = AutoModelForCausalLM.from_pretrained(place / "merged", dtype=torch.float32).eval()
            said(f"{name} merged", model(torch.tensor(tokens.astype(np.int64))).logits.numpy(), expected)
            if not (place / "checkpoint").exists():  # else the files are those of the checkpoint
                ids = [AutoTokenizer.from_pretrained(place / "merged")(text)["input_ids"] for text in TEXTS]
                print(f"{name:32} tokens {'are ours' if ids == json.loads((place / 'texts.json').read_text()) else 'DIFFER'}")
            if (place / "gguf").exists():
                sizes = {"gpt2": {"n_positions": 32}, "qwen3": {"head_dim": 10}}.get(name, {})  # which it does not read of a file
                model = AutoModelForCausalLM.from_pretrained(place / "gguf", gguf_file="model.gguf", dtype=torch.float32, **sizes).eval()
                said(f"{name} gguf", model(torch.tensor(tokens.astype(np.int64))).logits.numpy(), expected)


def peft(folder):
    """With PEFT: our adapters on the checkpoint; and adapters of its own, with an A for each module, left for `back`."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    print("peft", peft.__version__)
    targets = {"gpt2": ["c_attn"], "gpt_neox": ["query_key_value", "attention.dense", "dense_h_to_4h"]}
    for name, place, tokens, expected in made(folder):
        if (place / "adapters").exists():
            tokens = torch.tensor(tokens.astype(np.int64))
            base = place / "checkpoint" if (place / "checkpoint").exists() else None
            load = lambda: AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
            if base is None:  # its frozen weights are in no folder
                continue
            with torch.no_grad():
                said(f"{name} adapters", peft.PeftModel.from_pretrained(load(), place / "adapters")(tokens).logits.numpy(), expected)
                torch.manual_seed(0)
                wanted = targets.get(name, ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj"])
                config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=wanted, task_type="CAUSAL_LM", rank_pattern={"v_proj": 2})
                model = peft.get_peft_model(load(), config)
                for key, parameter in model.named_parameters():
                    if "lora_" in key:
                        parameter.copy_(torch.randn_like(parameter) * 0.3)
                model.save_pretrained(place / "trained")
                np.savez(place / "trained.npz", logits=model.eval()(tokens).logits.numpy())


def back(folder):
    """With ours: adapters that PEFT saved."""
    from ppo_keras import load_pretrained

    for name, place, tokens, _ in made(folder):
        if (place / "trained").exists():
            with np.load(place / "trained.npz") as file:
                said(f"{name} of PEFT", load_pretrained(place / "checkpoint", adapters=place / "trained", memory=16)[0](tokens)[0], file["logits"])


def keras_hub(folder):
    """With KerasHub's `from_preset`, of the families that it converts rightly."""
    import keras_hub

    print("keras_hub", keras_hub.__version__)
    for name, place, tokens, expected in made(folder):
        if name not in HUB:
            continue
        backbone = keras_hub.models.Backbone.from_preset(str(place / "merged"), dtype="float32")
        hidden = backbone({"token_ids": tokens, "padding_mask": np.ones_like(tokens)})
        said(f"{name} merged", backbone.token_embedding(hidden, reverse=True), expected)


if __name__ == "__main__":
    {"make": make, "transformers": transformers, "peft": peft, "back": back, "keras_hub": keras_hub}[sys.argv[1]](*sys.argv[2:])
