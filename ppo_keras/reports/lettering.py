"""Type in pictures: fonts that have the characters, how wide a text is, where lines are broken, and numbers in few digits."""

import functools

import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

CHINESE = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans CN", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS")  # fmt: skip


@functools.cache
def families():
    """Names of fonts, first to last: matplotlib's own and, where one is installed, one with Chinese characters."""
    listed = lambda: {font.name for font in font_manager.fontManager.ttflist}
    if not listed() & set(CHINESE):  # matplotlib's list may be older than the font
        for path in font_manager.findSystemFonts():
            if path.lower().rpartition("/")[2].startswith(("notosanscjk", "sourcehansans", "wqy-", "msyh", "simhei")):
                font_manager.fontManager.addfont(path)
    return ["DejaVu Sans", *[name for name in CHINESE if name in listed()][:1]]


@functools.cache
def has_glyph(character):
    """Whether one of `families` has this character."""
    return any(font.get_char_index(ord(character)) for font in _fonts(*families()))


@functools.cache
def _fonts(*names):
    return [ft2font.FT2Font(font_manager.findfont(name)) for name in names]


def written(text):
    """A text with ? for each character that no font has; and whether there was one."""
    lacking = [c for c in text if not has_glyph(c)]
    return "".join("?" if c in lacking else c for c in text), bool(lacking)


MISSING = "? stands for a character that no installed font has (one that has: fonts-noto-cjk)"


def say_what_is_missing(figure, missing):
    """One line at the bottom, where characters had to be left out."""
    if missing:
        figure.text(0.01, 0.01, MISSING, fontsize=7, color="0.4")


@functools.cache
def _renderer():
    return FigureCanvasAgg(Figure(dpi=72)).get_renderer()  # a pixel a point


@functools.lru_cache(10_000)
def width_of(text, size):
    """How wide a text is in this size (points), in inches."""
    return _renderer().get_text_width_height_descent(text, FontProperties(family=families(), size=size), False)[0] / 72


def fitting(text, width, size):
    """A text, cut where it is wider than `width` inches, with … for the rest."""
    shown = text
    while width_of(shown, size) > width and len(shown) > 1:
        shown = shown[: -2 if shown.endswith("…") else -1] + "…"
    return shown


def broken(text, width, size):
    """A text in lines of at most `width` inches, broken at spaces, and within a word (or in Chinese) where there is none."""
    lines = []
    while width_of(text, size) > width:
        fits = next(n for n in range(len(text) - 1, 0, -1) if n == 1 or width_of(text[:n], size) <= width)
        space = text.rfind(" ", 1, fits + 1)
        lines.append(text[: space if space > 0 else fits].rstrip())
        text = text[space if space > 0 else fits :].lstrip()
    return [*lines, text]


def raised(number):
    """An exponent: 2 as ², -3 as ⁻³."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def power_of_ten(largest):
    """The multiple of 3 in whose power of ten numbers up to `largest` are written in few digits; 0 where they are as they stand."""
    return 0 if largest == 0 or 0.095 <= largest < 999.5 else int(3 * np.floor(np.log10(largest) / 3))


def short(number):
    """A number in three digits or less, with a minus that can be seen; 0 has none."""
    digits = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    return f"{number:z.{digits}f}".replace("-", "−")


def lines_of(cells, width):
    """Which tokens stand in each line: as many as fit, at least one. `cells` are their widths."""
    lines, used = [], np.inf
    for t, cell in enumerate(cells):
        if used + cell > width:
            lines.append([])
            used = 0.0
        lines[-1].append(t)
        used += cell
    return lines
