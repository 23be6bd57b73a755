"""One cleaning for every text that enters: of a data set, of the command line, of a chat. So a prompt is spelled as training texts are."""

import re
import unicodedata

from ppo_keras.errors import InputError

SPACES = str.maketrans("\u200b\ufeff\u2581", "   ")  # zero-width space, byte order mark, SentencePiece's own sign for a space
NO_TEXT = re.compile("[\0\ud800-\udfff]")


def clean(text, place):
    """A text as the tokenizer was trained on it.

    White space and line breaks become single spaces, and there is none around the text; so do the three characters that
    SentencePiece's own rules take for a space and Python does not. Letters are composed (Unicode's NFC): an é is the same
    however it was typed. Nothing else changes, for our SentencePiece is trained without a rule of its own ("identity"):
    capitals, full-width punctuation and zero-width joiners, which some scripts and emoji need, stay.

    Args:
        text: str.
        place: where it stands, for the message: "the prompt", "a.csv, line 3: 'text'".

    Returns:
        str; empty where there is nothing but white space.

    Raises:
        InputError: it holds what no text holds: NUL, half of a surrogate pair, or a byte that was not UTF-8.

    Example:
        >>> clean(" a  fine\\nfilm ", "the prompt")
        'a fine film'
    """
    broken = NO_TEXT.search(text)
    if broken:
        raise InputError(f"{place} holds {_name(ord(broken[0]))}, which is no text. Correct it, or leave it out.")
    return " ".join(unicodedata.normalize("NFC", text).translate(SPACES).split())


def _name(code):
    if code == 0:
        return "a NUL character (U+0000)"
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that it cannot decode
        return f"the byte 0x{code - 0xDC00:02x}, not UTF-8"
    return f"U+{code:04X}, half of a character"
