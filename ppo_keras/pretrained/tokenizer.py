"""The tokenizer of somebody else's checkpoint, exact to the id, with the interface of ours. Byte-pair encoding only, as all families that are read have it."""

import contextlib
import json
import re
import secrets
from pathlib import Path

from ppo_keras.errors import InputError, check_count, line_of, require, shown
from ppo_keras.language.tokenizer import BaseTokenizer, Tokenizer
from ppo_keras.pretrained.tokenizer_files import NAMES, facts_of, ids_of, mark_special, parsed, parts_of_gguf, read_json, read_text


def import_tokenizers():
    """The package; raises `InputError` naming the extra where it is missing."""
    try:
        import tokenizers
    except ImportError as error:
        raise InputError("a checkpoint's tokenizer needs the package tokenizers. Install it with: pip install 'ppo_keras[pretrained]'.") from error
    return tokenizers


class PretrainedTokenizer(BaseTokenizer):
    """A `tokenizer.json`, read by Hugging Face's `tokenizers`.

    Its special tokens (those that it marks so, and every begin and end token) are commands, which only `begin`, `end` and a `ChatTemplate` write: the
    same letters inside a text are text, and become ordinary pieces. Other added tokens, such as Qwen 3's `<think>`, are pieces like any other.

    | attribute | meaning |
    |---|---|
    | `vocabulary_size` | the `vocab_size` of the checkpoint's config, which is often more than the tokenizer fills: so many logits there are |
    | `end_id`, `end_ids` | the tokenizer's own end token; it and all that the checkpoint's generation stops at |
    | `begin_id` | its begin token; without one its end token, which then stands between texts (GPT-2, Qwen) |
    | `pad_id` | its padding token; without one its end token. What is padding is said by masks, never by this id |
    | `special_tokens` | {how it is written: id} |
    | `chat_template` | the template's text, or None |
    | `named_tokens` | {"bos_token": how it is written, ...}: what a chat template may ask for |
    | `model` | the bytes that `save` writes: `tokenizer.json` and what is used of the other files |

    Args:
        text: the content of a `tokenizer.json`.
        tokenizer_config: dict, its `tokenizer_config.json`; may be empty.
        generation_config: dict, its `generation_config.json`; may be empty.
        config: dict, its `config.json`; may be empty.

    Raises:
        InputError: no tokenizer of this kind; no end token; more pieces than the model has logits.

    Example:
        >>> tokenizer = PretrainedTokenizer.from_folder("SmolLM2-135M")
        >>> tokenizer.decode(tokenizer.encode("a fine 电影"))
        'a fine 电影'
    """

    kind = "tokenizer of a checkpoint"

    def __init__(self, text, tokenizer_config=None, generation_config=None, config=None):
        library = import_tokenizers()
        content, known = parsed(text)
        facts = facts_of(tokenizer_config or {}, generation_config or {}, config or {})
        self.vocabulary_size = facts.get("vocab_size", max(known.values()) + 1)
        check_count("vocab_size", self.vocabulary_size, example=max(known.values()) + 1)
        self.end_ids = tuple(ids_of(content, known, facts, "eos"))
        require(self.end_ids, "the tokenizer has no end token. Name one: eos_token in tokenizer_config.json, or eos_token_id in generation_config.json.")
        begin_ids, pad_ids = (ids_of(content, known, facts, which) for which in ("bos", "pad"))
        self.end_id, self.begin_id, self.pad_id = self.end_ids[0], (begin_ids or self.end_ids)[0], (pad_ids or self.end_ids)[0]
        self.special_tokens = mark_special(content, {self.begin_id, *self.end_ids})
        written = max(self.begin_id, self.pad_id, *self.end_ids, *(i for piece, i in known.items() if piece not in self.special_tokens))
        require(
            written < self.vocabulary_size,
            f"the tokenizer has a token {written}, but vocab_size={self.vocabulary_size} in config.json. Take both files from one checkpoint.",
        )
        self.chat_template, self.named_tokens = facts.get("chat_template"), {name: facts[name] for name in NAMES if name in facts}
        text = json.dumps(content, ensure_ascii=False)
        self.model = f'{{"facts": {json.dumps(facts)}, "tokenizer": {text}}}'.encode()
        try:
            self.processor = library.Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises nothing more special
            raise InputError(f"tokenizer.json cannot be read: {line_of(error)}. Download it again.") from error
        self.processor.encode_special_tokens = True  # "<|im_end|>" in a text is text
        self._letters = _byte_letters() if '"ByteLevel"' in json.dumps(content.get("decoder")) else {}
        self._prefix = begin_ids[:1] * bool(facts["add_bos_token"]) if "add_bos_token" in facts else self._template_prefix()
        self._commands = self._add_commands(library.AddedToken, content["added_tokens"], known)

    @classmethod
    def from_folder(cls, folder):
        """Reads `tokenizer.json` of a folder in Hugging Face's format, and what there is of `special_tokens_map.json`, `tokenizer_config.json`,
        `chat_template.jinja`, `generation_config.json` and `config.json`."""
        folder = Path(folder)
        path = folder / "tokenizer.json"
        require(
            path.is_file(),
            f"no tokenizer.json in {folder}. Take a checkpoint that has one, or make it: transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...).",
        )
        settings = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")  # the former is of older checkpoints
        if (folder / "chat_template.jinja").is_file():
            settings["chat_template"] = read_text(folder / "chat_template.jinja")
        return cls(read_text(path), settings, read_json(folder / "generation_config.json"), read_json(folder / "config.json"))

    @classmethod
    def from_gguf_metadata(cls, metadata):
        """The byte-level tokenizer in the metadata of a GGUF file: {"tokenizer.ggml.tokens": [...], "tokenizer.ggml.pre": "smollm", ...}."""
        return cls(*parts_of_gguf(metadata))

    @classmethod
    def check_packages(cls):
        """See `BaseTokenizer`."""
        import_tokenizers()

    @classmethod
    def from_model(cls, model):
        """The tokenizer of the bytes `model`."""
        content = json.loads(model)
        require(isinstance(content, dict) and {"tokenizer", "facts"} <= set(content), "the file holds no tokenizer of a checkpoint. Use one that save wrote.")
        return cls(json.dumps(content["tokenizer"]), content["facts"], content["facts"], content["facts"])

    @property
    def begins(self):
        """The ids that the checkpoint puts before a text, a list: its begin token, or none."""
        return list(self._prefix)

    def encode(self, text, begin=False, end=False):
        """Token ids of a text.

        Args:
            text: str.
            begin: add what the checkpoint puts before a text: its begin token, or nothing (GPT-2, SmolLM2, Qwen). An empty text begins with `begin_id` in
                any case, for a policy must have read something before it writes.
            end: add `end_id`.
        """
        require(isinstance(text, str), f"a text is {shown(text)}, expected a string. Use str(...), or leave it out.")
        try:
            ids = self.processor.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeError) as error:  # half of a surrogate pair
            raise InputError(f"{shown(text)} is no text that UTF-8 can hold. Use clean(text, place), or leave it out.") from error
        before = self._prefix or [self.begin_id] * (not ids)
        return before * bool(begin) + ids + [self.end_id] * bool(end)

    def encode_question(self, text):
        """Token ids of a text that is to be answered: a line of its own, as pretrained models know questions. (A second begin token, as ours
        has it, would tell them that another text begins.)"""
        return self.encode(text + "\n", begin=True)

    def encode_commands(self, text, changed=None):
        """Token ids of a text in which special tokens are commands, as a chat template writes it.

        Args:
            text: str.
            changed: a function that changes the text once its commands are known: what it writes is text.
        """
        marked = self.command_pattern.sub(lambda found: self._commands[found[0]], text)
        ids = self.encode(changed(marked) if changed else marked)
        return [self._meant.get(i, i) for i in ids]

    def decode(self, ids):
        """The text of token ids; special tokens are left out."""
        return self.processor.decode([int(i) for i in ids if int(i) not in self._meant], skip_special_tokens=True)

    def pieces(self, ids):
        """How each token is written: ▁ for a space; what no text shows (bytes of half a character, line breaks) as <0x0A>."""
        return [self._piece(int(i)) for i in ids]

    def _piece(self, i):
        token = None if i in self._meant else self.processor.id_to_token(i)
        if token is None or token in self.special_tokens:
            return token or f"[{i}]"  # an id that the checkpoint keeps free
        if self._letters and all(letter in self._letters for letter in token):
            token = bytes(self._letters[letter] for letter in token).decode("utf-8", "surrogateescape")
        return "".join(letter if letter.isprintable() and letter != " " else _sign(letter) for letter in token)

    def id_of(self, symbol):
        """The id of a piece (" film", with its space) or of a special token. Raises `InputError` where it is not one token."""
        bytes_as_letters = {byte: letter for letter, byte in self._letters.items()}
        spelled = "".join(bytes_as_letters[byte] for byte in symbol.encode()) if self._letters else symbol.replace(" ", "\u2581")
        found = [self.processor.token_to_id(one) for one in (spelled, symbol)]
        found = [i for i in found if i is not None]
        require(found, f"{symbol!r} is no token of this checkpoint: it is written {self.pieces(self.encode(symbol))}. Use one that is one piece.")
        return found[0]

    def _template_prefix(self):
        """What the post-processor of `tokenizer.json` puts before a text."""
        plain, whole = (self.processor.encode("a", add_special_tokens=add).ids for add in (False, True))
        return next((whole[:i] for i in range(len(whole)) if whole[i : i + len(plain)] == plain), [])

    def _add_commands(self, new_token, added, known):
        """{special token: the letters by which alone it is a command}: drawn anew in every process, so that no text holds them."""
        flags = {token["content"]: token for token in added}
        drawn = secrets.token_hex(8)
        commands = {name: f"\ue000{drawn}.{i}\ue001" for name, i in self.special_tokens.items()}
        strips = lambda name: {side: bool(flags[name].get(side)) for side in ("lstrip", "rstrip")}
        self.processor.add_tokens([new_token(command, special=False, normalized=False, **strips(name)) for name, command in commands.items()])
        # Their ids are some that the checkpoint keeps free: a policy may write those too, and they are nothing then.
        self._meant = {self.processor.token_to_id(command): self.special_tokens[name] for name, command in commands.items()}
        require(not set(self._meant) & set(known.values()), "the ids in tokenizer.json have gaps, expected 0, 1, 2, ... Take another revision of it.")
        self.command_pattern = re.compile("|".join(map(re.escape, sorted(commands, key=len, reverse=True))))  # the longest first, as tokenizers has it
        return commands


def load_tokenizer(path):
    """The tokenizer in the file `tokenizer.model` of a run: ours, or a checkpoint's. Raises `InputError` where it is neither."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(1) == b"{":
            return PretrainedTokenizer.load(path)
    return Tokenizer.load(path)


def _byte_letters():
    """{letter: byte} of GPT-2's alphabet: printable bytes are themselves, the others come after U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _sign(letter):
    return "\u2581" if letter == " " else "".join(f"<0x{byte:02X}>" for byte in letter.encode("utf-8", "surrogateescape"))
