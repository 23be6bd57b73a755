"""Pictures of a run, as PNG files in its folder and as images in TensorBoard."""

import io

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ppo_keras.reports.lettering import (
    MISSING,
    broken,
    families,
    fitting,
    lines_of,
    power_of_ten,
    raised,
    say_what_is_missing,
    short,
    width_of,
    written,
)
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


def growth(found):
    """How the time of an iteration grows with each size: a line for each, from its least size on, beside a dotted one of its operations.

    Args:
        found: {name of a size: what has `sizes`, `seconds`, `operations` and the fitted `exponent`}.

    Returns:
        A matplotlib `Figure`, whose axes are logarithmic.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot(title="Time of an iteration", xlabel="size, times the least", ylabel="seconds, times those of the least size")
    for i, (name, one) in enumerate(found.items()):
        sizes, seconds, operations = (np.asarray(values) / values[0] for values in (one.sizes, one.seconds, one.operations))
        axes.loglog(sizes, operations, color=f"C{i}", linestyle=":", linewidth=1)
        axes.loglog(sizes, seconds, color=f"C{i}", marker="osv^Dx"[i % 6], label=f"{name}: {one.exponent:.2f}")
    axes.plot([], [], color="black", linestyle=":", linewidth=1, label="operations")
    axes.grid(alpha=0.3, which="both")
    axes.legend(title="exponent")
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


# light blue below 0, dark red above: the darker, the greater, so that signs are seen in grey, too
SIGNED = LinearSegmentedColormap.from_list("signed", [(0.0, "#b3e5ff"), (0.5, "#c2bdb9"), (0.75, "#c9665c"), (1.0, "#7a0014")])
CARD_WIDTH = 3.5  # inches; a card of the Images tab is 350 pixels wide, so that a point of type is 1.4 pixels there
TOKEN_TYPE, NUMBER_TYPE = 9, 8  # points


def token_heat_map(tokens, rows, title, width=CARD_WIDTH):
    """A response, token by token, in lines like a text; below each token its number in every measure: dark red above 0, light blue below.

    Args:
        tokens: `T` strings.
        rows: {name: array `(T,)`}; the largest number of a row has the strongest colour. A row of small or large numbers counts in powers
            of ten, which stand beside its name.
        title: of the picture.
        width: of the picture, in inches: it is read at the width at which it is shown.

    Returns:
        A matplotlib `Figure`, with axes for each line.
    """
    values = np.stack([np.asarray(row, np.float64) for row in rows.values()])  # (R, T)
    largest = np.max(np.abs(values), axis=1, where=np.isfinite(values), initial=0.0)
    shades = values / np.maximum(largest, 1e-8)[:, np.newaxis]
    powers = [power_of_ten(most) for most in largest]
    names = [name + (f" · 10{raised(power)}" if power else "") for name, power in zip(rows, powers)]
    numbers = [[short(x / 10.0**power) for x in row] for row, power in zip(values, powers)]
    left = 0.12 + max(width_of(name, NUMBER_TYPE) for name in names)
    labels, lacking = zip(*[written(fitting(token, width - left - 0.1, TOKEN_TYPE)) for token in tokens])
    cells = [0.08 + max(width_of(labels[t], TOKEN_TYPE), *(width_of(row[t], NUMBER_TYPE) for row in numbers)) for t in range(len(tokens))]
    lines = lines_of(cells, width - left - 0.02)
    head = broken(written(title)[0], width - 0.1, TOKEN_TYPE)
    note = broken(MISSING, width - 0.1, NUMBER_TYPE) if any(lacking) else []
    step, row_height = 0.15, 0.15  # of lines of text and of rows, inches
    height = 0.2 + row_height * len(rows) + 0.09  # of a line of tokens
    top = 0.08 + step * len(head)
    high = top + height * len(lines) + step * len(note) + 0.06
    figure = Figure(figsize=(width, high))
    write = lambda text, y, **style: figure.text(0.05 / width, y, text, va="top", family=families(), parse_math=False, linespacing=1.0, **style)
    write("\n".join(head), 1 - 0.05 / high, fontsize=TOKEN_TYPE)
    for i, line in enumerate(lines):
        edges = np.cumsum([0.0, *(cells[t] for t in line)])
        middles = (edges[:-1] + edges[1:]) / 2
        below = top + height * i + 0.2
        axes = figure.add_axes([left / width, 1 - (below + row_height * len(rows)) / high, edges[-1] / width, row_height * len(rows) / high])
        mesh = axes.pcolormesh(edges, np.arange(len(rows) + 1) - 0.5, shades[:, line], cmap=SIGNED, vmin=-1, vmax=1, edgecolors="white", linewidth=1)
        axes.invert_yaxis()
        axes.set_yticks(range(len(rows)), names, fontsize=NUMBER_TYPE, family=families(), parse_math=False)
        axes.set_xticks(middles, [labels[t] for t in line], fontsize=TOKEN_TYPE, family=families(), parse_math=False)
        axes.tick_params(top=False, labeltop=True, bottom=False, labelbottom=False, left=False, pad=1)
        axes.spines[:].set_visible(False)
        for r, row in enumerate(numbers):
            for x, t in zip(middles, line):
                axes.text(x, r, row[t], ha="center", va="center_baseline", fontsize=NUMBER_TYPE, color=ink_on(mesh.cmap(mesh.norm(shades[r, t]))))
    if note:
        write("\n".join(note), (0.06 + step * len(note)) / high, fontsize=NUMBER_TYPE, color="0.3")
    return figure


def luminance(colour):
    """Of a colour (red, green, blue from 0 to 1), from 0 (black) to 1 (white): WCAG 2's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def ink_on(colour):
    """Black or white, whichever contrasts more (WCAG 2: the ratio of the luminances, each plus 0.05)."""
    return "black" if (luminance(colour) + 0.05) ** 2 > 0.05 * 1.05 else "white"


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


def png(figure, dpi=120):
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
