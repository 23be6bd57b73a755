"""`ppo_keras.reports.pictures`: what is drawn is what was given, read back from the figure."""

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrow, Rectangle

from helpers import assert_close
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.reports import lettering, pictures

STEPS = np.array([128.0, 256.0, 512.0, 640.0])  # not evenly spaced
RETURNS = np.array([[0.0, 2.0, 3.0, 9.0], [4.0, 2.0, 9.0, 1.0], [5.0, 8.0, 3.0, -1.0]])
MEANS, DEVIATIONS = [3, 4, 5, 3], np.sqrt([7, 12, 12, 28])  # by hand: (9 + 1 + 4) / 2, (4 + 4 + 16) / 2, ...
GRID = ["..G", "S#X"]  # cells by columns, from below: 0 (S), 1, 2 (beside the wall), 3 (X), 4 (G)
POSITIONS = [(1, 0), (0, 0), (0, 1), (1, 2), (0, 2)]  # (row, column)
VALUES = np.array([-0.5, 0.125, 1.0, 7.0, 8.0])  # those of the pit and the goal mean nothing
PROBABILITIES = np.array([[0.75, 0.25, 0, 0], [0.04, 0.06, 0.2, 0.7], [0, 0, 0, 1], [0.25] * 4, [0.25] * 4])
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}  # (row, column), in the order of the actions


def curve(returns=RETURNS, **options):
    """The axes of a learning curve."""
    (axes,) = pictures.learning_curve([np.stack([STEPS, one], 1) for one in np.atleast_2d(returns)], "title", **options).axes
    return axes


def edges(polygon):
    """Lower and upper edge of a filled area at each of STEPS, from its vertices."""
    vertices = np.concatenate([path.vertices for path in polygon.get_paths()])
    assert set(vertices[:, 0]) == set(STEPS)
    return np.transpose([(vertices[vertices[:, 0] == x, 1].min(), vertices[vertices[:, 0] == x, 1].max()) for x in STEPS])


def lines_of(axes):
    """{label: (x, y)} of the lines with a label, and a list of those without."""
    named = {line.get_label(): line.get_data() for line in axes.lines if not line.get_label().startswith("_")}
    return named, [line.get_data() for line in axes.lines if line.get_label().startswith("_")]


def test_one_curve():
    """Catches: steps and returns exchanged, a curve that is smoothed, a spread drawn where there is one seed only."""
    axes = curve(RETURNS[0])
    named, others = lines_of(axes)
    assert list(named) == ["return"] and others == [] and not axes.collections
    assert_close(named["return"], [STEPS, RETURNS[0]], rtol=0)
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("title", "environment steps", "return of an episode")


def test_the_mean_and_every_seed():
    """Catches: a mean over steps, a seed left out or in another's place."""
    named, others = lines_of(curve())
    assert list(named) == ["mean"]
    assert_close(named["mean"], [STEPS, MEANS])
    assert_close(others, [[STEPS, one] for one in RETURNS], rtol=0)


def test_the_spread_by_hand():
    """Catches: the deviation of a population (ddof=0), a standard error, the least and most of all steps, areas with each other's labels."""
    areas = {area.get_label(): area for area in curve().collections if isinstance(area, PolyCollection)}
    assert list(areas) == ["least to most", "mean +- standard deviation"]
    assert_close(edges(areas["least to most"]), [[0, 2, 3, -1], [5, 8, 9, 9]])
    assert_close(edges(areas["mean +- standard deviation"]), [MEANS - DEVIATIONS, MEANS + DEVIATIONS])


def test_what_is_not_known_is_not_drawn():
    """Catches: a curve that begins at 0 before an episode has ended, a mean of those seeds only in which one had."""
    early = np.array([[np.nan, np.nan, 3.0, 9.0], [np.nan, 2.0, 9.0, 1.0], [np.nan, 8.0, 3.0, -1.0]])
    axes = curve(early)
    named, others = lines_of(axes)
    assert_close(named["mean"], [STEPS[2:], MEANS[2:]])
    assert_close(others, [[STEPS[2:], one[2:]] for one in RETURNS], rtol=0)
    assert {x for area in axes.collections for path in area.get_paths() for x in path.vertices[:, 0]} == set(STEPS[2:])
    named, _ = lines_of(curve(early[:1]))
    assert_close(named["return"], [STEPS[2:], early[0, 2:]], rtol=0)
    assert pictures.png(curve(np.full([2, 4], np.nan)).figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("returns, labels", [(RETURNS[0], ["return"]), (RETURNS, ["least to most", "mean +- standard deviation", "mean"])])
def test_the_best_possible_is_a_line(returns, labels):
    """Catches: a baseline at another height or without its name, one drawn where there is none, a legend that leaves something out."""
    axes = curve(returns, baseline=(0.75, "optimal policy"))
    named, _ = lines_of(axes)
    assert set(named["optimal policy"][1]) == {0.75}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [*labels, "optimal policy"]
    assert [text.get_text() for text in curve(returns).get_legend().get_texts()] == labels


def grid(rows=GRID, values=VALUES, probabilities=PROBABILITIES):
    """The axes of a grid, and those of its colour bar."""
    return pictures.grid_values(GridWorld(rows), values, probabilities).axes


def arrows_of(axes):
    """{(row, column): {direction: length}} of all arrows, from the vertices of their polygons."""
    found = {}
    for arrow in (patch for patch in axes.patches if isinstance(patch, FancyArrow)):
        vertices = arrow.get_xy()[:, ::-1]  # (row, column)
        start = tuple(int(x) for x in np.round(vertices.mean(axis=0)))
        tip = vertices[0] - start  # matplotlib begins with it
        (direction,) = [name for name, way in DIRECTIONS.items() if np.allclose(tip, np.array(way) * np.abs(tip).sum(), atol=1e-6)]
        found.setdefault(start, {})[direction] = float(np.abs(tip).sum())
    return found


def test_rows_run_downwards():
    """Catches: a map upside down: row 0 is the top, as in the text file."""
    axes, _ = grid()
    bottom, top = axes.get_ylim()
    left, right = axes.get_xlim()
    assert bottom == 1.5 and top == -0.5 and (left, right) == (-0.5, 2.5)


def test_arrows_by_hand():
    """Catches: up for down, left for right, rows for columns, lengths that are not the probability, arrows in the goal, the pit or a wall."""
    arrows = arrows_of(grid()[0])
    assert arrows == {
        (1, 0): {"up": pytest.approx(0.75 * 0.32), "down": pytest.approx(0.25 * 0.32)},
        (0, 0): {"down": pytest.approx(0.06 * 0.32), "left": pytest.approx(0.2 * 0.32), "right": pytest.approx(0.7 * 0.32)},  # 0.04 is too little
        (0, 1): {"right": pytest.approx(0.32)},
    }


def test_arrows_stay_in_their_cells():
    """Catches: an arrow whose head reaches into the next cell, so that nobody can tell whose it is."""
    for arrow in (patch for patch in grid()[0].patches if isinstance(patch, FancyArrow)):
        vertices = arrow.get_xy()
        assert np.all(np.abs(vertices - np.round(vertices.mean(axis=0))) < 0.5)


def test_arrows_begin_in_the_middle():
    """Catches: an improbable "down" that is seen above the middle, four equally probable moves that make an unreadable star."""
    for arrow in (patch for patch in grid()[0].patches if isinstance(patch, FancyArrow)):
        vertices = arrow.get_xy()
        vertices = vertices - np.round(vertices.mean(axis=0))
        assert np.all(vertices @ vertices[0] >= -1e-6)


def test_values_are_written_into_their_cells():
    """Catches: values of other cells, goal and pit exchanged, a number where nothing is left to be earned, a text in a wall."""
    texts = {(round(text.get_position()[1]), text.get_position()[0]): text.get_text() for text in grid()[0].texts}
    assert texts == {(1, 0): "-0.50", (0, 0): "0.12", (0, 1): "1.00", (1, 2): "pit", (0, 2): "goal"}


def test_a_grid_in_another_language():
    """Catches: words that were asked for and stand elsewhere, English words left over."""
    axes, bar = pictures.grid_values(GridWorld(GRID), VALUES, PROBABILITIES, words=("标题", "价值", "终点", "陷阱")).axes
    words = [text.get_text() for text in axes.texts if not text.get_text().lstrip("-")[0].isdigit()]
    assert (axes.get_title(), bar.get_ylabel(), words) == ("标题", "价值", ["陷阱", "终点"])


def test_values_are_the_colours():
    """Catches: colours of other cells; a scale that the goal, the pit or a wall takes part in; a colour bar without a name."""
    axes, bar = grid()
    (image,) = axes.images
    shown = np.ma.filled(image.get_array().astype(float), np.nan)
    np.testing.assert_array_equal(shown, [[0.125, 1.0, np.nan], [-0.5, np.nan, np.nan]])
    assert image.get_clim() == (-0.5, 1.0) and bar.get_ylabel() == "value of a state"
    assert {(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in axes.patches if isinstance(patch, Rectangle)} == {(0, 2), (1, 2)}  # white: no value


def test_ink_can_be_read():
    """Catches: dark numbers and arrows on the dark end of the colours, light ones on the light end."""
    axes, _ = grid()
    (image,) = axes.images
    for text in axes.texts:
        row, column = round(text.get_position()[1]), text.get_position()[0]
        if text.get_text() not in ("goal", "pit"):
            background = np.mean(image.cmap(image.norm(image.get_array()[row, column]))[:3])
            assert abs(np.mean(to_rgb(text.get_color())) - background) > 0.4


def test_ink_can_be_read_where_all_values_are_equal():
    """Catches: black on dark violet."""
    axes, _ = grid(["SG"], np.array([1.0, 0.0]), PROBABILITIES[:2])
    (image,) = axes.images
    background = np.mean(image.cmap(image.norm(image.get_array()[0, 0]))[:3])
    assert abs(np.mean(to_rgb(axes.texts[0].get_color())) - background) > 0.4


def test_a_policy_of_every_grid_can_be_drawn():
    """Catches: a size that does not grow with the map, so that the numbers lie one over the other."""
    sizes = []
    for side in (2, 12):
        world = GridWorld(["." * side] * (side - 1) + ["." * (side - 1) + "G"])
        figure = pictures.grid_values(world, np.zeros(side**2), np.full([side**2, 4], 0.25))
        assert sum(isinstance(patch, FancyArrow) for patch in figure.axes[0].patches) == 4 * (side**2 - 1)
        sizes.append(figure.get_size_inches())
    assert np.all(sizes[1] / 12 > 0.7)


WORDS = "▁the ▁film ▁is ▁re mar k able ▁, ▁a ▁story ▁with ▁an ▁ending ▁that ▁will ▁stay ▁unforgettable ▁. <0x0A> </s>".split()
CARD = 350  # pixels across a card of TensorBoard's Images tab (its style sheet says so), to whose width every picture is scaled


def heat(tokens=tuple(f"token-{letter}" for letter in "abcdefg"), width=2.4, **rows):
    """Axes of a heat map of seven tokens, in a width that has room for three: three lines, the last of one token."""
    rows = rows or {"KL": np.arange(7) - 3.0, "value": np.array([0.0, 0, 0, 0, 0, 0, 0.5])}
    return pictures.token_heat_map(list(tokens), rows, "a title", width).axes


def response(length=60, scale=1.0, seed=0):
    """A figure of a long response, and its numbers."""
    random = np.random.default_rng(seed)
    rows = {name: random.normal(0, scale * size, length) for name, size in (("KL", 0.2), ("advantage", 1.5), ("value", 0.4))}
    return pictures.token_heat_map([WORDS[t % len(WORDS)] for t in range(length)], rows, "The film is a rather long prompt that ... (score 0.93)"), rows


def numbers_of(axes):
    """The texts in the cells, (R, T), of one line."""
    rows, columns = axes.collections[0].get_array().shape
    return np.reshape([text.get_text() for text in axes.texts], (rows, columns))


def test_a_heat_map_by_hand():
    """Catches: a token under another's colour or number, rows exchanged, one scale for all rows, tokens lost at the end of a line."""
    axes = heat()
    shown = np.concatenate([one.collections[0].get_array() for one in axes], axis=1)
    assert_close(shown, [[-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1], [0, 0, 0, 0, 0, 0, 1]])
    assert [[tick.get_text() for tick in one.get_xticklabels()] for one in axes] == [[f"token-{letter}" for letter in line] for line in ("abc", "def", "g")]
    assert [[tick.get_text() for tick in one.get_yticklabels()] for one in axes] == [["KL", "value"]] * 3
    assert numbers_of(axes[0]).tolist() == [["−3.00", "−2.00", "−1.00"], ["0.00", "0.00", "0.00"]]
    assert numbers_of(axes[2]).tolist() == [["3.00"], ["0.50"]]
    assert axes[0].collections[0].get_clim() == (-1, 1) and axes[0].figure.texts[0].get_text() == "a title"
    assert axes[0].get_ylim()[0] > axes[0].get_ylim()[1]  # the first row is the upper one
    for one in axes:
        edges = one.collections[0].get_coordinates()[0, :, 0]
        assert_close(one.get_xticks(), (edges[1:] + edges[:-1]) / 2)
        assert_close([text.get_position()[0] for text in one.texts], [*one.get_xticks()] * 2)


def test_a_row_of_zeros_has_no_sign():
    """Catches: a division by 0 at the first iteration, where the KL is 0; a minus before 0."""
    (axes,) = heat("ab", KL=np.array([0.0, -0.0]))
    assert_close(axes.collections[0].get_array(), [[0, 0]])
    assert numbers_of(axes).tolist() == [["0.00", "0.00"]]


@pytest.mark.parametrize(
    "numbers, name, written",
    [
        ([1.25e-3, -4e-5], "KL · 10⁻³", ["1.25", "−0.04"]),
        ([0.1, -0.004], "KL", ["0.10", "0.00"]),
        ([98.76, -9.996], "KL", ["98.8", "−10.0"]),
        ([12345.6, -700.0], "KL · 10³", ["12.3", "−0.70"]),
        ([-3e-7, 1e-7], "KL · 10⁻⁹", ["−300", "100"]),
        ([999.4, 1.0], "KL", ["999", "1.00"]),
    ],
)
def test_small_and_large_numbers_have_few_digits(numbers, name, written):
    """Catches: a row of 0.00 where the KL is small, numbers wider than their cell, a power of ten that is not the number's."""
    (axes,) = heat("ab", KL=np.array(numbers))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [name] and numbers_of(axes).tolist() == [written]


def test_everything_stands_in_its_place():
    """Catches: a label beyond the edge of the picture or over its neighbour, a number beyond its cell, a line over the one above."""
    figure, _ = response(24)
    figure.savefig("/dev/null", format="png")
    width, height = figure.canvas.get_width_height()
    above = figure.texts[0].get_window_extent().y0
    for axes in figure.axes:
        labels = [label.get_window_extent() for label in axes.get_xticklabels()]
        for box in [*labels, *(label.get_window_extent() for label in axes.get_yticklabels()), axes.get_window_extent()]:
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert all(left.x1 < right.x0 for left, right in zip(labels, labels[1:]))
        assert min(box.y0 for box in labels) >= axes.get_window_extent().y1 and max(box.y1 for box in labels) <= above
        edges = axes.transData.transform(axes.collections[0].get_coordinates()[:, :, :].reshape(-1, 2)).reshape(*axes.collections[0].get_coordinates().shape)
        rows, columns = axes.collections[0].get_array().shape
        for i, text in enumerate(axes.texts):
            r, t = divmod(i, columns)
            cell, box = edges[r : r + 2, t : t + 2].reshape(-1, 2), text.get_window_extent()
            assert box.x0 > cell[:, 0].min() and box.x1 < cell[:, 0].max() and box.y0 > cell[:, 1].min() - 1 and box.y1 < cell[:, 1].max() + 1
        above = axes.get_window_extent().y0
    assert figure.texts[0].get_window_extent().x1 <= width


def test_type_is_large_where_tensorboard_shows_it():
    """Catches: type of 4 pixels at the width of a card, a line that is longer than a card is wide, a picture higher than a card."""
    figure, _ = response()
    pixels = CARD / figure.get_figwidth() / 72  # of a point
    texts = [text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts)]
    assert min(text.get_fontsize() for text in (*texts, *figure.texts)) * pixels >= 11
    assert all(len(axes.get_xticks()) <= 6 for axes in figure.axes)
    assert figure.get_figheight() * CARD / figure.get_figwidth() <= 1024  # beyond, the card scrolls


def test_signs_and_sizes_are_seen_in_grey():
    """Catches: red and blue of one lightness: in grey, or to an eye that knows no red, +1 and -1 are the same."""
    luminance = np.array([pictures.luminance(colour) for colour in pictures.SIGNED(np.linspace(0, 1, 101))])
    assert np.all(np.diff(luminance) < 0)
    below, zero, above = luminance[[0, 50, 100]]
    assert (below + 0.05) / (zero + 0.05) > 1.3 and (zero + 0.05) / (above + 0.05) > 4
    red, _, blue, _ = pictures.SIGNED(1.0)
    assert red > 2 * blue and pictures.SIGNED(0.0)[2] > pictures.SIGNED(0.0)[0]


def test_ink_of_numbers_can_be_read():
    """Catches: black numbers on dark red; less contrast than WCAG 2 asks for (4.5)."""
    figure, _ = response()
    for axes in figure.axes:
        mesh = axes.collections[0]
        for text, shade in zip(axes.texts, mesh.get_array().ravel()):
            inks = sorted([pictures.luminance(to_rgb(text.get_color())) + 0.05, pictures.luminance(mesh.cmap(mesh.norm(shade))) + 0.05])
            assert inks[1] / inks[0] > 4.5


def test_a_token_longer_than_a_line_is_cut():
    """Catches: a token that runs beyond the picture; one that is cut without a sign, or although it fits."""
    (first, second) = heat(["▁" + "very" * 30, "film"], KL=np.ones(2))
    (long,), (short,) = (axes.get_xticklabels() for axes in (first, second))
    assert long.get_text().startswith("▁very") and long.get_text().endswith("…") and short.get_text() == "film"
    assert long.get_window_extent().x1 <= first.figure.canvas.get_width_height()[0]


def test_a_long_title_is_broken():
    """Catches: a prompt that is cut at the edge, or broken within a word; Chinese without spaces, which cannot be broken between words."""
    title = "The ending of this rather long prompt which goes on and on for a while ... (score 0.10)"
    text = pictures.token_heat_map(["a"], {"KL": np.ones(1)}, title).texts[0].get_text()
    assert "\n" in text and text.replace("\n", " ") == title
    lines = lettering.broken("x" * 100, 2.0, 9)
    assert "".join(lines) == "x" * 100 and len(lines) > 1
    assert max(lettering.width_of(line, 9) for line in lines) <= 2.0
    assert lettering.broken("", 2.0, 9) == [""] and lettering.broken("a film", 2.0, 9) == ["a film"]


def test_attention_by_hand():
    """Catches: layers for heads, keys for queries, the last steps of a long sequence left out, labels in the inner panels or none at the rim."""
    weights = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4) / 96
    figure = pictures.attention_map(list("abcd"), weights, "title", most=3)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"layer {i}, head {j}" for i in (1, 2) for j in (1, 2, 3)]
    other = pictures.attention_map(list("abcd"), weights, "title", panel="第{}层第{}头")
    assert other.axes[3].get_title() == "第2层第1头"
    for i, (axes, expected) in enumerate(zip(figure.axes, weights.reshape(6, 4, 4))):
        assert_close(axes.images[0].get_array(), expected[1:, 1:])
        assert [tick.get_text() for tick in axes.get_xticklabels()] == (list("bcd") if i >= 3 else [""] * 3)
        assert [tick.get_text() for tick in axes.get_yticklabels()] == (list("bcd") if i % 3 == 0 else [""] * 3)


def test_characters_without_a_font_are_said_once(monkeypatch):
    """Catches: a picture full of boxes and no word about why; a note where nothing is missing, or one beyond the edge."""
    monkeypatch.setattr(lettering, "has_glyph", lambda character: ord(character) < 0x4E00)
    axes = heat(["电影", "a好", "b"], KL=np.ones(3))
    assert [tick.get_text() for one in axes for tick in one.get_xticklabels()] == ["??", "a?", "b"]
    (note,) = [text for text in axes[0].figure.texts if "no installed font" in text.get_text().replace("\n", " ")]
    box, (width, _) = note.get_window_extent(), axes[0].figure.canvas.get_width_height()
    assert box.x1 <= width and 0 <= box.y0 and box.y1 < axes[-1].get_window_extent().y0
    assert len(heat("abc", KL=np.ones(3))[0].figure.texts) == 1


def test_a_font_of_this_machine_is_found():
    """Catches: boxes although a Chinese font is installed; Latin letters that nothing has."""
    assert pictures.written("a $x_1$ ▁é </s>") == ("a $x_1$ ▁é </s>", False) and not lettering.has_glyph("\U0010fffd")
    assert len(pictures.families()) == 1 or pictures.written("电影很好") == ("电影很好", False)


@pytest.mark.parametrize("draw", [lambda: curve().figure, lambda: grid()[0].figure], ids=["curve", "grid"])
def test_a_png_is_one_and_of_a_size_to_look_at(draw):
    """Catches: another format, an empty picture, one too small to read or too large for a screen; a window that is opened."""
    figure = draw()
    content = pictures.png(figure)
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    pixels = tf.io.decode_png(content, channels=3).numpy()
    assert pixels.shape[:2] == tuple(int(x * 120) for x in reversed(figure.get_size_inches()))
    assert 300 <= min(pixels.shape[:2]) and max(pixels.shape[:2]) <= 1500 and pixels.std() > 10


def test_the_bars_of_several_runs():
    """Catches: a bar of another run or measure, an interval drawn as its ends instead of its reach, a measure that one run lacks moved to the other."""
    interval = lambda estimate, low=None, high=None: dict(estimate=estimate, low=low, high=high)
    results = [
        {"run": "runs/a", "stage": "after", "measures": {"return": interval(2.0, 1.5, 3.0), "seconds": interval(7.0)}},
        {"run": "runs/b", "stage": "best", "measures": {"reward": interval(-1.0, -2.0, -0.5), "seconds": interval(9.0)}},
    ]
    figure = pictures.measure_bars(results)
    panels = {axes.get_title().split(" ")[0]: axes for axes in figure.axes}
    assert list(panels) == ["return", "reward", "run"]
    heights = lambda name: [bar.get_height() for bar in panels[name].patches]
    np.testing.assert_array_equal(heights("return"), [2.0, np.nan])
    np.testing.assert_array_equal(heights("reward"), [np.nan, -1.0])
    np.testing.assert_array_equal(heights("run"), [7.0, 9.0])
    reaches = lambda name: [
        segment[:, 1].tolist() for bars in panels[name].containers if getattr(bars, "errorbar", None) for segment in bars.errorbar.lines[2][0].get_segments()
    ]
    assert reaches("return") == [[1.5, 3.0]] and reaches("reward") == [[-2.0, -0.5]] and reaches("run") == []
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["runs/a, after", "runs/b, best"]
    assert [to_rgb(bar.get_facecolor()) for bar in panels["run"].patches] == [to_rgb(colour) for colour in pictures.COLOURS[:2]]
    assert pictures.png(figure).startswith(b"\x89PNG")


def test_names_of_runs_are_no_formulas():
    """Catches: a run called `a$b$` whose dollars vanish, or `$\\bad$`, which draws nothing but an error."""
    names = ["runs/a$b$", r"$\bad$", "_x"]
    results = [{"run": name, "stage": "after", "measures": {"seconds": dict(estimate=1.0, low=None, high=None)}} for name in names]
    figure = pictures.measure_bars(results)
    assert pictures.png(figure).startswith(b"\x89PNG")
    texts = figure.legends[0].get_texts()
    assert [text.get_text() for text in texts] == [f"{name}, after" for name in names] and not any(text.get_parse_math() for text in texts)
