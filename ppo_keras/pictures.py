"""Pictures of a run, as PNG files in its folder and as images in TensorBoard."""

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

ARROWS = ((0, 1), (0, -1), (-1, 0), (1, 0))  # up, down, left, right, as (x, y)


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


def grid_values(grid, values, probabilities):
    """A grid world with the value of each cell as its colour and the policy as arrows, as long as they are probable.

    Args:
        grid: a `GridWorld`.
        values: `(cells,)`.
        probabilities: `(cells, 4)`: up, down, left, right.

    Returns:
        A matplotlib `Figure`.
    """
    height, width = len(grid.rows), len(grid.rows[0])
    picture = np.full([height, width], np.nan)
    for cell, (row, column) in enumerate(grid.positions):
        if not grid.terminal[cell]:  # nothing is left to be earned there, and the critic never learned it
            picture[row, column] = values[cell]
    figure = Figure(figsize=(1.6 + max(3, 0.9 * width), 0.6 + max(2.5, 0.9 * height)), layout="constrained")
    axes = figure.add_subplot(title="values and policy", xticks=[], yticks=[])
    axes.set_facecolor("0.3")  # walls
    image = axes.imshow(picture, cmap="viridis")
    figure.colorbar(image, ax=axes, label="value of a state")
    low, high = np.nanmin(picture), np.nanmax(picture)
    for cell, (row, column) in enumerate(grid.positions):
        if grid.terminal[cell]:
            kind = grid.rows[row][column]
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color="white"))
            axes.text(column, row, "goal" if kind == "G" else "pit", ha="center", va="center")
            continue
        ink = "white" if values[cell] < (low + high) / 2 else "black"
        axes.text(column, row + 0.4, f"{values[cell]:.2f}", ha="center", va="center", color=ink, fontsize=8)
        for (x, y), probability in zip(ARROWS, probabilities[cell]):
            if probability > 0.05:
                reach = 0.32 * probability
                axes.arrow(column, row, x * reach, -y * reach, head_width=0.3 * reach, length_includes_head=True, color=ink)
    return figure


def png(figure):
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
