"""Pictures of a run, as PNG files in its folder and as images in TensorBoard."""

import functools
import io

import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ppo_keras.reports.measures import MEASURES

ARROWS = ((0, 1), (0, -1), (-1, 0), (1, 0))  # up, down, left, right, as (x, y)
GRID_WORDS = ("values and policy", "value of a state", "goal", "pit")


def learning_curve(curves, title, baseline=None):
    """The return of finished episodes over steps: a line for each seed and, of several, their mean and spread.

    Args:
        curves: for each seed an array `(N, 2)` of environment steps and returns, in the same steps; NaN where none is known.
        title: of the picture.
        baseline: a return to draw as a line, such as the best possible one, with its label; or None.

    Returns:
        A matplotlib `Figure`.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="environment steps", ylabel="return of an episode")
    returns = np.stack([curve[:, 1] for curve in curves])
    returns = returns[:, known := ~np.isnan(returns).any(axis=0)]  # before an episode has ended there is no return
    steps, mean = curves[0][known, 0], returns.mean(axis=0)
    if len(curves) > 1:
        axes.fill_between(steps, returns.min(axis=0), returns.max(axis=0), alpha=0.15, color="C0", label="least to most")
        deviation = returns.std(axis=0, ddof=1)
        axes.fill_between(steps, mean - deviation, mean + deviation, alpha=0.3, color="C0", label="mean +- standard deviation")
        for one in returns:
            axes.plot(steps, one, color="C0", alpha=0.3, linewidth=0.7)
    axes.plot(steps, mean, color="C0", label="mean" if len(curves) > 1 else "return")
    if baseline is not None:
        axes.axhline(baseline[0], color="black", linestyle=":", label=baseline[1])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def grid_values(grid, values, probabilities, words=GRID_WORDS):
    """A grid world with the value of each cell as its colour and the policy as arrows, as long as they are probable.

    Args:
        grid: a `GridWorld`.
        values: `(cells,)`.
        probabilities: `(cells, 4)`: up, down, left, right.
        words: title, name of the colours, and what is written into a goal and a pit; for another language.

    Returns:
        A matplotlib `Figure`.
    """
    title, value, goal, pit = words
    height, width = len(grid.rows), len(grid.rows[0])
    picture = np.full([height, width], np.nan)
    for cell, (row, column) in enumerate(grid.positions):
        if not grid.terminal[cell]:  # nothing is left to be earned there, and the critic never learned it
            picture[row, column] = values[cell]
    figure = Figure(figsize=(1.6 + max(3, 0.9 * width), 0.6 + max(2.5, 0.9 * height)), layout="constrained")
    axes = figure.add_subplot(title=title, xticks=[], yticks=[])
    axes.set_facecolor("0.3")  # walls
    image = axes.imshow(picture, cmap="viridis")
    figure.colorbar(image, ax=axes, label=value)
    low, high = np.nanmin(picture), np.nanmax(picture)
    for cell, (row, column) in enumerate(grid.positions):
        if grid.terminal[cell]:
            kind = grid.rows[row][column]
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color="white"))
            axes.text(column, row, goal if kind == "G" else pit, ha="center", va="center")
            continue
        ink = "white" if values[cell] < (low + high) / 2 else "black"
        axes.text(column, row + 0.4, f"{values[cell]:.2f}", ha="center", va="center", color=ink, fontsize=8)
        for (x, y), probability in zip(ARROWS, probabilities[cell]):
            if probability > 0.05:
                reach = 0.32 * probability
                axes.arrow(column, row, x * reach, -y * reach, head_width=0.3 * reach, length_includes_head=True, color=ink)
    return figure


def token_heat_map(tokens, rows, title, per_line=9):
    """A response, token by token, with a row of colours for each measure: red above 0, blue below.

    Args:
        tokens: `T` strings.
        rows: {name: array `(T,)`}; the largest number of a row, written beside it, has the strongest colour.
        title: of the picture.
        per_line: tokens in a line; longer responses have several.

    Returns:
        A matplotlib `Figure`, with axes for each line.
    """
    values = np.stack(list(rows.values()))  # (R, T)
    largest = np.abs(values).max(axis=1)
    names = [f"{name}, ± {most:.2g}" for name, most in zip(rows, largest)]
    values = values / np.maximum(largest, 1e-8)[:, np.newaxis]
    lines = -(-len(tokens) // per_line)
    width = min(per_line, len(tokens))
    height = 0.85 + 0.24 * len(rows)  # of a line, in inches
    figure = Figure(figsize=(max(5.0, 2.1 + 0.52 * width), 0.7 + height * lines))
    wide, high = figure.get_size_inches()
    figure.text(0.1 / wide, 1 - 0.1 / high, written(title)[0], va="top", family=families(), parse_math=False)
    missing = False
    for line in range(lines):
        part = slice(line * per_line, (line + 1) * per_line)
        labels, lacking = zip(*map(written, tokens[part]))
        missing = missing or any(lacking)
        bottom = 1 - (0.35 + height * (line + 1)) / high
        axes = figure.add_axes([1.35 / wide, bottom, 0.52 * len(labels) / wide, 0.24 * len(rows) / high])
        axes.imshow(values[:, part], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.set_xticks(range(len(labels)), labels, rotation=40, ha="left", fontsize=8, family=families(), parse_math=False)
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=2, pad=1)
    say_what_is_missing(figure, missing)
    return figure


def attention_map(labels, weights, title, most=48, panel="layer {}, head {}"):
    """What each step attends to: a panel a layer (down) and head (across); a row a step, dark where it looks.

    Args:
        labels: `T` strings, of the steps.
        weights: `(L, H, T, T)`, rows sum to 1.
        title: of the picture.
        most: steps that are drawn; of more, the last.
        panel: title of a panel, for another language.

    Returns:
        A matplotlib `Figure`.
    """
    labels, weights = labels[-most:], weights[:, :, -most:, -most:]
    layers, heads, steps, _ = weights.shape
    side = max(2.0, 0.13 * steps)
    figure = Figure(figsize=(0.6 + (side + 0.5) * heads, 1.2 + (side + 0.9) * layers), layout="constrained")
    figure.suptitle(written(title)[0], family=families(), parse_math=False, fontsize=10)
    labels, lacking = zip(*map(written, labels))
    for layer in range(layers):
        for head in range(heads):
            axes = figure.add_subplot(layers, heads, layer * heads + head + 1)
            axes.set_title(panel.format(layer + 1, head + 1), fontsize=8)
            axes.imshow(weights[layer, head], cmap="Greys", vmin=0, vmax=1)
            for set_ticks, rotation, shown in ((axes.set_xticks, 90, layer + 1 == layers), (axes.set_yticks, 0, head == 0)):
                names = labels if shown else [""] * steps  # once a row and a column of panels
                set_ticks(range(steps), names, rotation=rotation, fontsize=6, family=families(), parse_math=False)
    say_what_is_missing(figure, any(lacking))
    return figure


COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")  # Okabe and Ito (2008): for all eyes


def measure_bars(results, per_row=4):
    """What `ppo-keras evaluate` measured: a panel for each measure, in it a bar for each run, with its confidence interval.

    Args:
        results: dicts as in `evaluation.json`.
        per_row: panels side by side.

    Returns:
        A matplotlib `Figure`.
    """
    names = [name for name in MEASURES if any(name in result["measures"] for result in results)]
    rows = -(-len(names) // per_row)
    figure = Figure(figsize=(3.0 * per_row, 2.3 * rows + 0.25 * len(results) + 0.2), layout="constrained")
    bars = []
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, per_row, i + 1)
        axes.set_title(MEASURES[name][0], fontsize=9)
        bars = []
        for x, result in enumerate(results):
            interval = result["measures"].get(name) or dict(estimate=np.nan, low=None, high=None)
            middle = interval["estimate"]
            reach = None if interval["low"] is None else [[middle - interval["low"]], [interval["high"] - middle]]
            bars.append(axes.bar(x, middle, yerr=reach, color=COLOURS[x % len(COLOURS)], capsize=4, ecolor="0.2"))
        axes.set_xticks([])
        axes.set_xlim(-0.8, len(results) - 0.2)
        axes.tick_params(labelsize=8)
        axes.yaxis.get_offset_text().set_fontsize(8)
        axes.axhline(0, color="0.2", linewidth=0.8)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    labels = [written(f"{result['run']}, {result['stage']}")[0] for result in results]
    legend = figure.legend(bars, labels, loc="outside lower left", frameon=False, prop=dict(family=families(), size=9))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


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


def say_what_is_missing(figure, missing):
    """One line at the bottom, where characters had to be left out."""
    if missing:
        figure.text(0.01, 0.01, "? stands for a character that no installed font has (one that has: fonts-noto-cjk)", fontsize=7, color="0.4")


def png(figure, dpi=120):
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
