"""`ppo_keras.pretrained.gguf_export`: what is written is what `gguf_weights.py` and `tokenizer_files.py` read; `check_export.py` asks transformers."""

import json
import os

import gguf
import numpy as np
import pytest
from test_export import TEXTS, TOKENS, moved

from golden_tokenizers import BYTES, TOKENIZERS, content_of
from helpers import assert_close
from ppo_keras import export_pretrained, load_pretrained
from ppo_keras.errors import InputError
from ppo_keras.pretrained.gguf_export import gguf_metadata
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer
from ppo_keras.pretrained.tokenizer_files import gguf_of
from ppo_keras.pretrained.weights import open_weights
from small_checkpoint import VOCABULARY, write_checkpoint

LLAMA = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8, "num_attention_heads": 2, "rms_norm_eps": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize(
    "name, dtype", [("llama", None), ("llama", "float32"), ("mistral", "float32"), ("qwen2", "float32"), ("qwen3", "float32"), ("gpt2", "float32")]
)
def test_a_file_is_read_as_it_was_written(tmp_path, name, dtype):
    """Catches: rows of queries or keys in Hugging Face's order, heads of keys taken for those of queries, layers of GPT-2 turned, a size or base of another key,
    a tokenizer that cuts or ends otherwise."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", name)
    policy, tokenizer = load_pretrained(place, lora_rank=3, lora_layers="all", memory=16)
    done = export_pretrained(moved(policy, 0.1), tokenizer, tmp_path / "exported", checkpoint=place, layout="gguf", dtype=dtype)
    assert os.listdir(done.folder) == ["model.gguf"] and done.dtype == (dtype or "float16")
    again, its = load_pretrained(done.folder / "model.gguf", lora_rank=0, memory=16)
    expected = policy(TOKENS)[0].numpy()
    assert_close(again(TOKENS)[0], expected, rtol=1e-5, atol=1e-4 if dtype else 5e-3 * np.abs(expected).max())
    assert its.vocabulary_size == VOCABULARY and its.end_ids == tokenizer.end_ids and its.chat_template == tokenizer.chat_template
    for text in TEXTS:
        assert its.encode(text, begin=True) == tokenizer.encode(text, begin=True)
    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(str(done.folder / "model.gguf")).tensors}
    matrix = "F32" if dtype else "F16"
    assert kinds["token_embd.weight"] == matrix and kinds["output_norm.weight"] == "F32"


def test_a_gguf_file_becomes_a_folder(tmp_path):
    """Catches: a tokenizer.json that cuts otherwise than the file, a config without its class, ends or kind of numbers."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint")
    policy, tokenizer = load_pretrained(place, lora_rank=2, memory=16)
    source = export_pretrained(moved(policy), tokenizer, tmp_path / "file", checkpoint=place, layout="gguf").folder / "model.gguf"
    policy, tokenizer = load_pretrained(source, lora_rank=2, memory=16)
    done = export_pretrained(moved(policy), tokenizer, tmp_path / "exported", checkpoint=source)
    again, its = load_pretrained(done.folder, lora_rank=0, memory=16)
    config = json.loads((done.folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and done.dtype == config["torch_dtype"] == "float16" and None not in config.values()
    assert_close(again(TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=2e-3 * np.abs(policy(TOKENS)[0]).max())
    assert its.end_ids == tokenizer.end_ids == (2, 0) and its.begin_id == 1 and its.chat_template == tokenizer.chat_template
    for text in TEXTS:
        assert its.encode(text, begin=True) == tokenizer.encode(text, begin=True)


def test_llama_3_keeps_its_factors(tmp_path):
    """Catches: the scaling of Llama 3 left out of the file, or that of another original context written as if it were Llama 3's."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", "llama3")
    policy, tokenizer = load_pretrained(place, lora_rank=0, memory=16)
    with pytest.raises(InputError, match="is not that of Llama 3"):
        export_pretrained(policy, tokenizer, tmp_path / "exported", checkpoint=place, layout="gguf")
    assert os.listdir(tmp_path) == ["checkpoint"]
    config = json.loads((place / "config.json").read_text())
    config["rope_parameters"] |= {"original_max_position_embeddings": 8192, "rope_theta": 500_000.0}
    (place / "config.json").write_text(json.dumps(config))
    policy, tokenizer = load_pretrained(place, lora_rank=0, memory=16)
    file = export_pretrained(policy, tokenizer, tmp_path / "exported", checkpoint=place, layout="gguf", dtype="float32").folder / "model.gguf"
    read = open_weights(file).config
    assert (
        read["rope_scaling"] == {name: value for name, value in config["rope_parameters"].items() if name != "rope_theta"} and read["rope_theta"] == 500_000.0
    )


def test_tokenizers_that_gguf_has_no_name_for_are_refused():
    """Catches: a file whose texts another program cuts otherwise, in fluent nonsense."""
    config = {"model_type": "llama"}
    with pytest.raises(InputError, match="not of the byte-level kind"):
        gguf_metadata(config, TOKENIZERS["sentence_piece"], 16)
    other = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    with pytest.raises(InputError, match="cuts texts by .* for which GGUF has no name"):
        gguf_metadata(config, PretrainedTokenizer(content_of(pre_tokenizer=other), {"eos_token": "<|im_end|>"}), 16)
    whole_words = json.loads(content_of())["model"] | {"ignore_merges": True}
    with pytest.raises(InputError, match="for which GGUF has no name"):
        gguf_metadata(config, PretrainedTokenizer(content_of(model=whole_words), {"eos_token": "<|im_end|>"}), 16)
    with pytest.raises(InputError, match="not of gemma3_text"):
        gguf_metadata({"model_type": "gemma3_text"}, BYTES, 16)


def test_rows_that_no_piece_fills_are_made_up():
    """Catches: fewer tokens than rows of the embedding, which llama.cpp refuses."""
    held = json.loads(BYTES.model)
    metadata = gguf_of(held["tokenizer"], held["facts"], [], (2, 0), 640)
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == 640 and tokens[639] == "[PAD639]" and kinds[639] == 5 and kinds[:3] == [3, 3, 3]
    assert tokens.index("<think>") == 552 and kinds[552] == 4 and metadata["tokenizer.ggml.pre"] == "smollm"
    assert (metadata["tokenizer.ggml.eos_token_id"], metadata["tokenizer.ggml.eot_token_id"]) == (2, 0)


def test_what_stands_before_a_text():
    """Catches: a begin token that only the post-processor of tokenizer.json names, lost or put where there is none; a name of a token that is not there."""
    template = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }  # fmt: skip
    for changes, begins in ((dict(post_processor=template), [1]), ({}, [])):
        tokenizer = PretrainedTokenizer(content_of(**changes), {"eos_token": "<|im_end|>", "unk_token": "nowhere"})
        _, metadata = gguf_metadata(LLAMA, tokenizer, 16)
        assert tokenizer.begins == begins and metadata["tokenizer.ggml.add_bos_token"] is bool(begins)
        assert PretrainedTokenizer.from_gguf_metadata(metadata).encode("a film", begin=True) == tokenizer.encode("a film", begin=True)
