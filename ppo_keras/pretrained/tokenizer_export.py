"""A tokenizer as the files of Hugging Face's format: those of the checkpoint, or made of what a GGUF file or SentencePiece holds."""

import json
from pathlib import Path

from ppo_keras.language.tokenizer import BEGIN, END, PAD, UNKNOWN
from ppo_keras.pretrained.tokenizer_files import IDS, NAMES

COPIED = (  # of a folder
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt",
    "chat_template.jinja", "generation_config.json",
)  # fmt: skip
SYMBOL = "\u2581"  # SentencePiece's space


def tokenizer_files(tokenizer, folder=None):
    """{name of a file: its bytes}, with `generation_config.json`.

    Args:
        tokenizer: a `PretrainedTokenizer`, or a `Tokenizer` of our own.
        folder: of the checkpoint that the tokenizer comes with, whose files are taken as they are; None: they are made.
    """
    if folder is not None:
        return {name: (Path(folder) / name).read_bytes() for name in COPIED if (Path(folder) / name).is_file()}
    if tokenizer.model[:1] == b"{":
        held = json.loads(tokenizer.model)
        content, facts = held["tokenizer"], held["facts"]
        before = [token for token, i in tokenizer.special_tokens.items() if i in tokenizer.begins]
        content["post_processor"] = _beginning(before, tokenizer.special_tokens) or content.get("post_processor")
        named = {name: facts[name] for name in (*NAMES, "chat_template") if name in facts}
    else:
        content = of_sentencepiece(tokenizer)
        names = {token["id"]: token["content"] for token in content["added_tokens"]}
        named = {"bos_token": names[BEGIN], "eos_token": names[END], "unk_token": names[UNKNOWN], "pad_token": names[PAD]}
    ends = list(tokenizer.end_ids)
    generation = dict(zip(IDS, (tokenizer.begin_id, ends[0] if len(ends) == 1 else ends, tokenizer.pad_id)))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}
    files = {"tokenizer.json": content, "tokenizer_config.json": settings, "generation_config.json": generation}
    return {name: (json.dumps(file, indent=None if name == "tokenizer.json" else 2, ensure_ascii=False) + "\n").encode() for name, file in files.items()}


def of_sentencepiece(tokenizer):
    """A `tokenizer.json`, a dict, that gives the ids of a `Tokenizer` of our own: the same pieces, and the merges that lead to them."""
    from sentencepiece import sentencepiece_model_pb2

    pieces = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model).pieces
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece.Type
    vocabulary = {piece.piece: i for i, piece in enumerate(pieces)}
    special = {i: piece.piece for i, piece in enumerate(pieces) if piece.type in (kinds.CONTROL, kinds.UNKNOWN)}
    symbols = [piece.piece for piece in pieces if piece.type == kinds.USER_DEFINED]
    scores = {piece.piece: piece.score for piece in pieces if piece.type == kinds.NORMAL}
    merges = []
    for piece, score in scores.items():
        halves = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        merges += [(-score, list(pair)) for pair in halves if pair[0] in scores and pair[1] in scores]
    merges = [pair for _, pair in sorted(merges, key=lambda merge: merge[0])]  # what was learned first is joined first
    added = lambda i, token: {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = None
    if symbols:  # control codes are one piece wherever they stand
        pattern = "|".join(_escaped(symbol) for symbol in sorted(symbols, key=len, reverse=True))
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(i, token) for i, token in special.items()],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": SYMBOL}, {"type": "Replace", "pattern": {"String": " "}, "content": SYMBOL},
        ]},
        "pre_tokenizer": split, "post_processor": _beginning([special[BEGIN]], {token: i for i, token in special.items()}),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SYMBOL}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": special[UNKNOWN], "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
            "byte_fallback": True, "ignore_merges": bool(symbols), "vocab": vocabulary, "merges": merges,
        },
    }  # fmt: skip


def _beginning(tokens, ids):
    """The post-processor that puts tokens before a text; None where there are none."""
    if not tokens:
        return None
    before = [{"SpecialToken": {"id": token, "type_id": 0}} for token in tokens]
    text = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    return {
        "type": "TemplateProcessing", "single": [*before, text("A")], "pair": [*before, text("A"), text("B")],
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in tokens},
    }  # fmt: skip


def _escaped(symbol):
    """A piece as a regular expression of `tokenizers`."""
    return "".join(letter if letter.isalnum() or ord(letter) > 127 else f"\\{letter}" for letter in symbol)
