"""The files of a checkpoint's tokenizer: what is used of them, what is put right in them, and the same out of a GGUF file's metadata."""

import json

from ppo_keras.errors import InputError, line_of, require, shown

NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # Llama 3's and Qwen's
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # kinds of tokens in GGUF
GGUF_IDS = {"unk": "unknown", "pad": "padding"}  # how GGUF calls their ids


def parsed(text):
    """A `tokenizer.json` as a dict, and {token: id} of all its tokens."""
    advice = "Take the tokenizer.json of a checkpoint of GPT-2, Llama, Mistral, Qwen or Gemma."
    try:
        content = json.loads(text)
        kind, known = content["model"].get("type", "BPE"), content["model"]["vocab"]  # older files name no type
        require(kind == "BPE", f"tokenizer.json has a model of type {shown(kind)}, expected BPE. {advice}")
        known = known | {token["content"]: token["id"] for token in content.setdefault("added_tokens", [])}
        require(min(known.values()) >= 0, f"tokenizer.json has the id {min(known.values())}, expected 0 or more. {advice}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"tokenizer.json is {shown(text)}, which is no tokenizer: {line_of(error)}. {advice}") from error
    content["truncation"] = content["padding"] = None  # some checkpoints would cut texts without a word
    return content, known


def facts_of(tokenizer_config, generation_config, config):
    """What is used of the three, in one dict; what is None is left out. What generation says goes before the config."""
    config = config | (config.get("text_config") or {})  # of a model that also sees
    written = lambda token: token.get("content") if isinstance(token, dict) else token
    facts = {name: written(tokenizer_config.get(name)) for name in NAMES}
    facts |= {name: config.get(name) if generation_config.get(name) is None else generation_config[name] for name in IDS}
    facts |= {"vocab_size": config.get("vocab_size"), "add_bos_token": tokenizer_config.get("add_bos_token")}
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}.get("default")
    return {name: fact for name, fact in (facts | {"chat_template": template}).items() if fact is not None}


def ids_of(content, known, facts, which):
    """The ids of the "bos", "eos" or "pad" token: the one named, then those that are numbered, unless they number an ordinary piece
    (configs keep numbers of other tokenizers)."""
    name, numbered = facts.get(f"{which}_token"), facts.get(f"{which}_token_id", [])
    require(name is None or name in known, f"{which}_token is {name!r}, which tokenizer.json lacks. Take both files from one checkpoint.")
    added = {token["id"] for token in content["added_tokens"]}
    numbered = [i for i in (numbered if isinstance(numbered, list) else [numbered]) if isinstance(i, int) and i in added]
    return list(dict.fromkeys(([known[name]] if name is not None else []) + numbered))


def mark_special(content, commands):
    """Marks tokens as special in `content`, and takes out the merges by which a text would write one. Returns {special token: id}."""
    added = {token["id"]: token for token in content["added_tokens"]}
    for piece, i in content["model"]["vocab"].items():
        if i in commands and i not in added:
            added[i] = _added(i, piece, special=True)
            content["added_tokens"].append(added[i])
    for i in commands:
        added[i]["special"] = True
    special = {token["content"]: token["id"] for token in added.values() if token.get("special")}
    joined = lambda merge: merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge)
    content["model"]["merges"] = [merge for merge in content["model"].get("merges", []) if joined(merge) not in special]
    return special


def parts_of_gguf(metadata):
    """What the metadata of a GGUF file say, as `tokenizer.json` (its text), `tokenizer_config.json`, `generation_config.json` and `config.json` (dicts)."""
    get = lambda name, default=None: metadata.get(f"tokenizer.ggml.{name}", default)
    require(
        get("model") == "gpt2",
        f"the GGUF file's tokenizer.ggml.model is {shown(get('model'))}, expected 'gpt2', byte level. Use the checkpoint's folder with tokenizer.json.",
    )
    lacking = [name for name in ("tokens", "merges", "eos_token_id") if get(name) is None]
    require(not lacking, f"the GGUF file's metadata lack tokenizer.ggml.{', tokenizer.ggml.'.join(lacking)}. Download it again, or use another.")
    tokens, kinds = list(get("tokens")), list(get("token_type", [NORMAL] * len(get("tokens"))))
    require(len(kinds) == len(tokens), f"the GGUF file names {len(tokens)} tokens and {len(kinds)} of their kinds. Download it again, or use another.")
    split, normalizer, ignore_merges = _pre_tokenizer(get("pre", "default"))
    content = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": normalizer, "pre_tokenizer": split, "post_processor": None,
        "added_tokens": [_added(i, tokens[i], kinds[i] == CONTROL) for i in range(len(tokens)) if kinds[i] in (CONTROL, USER_DEFINED)],
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
            "byte_fallback": False, "ignore_merges": ignore_merges, "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in get("merges")],
        },
    }  # fmt: skip
    ids = {"bos": get("bos_token_id"), "eos": get("eos_token_id"), "pad": get("padding_token_id"), "unk": get("unknown_token_id")}
    settings = {f"{name}_token": tokens[i] for name, i in ids.items() if i is not None and 0 <= i < len(tokens)}
    settings["add_bos_token"] = bool(get("add_bos_token", ignore_merges))  # Llama 3's files leave it out, and begin
    settings["chat_template"] = metadata.get("tokenizer.chat_template")
    ends = [int(i) for i in (ids["eos"], get("eot_token_id")) if i is not None]
    return json.dumps(content), settings, {"eos_token_id": ends}, {"vocab_size": len(tokens)}


def gguf_of(content, facts, begins, end_ids, size):
    """The metadata of a GGUF file that say what a tokenizer is: the way back from `parts_of_gguf`.

    Args:
        content: a `tokenizer.json`, a dict.
        facts: see `facts_of`.
        begins: tokens that are put before a text.
        end_ids: all tokens that end a text.
        size: how many tokens there are to be; those that lack are made up, as llama.cpp's converter does.

    Raises:
        InputError: no byte-level tokenizer, or one whose texts are cut as no name in GGUF says.
    """
    advice = "Export it without --gguf, and convert the folder with llama.cpp's convert_hf_to_gguf.py."
    model = content["model"]
    require(
        '"ByteLevel"' in json.dumps(content.get("decoder")), f"the tokenizer is not of the byte-level kind, and no other is written into a GGUF file. {advice}"
    )
    found = _plain(content.get("pre_tokenizer")), _plain(content.get("normalizer")), bool(model.get("ignore_merges"))
    pre = next((name for name, parts in _pre_tokenizers().items() if (_plain(parts[0]), _plain(parts[1]), parts[2]) == found), None)
    require(pre, f"the tokenizer cuts texts by {shown(content.get('pre_tokenizer'), 80)}, for which GGUF has no name that is known here. {advice}")
    added = {token["id"]: token for token in content["added_tokens"]}
    pieces = {i: piece for piece, i in model["vocab"].items()} | {i: token["content"] for i, token in added.items()}
    kinds = {i: CONTROL if token["special"] else USER_DEFINED for i, token in added.items()}
    known = {piece: i for i, piece in pieces.items()}
    ids = {"eos": end_ids[0]} | {name: known[token] for name in ("bos", "unk", "pad") if (token := facts.get(f"{name}_token")) in known}
    ids |= {"bos": begins[0]} if begins else {}
    ids |= {"eot": end_ids[1]} if len(end_ids) > 1 else {}
    entries = {
        "model": "gpt2", "pre": pre, "tokens": [pieces.get(i, f"[PAD{i}]") for i in range(size)],
        "token_type": [kinds.get(i, NORMAL if i in pieces else UNUSED) for i in range(size)],
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", [])],
    }  # fmt: skip
    entries |= {f"{GGUF_IDS.get(name, name)}_token_id": i for name, i in ids.items()}
    entries["add_bos_token"] = bool(begins)  # always: what is so where nothing is said depends on `pre`
    metadata = {f"tokenizer.ggml.{name}": value for name, value in entries.items()}
    return metadata | ({"tokenizer.chat_template": facts["chat_template"]} if "chat_template" in facts else {})


def _plain(part):
    """A part of a `tokenizer.json` without what changes no id."""
    if isinstance(part, dict):
        defaults = {"use_regex": True} if part.get("type") == "ByteLevel" else {}
        return defaults | {name: _plain(value) for name, value in part.items() if name != "trim_offsets"}
    return [_plain(one) for one in part] if isinstance(part, list) else part


def _added(i, token, special):
    return {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}


def _byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _pre_tokenizers():
    """How a GGUF file's texts are cut before they are merged, by its `tokenizer.ggml.pre`: the pre-tokenizer, the normalizer, whether whole words go before
    merges."""
    sequence = lambda *parts: {"type": "Sequence", "pretokenizers": list(parts)}
    words = lambda digits: {"type": "Split", "pattern": {"Regex": WORDS % digits}, "behavior": "Isolated", "invert": False}
    return {
        "smollm": (sequence({"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)), None, False),
        "gpt-2": (_byte_level(use_regex=True), None, False),
        "default": (_byte_level(use_regex=True), None, False),  # the same, of converters that did not name it
        "llama-bpe": (sequence(words("{1,3}"), _byte_level(use_regex=False)), None, True),
        "qwen2": (sequence(words(""), _byte_level(use_regex=False)), {"type": "NFC"}, False),
    }


def _pre_tokenizer(kind):
    """One of `_pre_tokenizers`."""
    kinds, advice = _pre_tokenizers(), "Use the checkpoint's folder with tokenizer.json."
    require(isinstance(kind, str) and kind in kinds, f"the GGUF file's tokenizer.ggml.pre is {shown(kind)}, expected {', '.join(kinds)}. {advice}")
    return kinds[kind]


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {line_of(error)}. Download it again.") from error


def read_json(path):
    """A dict; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: {line_of(error)}. Download it again.") from error
    require(isinstance(content, dict), f"{path} holds {shown(content)}, expected an object of JSON. Download it again.")
    return content
