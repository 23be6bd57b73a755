"""Rewards that can be checked: a number, a choice, a pattern, JSON, a length, a language. Each is 1.0 where the response is right, else 0.0.

On the command line: `--reward ppo_keras.language.verifiable:exact_number`. The parameters behind the response are columns of the data
(`answer`, `pattern`, ...). A column of another name, or one setting for all prompts, is a function of your own around one of these:

    from ppo_keras.language import verifiable

    def brief(prompt, response):
        return verifiable.length(prompt, response, most_words=20)

Nothing here loads TensorFlow, and nothing is downloaded.
"""

import json
import re
import unicodedata
from fractions import Fraction

from ppo_keras.errors import InputError

PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("−"): "-", ord("–"): "-", ord("⁄"): "/"}  # full-width signs and digits
LARGE = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
NUMBER = re.compile(  # the 2 of m2 is none
    r"(?<![A-Za-z_\d])(?P<value>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+)"
    r"(?P<power>[eE][-+]?\d{1,4}(?!\d))?(?:/(?P<below>\d+)(?![\d/]))?[ ]?(?P<large>[万萬亿億]{0,2})"
)
MINUS = re.compile(r"(?:(?<![\w)\]%])-|(?<=[=:(\[<>≈])[ ]*-[ ])[$€£¥]?$|(?<![\w)\]%])-[$€£¥]$|[$€£¥]-$")  # none: that of 5-3, of 5 - 3, or of a list
LONGEST = 1000  # digits of a number
CHOICE = r"[*_`\"'(\[（【《]*+(?:\\boxed\{)?[*_`\"'(\[（【]*([A-H])(?![A-Za-z])"
IS = r"(?:\s+(?:is|are|should be|would be|must be|has to be)|(?:应该|應該|应|應)?(?:是|为|為|选|選))"
STATED = re.compile(
    rf"(?:(?:(?:answer|choose|pick|select)\b|答案|(?<!不)(?:应选|應選|故选|故選|选择|選擇|选|選)){IS}?"
    rf"|(?:(?:choice|option|one)\b|选项|選項|正确|正確|的)(?:{IS}|(?=\s*[:：])))"
    rf"(?:\s+(?:option|choice|letter|选项))?\s*+[:：=]?\s*+{CHOICE}",  # *+ gives nothing back: long runs of blanks would take for ever
    re.IGNORECASE,
)
OTHER = re.compile(r"[\s*_)\]）】}.]*(?:,|，|、|/|or\b|and\b|或|和)\s*(?:option\s+)?[*_(\[（【]*[A-H](?![A-Za-z])", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\{(?:\\text\{)?[( ]*([A-Ha-h])[) ]*\}")
ALONE = re.compile(r"(?<![A-Za-z'’])([A-H])(?![A-Za-z'’])")
NOT = re.compile(r"(?:\b(?:not|never)|n['’]t|不是|不选|不選)\s*(?:(?:be|option|choice)\s+)?[*_(\[（【]*$", re.IGNORECASE)  # before "A" of "not (A)"
WORD = re.compile(r" (?!(?:or|and|is|because|as|since|would|was|seems)\b)[a-z]")  # behind the A of "A dog"
SCRIPTS = {  # of each language, how Unicode's names of its letters begin
    "en": ("LATIN",), "zh": ("CJK",), "ja": ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "CJK"), "ko": ("HANGUL",), "ru": ("CYRILLIC",),
    "el": ("GREEK",), "ar": ("ARABIC",), "he": ("HEBREW",), "hi": ("DEVANAGARI",), "th": ("THAI",),
}  # fmt: skip
KANA = SCRIPTS["ja"][:3]


def exact_number(prompt, response, answer):
    """Whether the last number of the response equals the last one of the answer.

    Signs, decimals, commas between thousands, fractions (1/2 is 0.5), powers of ten (1e3), full-width digits, 万 and 亿 are understood.
    Units and what else stands around a number are not looked at; digits behind a letter (m2) are no number.

    Args:
        prompt: not looked at.
        response: str.
        answer: str with a number in it, or a number.

    Raises:
        ValueError: there is no number in the answer.

    Example:
        >>> exact_number("", "12 x 100 = 1,200 km.", "1200"), exact_number("", "一共１２００个。", 1200), exact_number("", "2", "-2")
        (1.0, 1.0, 0.0)
    """
    wanted = last_number(str(answer))
    if wanted is None:
        raise ValueError(f"the answer {answer!r} holds no number")
    return float(last_number(response) == wanted)


def last_number(text):
    """The last number in a text, a `Fraction`; None where there is none.

    Example:
        >>> last_number("from 3.5 to -1,000.25%")
        Fraction(-4001, 4)
    """
    text, found = text.translate(PLAIN), None
    for found in NUMBER.finditer(text):
        pass
    if found is None or len(found[0]) > LONGEST:
        return None
    value = Fraction(found["value"].replace(",", "")) * Fraction(f"1{found['power'] or ''}")
    if found["below"] and int(found["below"]):
        value /= int(found["below"])
    for sign in found["large"]:
        value *= LARGE[sign]
    return -value if MINUS.search(text[max(0, found.start() - 20) : found.start()]) else value


def multiple_choice(prompt, response, answer):
    """Whether the response chooses the letter of the answer, A to H.

    The last choice that is stated counts ("the answer is (B)", "答案是B", "\\boxed{B}"); where none is, the only capital letter that
    stands alone, and is not denied ("not A"). A response that names several, "A or B", chooses none.

    Args:
        prompt: not looked at.
        response: str.
        answer: the letter, as in "B" or "(b)", or its number from 0 on.

    Raises:
        ValueError: the answer is no letter from A to H.

    Example:
        >>> multiple_choice("", "It is red, so (B).", "B"), multiple_choice("", "答案是Ｂ", "B"), multiple_choice("", "A or B", "B")
        (1.0, 1.0, 0.0)
    """
    letter = str(answer).translate(PLAIN).strip(" ()[].:【】").upper()
    if letter.isdecimal() and int(letter) < 8:
        letter = "ABCDEFGH"[int(letter)]
    if not re.fullmatch("[A-H]", letter):
        raise ValueError(f"the answer {answer!r} is no letter from A to H")
    return float(chosen_letter(response) == letter)


def chosen_letter(text):
    """The letter that a text chooses, or None.

    Example:
        >>> chosen_letter("A dog is no cat, so the answer is **C**.")
        'C'
    """
    text = text.translate(PLAIN).strip()
    stated = [match for match in (*STATED.finditer(text), *BOXED.finditer(text)) if not (match[1] == "a" and WORD.match(text, match.end(1)))]
    if stated:
        last = max(stated, key=lambda match: match.end(1))
        return None if OTHER.match(text, last.end(1)) else last[1].upper()
    if re.fullmatch(r"[*(\[【\s]*[A-Ha-h][*)\]】\s.:、]*", text):  # nothing but a letter
        return re.search("[A-Ha-h]", text)[0].upper()
    is_choice = lambda match: not (match[1] == "A" and WORD.match(text, match.end()) or NOT.search(text[max(0, match.start() - 20) : match.start()]))
    letters = {match[1] for match in ALONE.finditer(text) if is_choice(match)}
    return letters.pop() if len(letters) == 1 else None


def matches(prompt, response, pattern):
    """Whether a regular expression of Python is found in the response. To fit the whole, begin it with ^ and end it with $.

    A pattern can take for ever on an unlucky response: `--reward-timeout` ends it.

    Args:
        prompt: not looked at.
        response: str; white space around it is left out.
        pattern: str.

    Raises:
        re.error: it is no regular expression.

    Example:
        >>> matches("", " 2024-05-31\\n", r"^\\d{4}-\\d\\d-\\d\\d$")
        1.0
    """
    return float(re.search(pattern, response.strip()) is not None)


def json_fits(prompt, response, schema=None):
    """Whether the response is JSON and nothing else (but white space, or a fence of ```) and fits a JSON Schema.

    Needs the extra: `pip install "ppo_keras[verifiable]"`, where there is a schema. What a schema refers to elsewhere is not fetched.

    Args:
        prompt: not looked at.
        response: str.
        schema: a JSON Schema, as text or as Python has it; None or an empty cell: any JSON.

    Raises:
        ValueError: the schema is none.
        InputError: the package jsonschema is not installed.

    Example:
        >>> json_fits("", '{"age": 7}', '{"required": ["age"]}'), json_fits("", "{'age': 7}"), json_fits("", "[1, NaN]")
        (1.0, 0.0, 0.0)
    """
    checker = None if schema is None or schema == "" else _checker(schema)
    fenced = re.fullmatch(r"```(?:json)?[^\S\n]*\n(.*)```", response.strip(), re.DOTALL | re.IGNORECASE)
    try:
        value = json.loads(fenced[1] if fenced else response, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return 0.0
    return float(checker is None or checker(value))


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def _checker(schema):
    """A function that says whether a value fits."""
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise InputError("a JSON Schema is checked by the package jsonschema. Install it with: pip install 'ppo_keras[verifiable]'.") from error
    try:
        schema = json.loads(schema) if isinstance(schema, str) else schema
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except (ValueError, TypeError, jsonschema.SchemaError) as error:
        raise ValueError(f"{schema!r} is no JSON Schema: {getattr(error, 'message', error)}") from error
    checker = kind(schema, registry=referencing.Registry())  # without one, jsonschema would fetch what a schema refers to

    def fits(value):
        try:
            return checker.is_valid(value)
        except RecursionError:  # a response that is too deep for a schema that refers to itself
            return False
        except referencing.exceptions.Unresolvable as error:
            raise ValueError(f"{schema!r} refers to what is not in it: {error}") from error

    return fits


def length(prompt, response, least_words=None, most_words=None, least_characters=None, most_characters=None):
    """Whether the response is as long as asked. Every Chinese or Japanese character counts as a word; white space around it not at all.

    Args:
        prompt: not looked at.
        response: str.
        least_words, most_words, least_characters, most_characters: numbers, as text too; None or an empty cell: any.

    Raises:
        ValueError: none of them is given.

    Example:
        >>> length("", " A short film. ", least_words=3, most_words=5), length("", "好电影", most_words=2)
        (1.0, 0.0)
    """
    text = response.strip()
    words = len(re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff](?:[^\s\u3040-\u30ff\u3400-\u9fff]*)", text))
    bounds = [(words, _bound(least_words), _bound(most_words)), (len(text), _bound(least_characters), _bound(most_characters))]
    if all(bound is None for bound in (least_words, most_words, least_characters, most_characters)):
        raise ValueError("there is no column least_words, most_words, least_characters or most_characters, so any length would do")
    return float(all((least is None or count >= least) and (most is None or count <= most) for count, least, most in bounds))


def _bound(value):
    return None if value is None or value == "" else float(value)


def language(prompt, response, language):
    """The share of the letters of the response that the language is written in, 0.0 to 1.0; a response without letters has 0.0.

    It goes by letters alone: of languages that share them (English and French, Russian and Bulgarian) it tells none from the other. The
    letters of "en" are those from A to Z; Japanese without kana is Chinese.

    Args:
        prompt: not looked at.
        response: str.
        language: "en", "zh", "ja", "ko", "ru", "el", "ar", "he", "hi" or "th".

    Raises:
        ValueError: another language.

    Example:
        >>> language("", "这部电影", "zh"), language("", "这部 film", "zh"), language("", "これは本です", "zh")
        (1.0, 0.3333333333333333, 0.16666666666666666)
    """
    if language not in SCRIPTS:
        raise ValueError(f"the letters of the language {language!r} are not known, only those of {', '.join(SCRIPTS)}")
    letters = [letter for letter in response if letter.isalpha()]
    scripts = ["LATIN" if letter.isascii() else unicodedata.name(letter, "").split(" ")[0] for letter in letters]
    if not letters or (language == "ja" and not set(scripts) & set(KANA)):
        return 0.0
    right = map(str.isascii, letters) if language == "en" else (script in SCRIPTS[language] for script in scripts)
    return sum(right) / len(letters)
