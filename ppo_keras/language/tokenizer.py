"""A SentencePiece tokenizer trained on the corpus at hand."""

import collections
import io
import os
import re

import numpy as np
import sentencepiece

from ppo_keras.errors import InputError, check_count, shown

PAD, UNKNOWN, BEGIN, END = range(4)


class BaseTokenizer:
    """What every tokenizer does with its `encode`, `decode` and `model`, the bytes that a file holds."""

    kind = "tokenizer"  # what a file holds, for messages

    def decode_batch(self, tokens, mask):
        """The texts of a padded batch, by its mask: int `(B, L)`, `(B, L)` -> list of B strings."""
        return [self.decode(row[real > 0]) for row, real in zip(np.asarray(tokens), np.asarray(mask))]

    def decode_pairs(self, prompts, responses):
        """The texts of `Prompts` and `Responses`: two lists of B strings, such that prompt + response is the whole text.

        A response that begins with a new word therefore begins with a space.
        """
        prompt_texts = self.decode_batch(prompts.tokens, prompts.mask)
        tokens = np.concatenate([prompts.tokens, responses.tokens], axis=1)
        mask = np.concatenate([prompts.mask, responses.mask], axis=1)
        whole_texts = self.decode_batch(tokens, mask)
        alone = self.decode_batch(responses.tokens, responses.mask)  # where a prompt ends within a character
        pairs = zip(prompt_texts, whole_texts, alone)
        return prompt_texts, [whole[len(p) :] if whole.startswith(p) else rest for p, whole, rest in pairs]

    def save(self, path):
        """Writes the tokenizer to one file."""
        with open(path, "wb") as file:
            file.write(self.model)

    @classmethod
    def check_packages(cls):
        """Raises `InputError` where a package lacks that reads the file: the file is then not to blame."""

    @classmethod
    def load(cls, path):
        """Reads a file that `save` wrote."""
        if not os.path.isfile(path):
            raise InputError(f"no tokenizer at {path}. Is it the file tokenizer.model in the folder of a finished run?")
        with open(path, "rb") as file:
            model = file.read()
        cls.check_packages()
        try:
            return cls.from_model(model)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path} is damaged, or no {cls.kind}. Put the file back, or train the run again.") from error


class Tokenizer(BaseTokenizer):
    """Byte-pair encoding with byte fallback: any text of any language survives `decode(encode(text))`
    (but for U+2581, which SentencePiece itself writes for a space).

    The ids 0 to 3 are padding, unknown, begin and end of a text. Digits are pieces of their own: numbers are read as they are
    written.

    Args:
        model: a serialised SentencePiece model.

    Example:
        >>> tokenizer = Tokenizer.train(["a fine film", "a dull film"], vocabulary_size=300)
        >>> tokenizer.decode(tokenizer.encode("a fine 电影"))
        'a fine 电影'
    """

    kind = "SentencePiece model"  # which KerasHub and TF Text read too

    def __init__(self, model: bytes):
        if not isinstance(model, bytes):
            raise InputError(
                f"a tokenizer was given {shown(model)}, expected the bytes of a SentencePiece model. Use Tokenizer.load(path) or Tokenizer.train(texts)."
            )
        self.model = model
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.pad_id, self.begin_id, self.end_id = PAD, BEGIN, END

    @property
    def vocabulary_size(self):
        """`V`: how many ids there are, special tokens and bytes included."""
        return self.processor.get_piece_size()

    @property
    def end_ids(self):
        """All tokens that end a response: here one. (Checkpoints know several.)"""
        return (self.end_id,)

    @classmethod
    def from_model(cls, model):
        """The tokenizer of the bytes `model`."""
        return cls(model)

    @classmethod
    def train(cls, texts, vocabulary_size=1000, symbols=()):
        """Learns pieces from texts. 260 entries are special tokens and bytes; rare characters fall back to bytes.

        A vocabulary larger than the texts can fill is made as large as they allow. Each of `symbols` is one piece, always.

        Raises:
            InputError: too few entries for the characters of the texts, or fewer than 270; what is given is no list of texts, or holds none.
        """
        texts, symbols = listed("texts", texts), listed("symbols", symbols)
        check_count("vocabulary_size", vocabulary_size, example=1000)
        if not any(text.strip() for text in texts):
            raise InputError(f"there is no text to learn pieces from: {len(texts)} were given, all of them empty. Give a list of texts.")
        if vocabulary_size < 270:
            raise InputError(f"vocabulary_size={vocabulary_size} leaves no room beside 256 bytes and 4 special tokens. Use 300 or more.")
        counts = sorted(collections.Counter("".join(texts)).values(), reverse=True)
        room = (vocabulary_size - 260) // 2  # half of the entries for characters, half for longer pieces
        coverage = max(0.98, sum(counts[:room]) / max(1, sum(counts)))  # SentencePiece allows no less
        size = vocabulary_size
        while True:
            try:
                return cls(cls._train_once(texts, size, coverage, symbols))
            except RuntimeError as error:
                too_few, too_many = re.search(r"required_chars. \d+ vs (\d+)", str(error)), re.search(r"<= (\d+)", str(error))
                if too_few:
                    raise InputError(f"vocabulary_size={vocabulary_size} is too small for the characters of these texts. Use {too_few[1]} or more.") from error
                if not too_many or int(too_many[1]) >= size:
                    raise InputError(f"SentencePiece cannot learn {size} pieces from {len(texts)} texts: {error}") from error
                size = int(too_many[1])

    @staticmethod
    def _train_once(texts, size, coverage, symbols):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, vocab_size=size, model_type="bpe", byte_fallback=True,
            character_coverage=coverage, pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END, minloglevel=2,
            normalization_rule_name="identity", remove_extra_whitespaces=False, max_sentence_length=1 << 20, num_threads=1,
            split_digits=True, user_defined_symbols=[symbol.replace(" ", "\u2581") for symbol in symbols],
        )  # fmt: skip
        return model.getvalue()

    def id_of(self, symbol):
        """The id of a piece, such as one of the `symbols` of `train`."""
        return self.processor.piece_to_id(symbol.replace(" ", "\u2581"))

    def encode(self, text, begin=False, end=False):
        """Token ids of a text, optionally with the begin and end tokens."""
        return [BEGIN] * begin + self.processor.encode(text) + [END] * end

    def pieces(self, ids):
        """How each token is written, as SentencePiece shows it: ▁ for a space."""
        return [self.processor.id_to_piece(int(i)) for i in ids]

    def encode_question(self, text):
        """Token ids of a text that is to be answered: between two begin tokens, the second of which begins the answer."""
        return [BEGIN, *self.processor.encode(text), BEGIN]

    def decode(self, ids):
        """The text of token ids; special tokens are left out."""
        return self.processor.decode([int(i) for i in ids if i > END])


def listed(name, texts):
    """A list of strings. Raises `InputError` where `texts`, an argument called `name`, is one string (whose letters would be the texts) or holds others."""
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__iter__"):
        raise InputError(f"{name} is {shown(texts)}, expected a list of strings. Use one such as ['a fine film', 'a dull film'].")
    texts = list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{name}[{i}] is {shown(text)}, expected a string. Use str(...), or leave it out.")
    return texts
