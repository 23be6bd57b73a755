"""`ppo_keras.environments.gridworld`: the dynamics of hand-drawn maps, and values worked out by hand and by brute force."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_close
from ppo_keras import randomness
from ppo_keras.environments.gridworld import ARTICLE_MAP, GridWorld
from ppo_keras.errors import InputError

UP, DOWN, LEFT, RIGHT = range(4)
SEED = tf.constant([3, 4])
MAP = ["..G", "S#X", "..."]  # the cells of the rows are 2 4 7, 1 # 6 and 0 3 5


def walk(world, cell, actions):
    """Cells, rewards, terminations and truncations of one agent that takes these actions from this cell."""
    state, steps = (tf.constant([cell]), tf.constant([0])), []
    for action in actions:
        step = world.step(state, tf.constant([action]), SEED)
        state = step.state
        steps.append([float(x[0]) for x in (step.observation, step.reward, step.terminated, step.truncated)])
    return np.array(steps).T


def brute_force(rows, step_reward, goal_reward, pit_reward, discount, masked=False):
    """V* by value iteration over the characters of a map, in the package's order of cells."""
    cells = [(r, c) for c in range(len(rows[0])) for r in range(len(rows) - 1, -1, -1) if rows[r][c] != "#"]
    pays = {"G": goal_reward, "X": pit_reward}
    values = dict.fromkeys(cells, 0.0)
    for _ in range(400):
        old, values = values, dict.fromkeys(cells, 0.0)
        for r, c in cells:
            if rows[r][c] in "GX":
                continue
            options = []
            for target in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if target in old:
                    kind = rows[target[0]][target[1]]
                    options.append(pays[kind] if kind in pays else step_reward + discount * old[target])
                elif not masked:
                    options.append(step_reward + discount * old[r, c])
            values[r, c] = max(options, default=step_reward + discount * old[r, c])
    return np.array([values[cell] for cell in cells])


def test_cells_are_numbered_by_column_from_the_bottom():
    """Catches: numbering by rows, from the top, or walls that take a number: the article's states would not be 0, 1, 2, 3."""
    assert GridWorld(MAP).positions == [(2, 0), (1, 0), (0, 0), (2, 1), (0, 1), (2, 2), (1, 2), (0, 2)]
    assert GridWorld.article().positions == [(1, 0), (0, 0), (1, 1), (0, 1)]
    assert GridWorld(MAP).observation == 8


def test_a_walk():
    """Catches: exchanged directions, walking through walls or borders, rewards of the cell that is left, pits like goals."""
    world = GridWorld(MAP, step_reward=-0.1, goal_reward=2.0, pit_reward=-3.0, time_limit=6)
    cells, rewards, terminated, truncated = walk(world, 1, [RIGHT, LEFT, UP, UP, RIGHT, RIGHT])
    assert_close(cells, [1, 1, 2, 2, 4, 7])  # the wall, the border, up, the border, right, the goal
    assert_close(rewards, [-0.1, -0.1, -0.1, -0.1, -0.1, 2.0])
    assert_close(terminated, [0, 0, 0, 0, 0, 1])
    assert_close(truncated, [0, 0, 0, 0, 0, 1])
    cells, rewards, terminated, truncated = walk(world, 1, [DOWN, RIGHT, RIGHT, UP, LEFT])
    assert_close(cells, [0, 3, 5, 6, 6])  # the last move is made in the pit, where everything is over
    assert_close(rewards, [-0.1, -0.1, -0.1, -3.0, 0.0])
    assert_close(terminated, [0, 0, 0, 1, 1])
    assert_close(truncated, np.zeros(5))


def test_the_time_limit():
    """Catches: an episode one step too long or too short, and a default limit too short for small maps or large ones."""
    assert_close(walk(GridWorld(MAP, time_limit=3), 0, [UP, DOWN, UP, DOWN])[3], [0, 0, 1, 1])
    assert GridWorld.article().time_limit == 20 and GridWorld(["S" * 9 + "G"]).time_limit == 40
    assert GridWorld.article(time_limit=1).time_limit == 1


@pytest.mark.parametrize("rows, starts", [(MAP, [1]), (["S.G", ".S."], [1, 2]), (["..G", ".X."], [0, 1, 3, 4]), (ARTICLE_MAP, [0, 1, 2])])
def test_episodes_begin_in_every_start_and_nowhere_else(rows, starts):
    """Catches: starts ignored, terminal cells as starts, or a start that is never or too often drawn (four standard errors)."""
    (cells, elapsed), observation = GridWorld(rows).reset(6000, SEED)
    np.testing.assert_array_equal(observation, cells)
    np.testing.assert_array_equal(elapsed, np.zeros(6000))
    drawn, counts = np.unique(cells, return_counts=True)
    np.testing.assert_array_equal(drawn, starts)
    share = 1 / len(starts)
    assert np.all(np.abs(counts / 6000 - share) <= 4 * np.sqrt(share * (1 - share) / 6000))


@pytest.mark.parametrize("bits, start", [(0, 0), (2**32 - 1, 2)])
def test_the_extreme_draws_are_starts(monkeypatch, bits, start):
    """Catches: a start beyond the last one when the random number is as near to 1 as it can be."""
    monkeypatch.setattr(randomness, "philox", lambda shape, *_: tf.fill(shape, tf.constant(bits, tf.uint32)))
    np.testing.assert_array_equal(GridWorld.article().reset(2, SEED)[1], [start, start])


def test_walls_are_masked_if_asked():
    """Catches: masks by default, masks that follow the border but not the walls, and a cell without any allowed move."""
    assert GridWorld(MAP).action_masks((tf.constant([0]), tf.constant([0]))) == ()
    world = GridWorld(["..G", "S#X", "#..", ".#."], mask_walls=True)
    # Cell 1 is the start, 0 the bottom left corner, closed on all sides, 3 lies under the wall and 4 above it.
    allowed = world.action_masks((tf.constant([1, 0, 3, 4]), tf.zeros([4], tf.int32)))
    expected = [[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1]]
    assert allowed.dtype == tf.bool
    np.testing.assert_array_equal(allowed, np.array(expected, bool))


def test_the_articles_values():
    """Catches: discounting the reward itself, a goal with a value, values of neighbours exchanged: V = 1, .99 and 0 by hand."""
    solution = GridWorld.article().solve(0.99)
    assert_close(solution.values, [0.99, 1.0, 1.0, 0.0], rtol=1e-12)
    g = 0.99  # rows: states 1, 2, 3, 4; columns: up, down, left, right
    expected = [[g, g * g, g * g, g], [g, g * g, g, 1], [1, g, g * g, g], [0, 0, 0, 0]]
    assert_close(solution.action_values, expected, rtol=1e-12)
    best = [[1, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(solution.optimal_actions, np.array(best, bool))
    assert GridWorld.article().optimal_return(0.99) == pytest.approx(1.0, rel=1e-12)


def test_the_articles_first_step():
    """Catches: `up` from state 1 that leads elsewhere than to state 2, or that pays (or ends) when it should not."""
    assert_close(walk(GridWorld.article(), 0, [UP, RIGHT]), [[1, 3], [0, 1], [0, 1], [0, 0]])
    assert_close(walk(GridWorld.article(own_numbers=True), 0, [UP, UP, DOWN]), [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_the_articles_own_numbers():
    """Catches: reward for staying in state 2, or policy iteration that stops at the goal.

    Going to and fro: V1 = 1 + g V2, V2 = g V1, so V1 = 1 / (1 - g^2); it beats the goal's 1 once g + g^2 > 1.
    """
    world, g = GridWorld.article(own_numbers=True), 0.99
    solution = world.solve(g)
    assert_close(solution.values, [1 / (1 - g * g), g / (1 - g * g), g / (1 - g * g), 0], rtol=1e-12)  # 50.25, 49.75, 49.75
    best = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(solution.optimal_actions, np.array(best, bool))
    assert_close(world.solve(0.5).values, [1.5, 1, 1, 0], rtol=1e-12)  # to the goal, from state 1 by way of state 2
    # In 20 steps each start enters state 2 ten times. At g = .5: from state 1 it is 1 + 1, from the others 1.
    assert world.optimal_return(g) == pytest.approx(10.0, rel=1e-12)
    assert world.optimal_return(0.5) == pytest.approx(4 / 3, rel=1e-12)


def test_returns_are_cut_off_by_the_time_limit():
    """Catches: a return that is discounted, that counts beyond the limit, or that starts in one place only."""
    world = GridWorld(["S..G", "#S##"], step_reward=-1, goal_reward=10, time_limit=3)
    assert world.optimal_return(0.9) == pytest.approx(8.0)  # -1 -1 +10 from either start
    world = GridWorld(["S..G", "#S##"], step_reward=-1, goal_reward=10, time_limit=2)
    assert world.optimal_return(0.9) == pytest.approx(-2.0)
    uniform = np.full([world.observation, 4], 0.25)  # the goal is three steps away: no policy reaches it
    assert world.policy_return(uniform) == pytest.approx(-2.0)


def test_values_of_a_policy_by_hand():
    """Catches: the best action's value in place of the mean, P transposed, or the reward taken from the wrong cell.

    In the corridor S . G an agent goes right with probability .5 and else left: V1 = g (V1 + V2) / 2, V2 = (1 + g V1) / 2.
    """
    probabilities = np.tile([0.0, 0.0, 0.5, 0.5], [3, 1])
    first = 0.9 / (4 - 2 * 0.9 - 0.81)
    assert_close(GridWorld(["S.G"]).policy_values(probabilities, 0.9), [first, (1 + 0.9 * first) / 2, 0], rtol=1e-12)
    standing = GridWorld(["S.G"], step_reward=-1).policy_values(np.tile([1.0, 0, 0, 0], [3, 1]), 0.9)
    assert_close(standing, [-10, -10, 0], rtol=1e-12)  # -1 / (1 - .9): bumping costs like every step
    # undiscounted, two steps: right and right pays 1 in a quarter of the episodes
    assert GridWorld(["S.G"], time_limit=2).policy_return(probabilities) == pytest.approx(0.25)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed, step_reward, discount", [(0, 0.0, 0.9), (1, -0.05, 0.9), (2, 0.1, 0.8), (3, -0.5, 0.95)])
def test_solutions_agree_with_brute_force(seed, step_reward, discount, masked):
    """Catches: policy iteration that stops early, follows masked moves, or walks through walls of a larger map."""
    random = np.random.default_rng(seed)
    rows = ["SG......"] + ["".join(random.choice(list("...##XG"), 8)) for _ in range(6)]
    world = GridWorld(rows, step_reward, goal_reward=1.5, pit_reward=-0.7, mask_walls=masked)
    solution = world.solve(discount)
    expected = brute_force(rows, step_reward, 1.5, -0.7, discount, masked)
    assert_close(solution.values, expected, rtol=1e-7, atol=1e-7)
    going_on = ~world.terminal[:, None] & solution.optimal_actions
    assert_close((solution.action_values - solution.values[:, None])[going_on], 0.0, atol=1e-8)
    others = np.where(world.allowed & ~solution.optimal_actions, solution.action_values, -np.inf).max(axis=-1)
    assert np.all(others < solution.values) and solution.optimal_actions.any(axis=-1).all()
    assert not np.any(solution.optimal_actions & ~world.allowed)


def test_a_long_way_at_a_small_discount_is_still_found():
    """Catches: an absolute tolerance, under which far from the goal all four actions look equally good."""
    world = GridWorld(["S" + 33 * "." + "G"])
    solution = world.solve(0.5)
    assert_close(solution.values[0], 0.5**33, rtol=1e-9, atol=0)
    assert np.all(solution.optimal_actions[:-1] == [False, False, False, True])
    assert world.optimal_return(0.5) == pytest.approx(1.0)


def test_entry_rewards_take_the_place_of_all_others():
    """Catches: rewards added to the goal's own, and keys that name another cell."""
    world = GridWorld(["S.G"], step_reward=-1, entry_rewards={0: 5.0, 2: 7.0})
    assert_close(walk(world, 1, [LEFT, LEFT, RIGHT, RIGHT])[1], [5, -1, -1, 7])


def test_a_map_from_a_file(tmp_path):
    """Catches: settings that get lost, and trailing blank lines, indentation, byte order mark or CRLF taken for cells."""
    path = tmp_path / "map.txt"
    path.write_bytes(b"\xef\xbb\xbf..G\r\nS#.\r\n\r\n  \r\n")
    world = GridWorld.load(path, step_reward=-0.5, mask_walls=True)
    assert world.rows == ("..G", "S#.") and world.mask_walls and world.rewards.min() == -0.5
    assert GridWorld("\n    ..G\n    S#.\n    ").rows == world.rows == GridWorld(("..G", "S#.")).rows


@pytest.mark.parametrize("rows", ["", "\n \n", [], ["", ""]])
def test_an_empty_map_is_refused(rows):
    """Catches: an IndexError in place of a message."""
    with pytest.raises(InputError, match=r"the map is empty\. Give rows"):
        GridWorld(rows)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(rows=["S..G", "..."]), r"row 2 of the map has 3 cells, row 1 has 4\. Make all rows equally long"),
        (dict(rows=["SG", "", ".."]), r"row 2 of the map has 0 cells, row 1 has 2\."),
        (dict(rows=["SG", ".Q"]), r"row 2 of the map holds 'Q'\. Use # wall, \. free, S start, G goal, X pit\."),
        (dict(rows=["S.", ".X"]), r"the map has no goal\. Mark at least one cell with G\."),
        (dict(rows=["#G", "X#"]), r"the map has no cell to start from\. Mark at least one with S"),
        (dict(rows=["S..G", "S.##", "##.S"]), r"no goal can be reached from row 3, column 4,"),
        (dict(rows=["SX.G", ".#.."]), r"no goal can be reached from row 1, column 1,"),
        (dict(rows=[".G", "##", ".#"]), r"no goal can be reached from row 3, column 1,"),
        (dict(rows=["SG"], time_limit=0), r"time_limit=0 is less than 1\. Use a whole number"),
        (dict(rows=["SG"], entry_rewards={2: 1.0}), r"entry_rewards names cell 2\. Use a cell in 0\.\.1\."),
    ],
)
def test_maps_that_cannot_be_used(arguments, message):
    """Catches: a map that is accepted though no episode can end well, and messages that do not say where."""
    with pytest.raises(InputError, match=message) as error:
        GridWorld(**arguments)
    assert "\n" not in str(error.value)


def test_start_cells_need_a_way_only_if_episodes_begin_there():
    """Catches: free cells checked although the starts are marked."""
    assert GridWorld(["SG", "##", ".#"]).observation == 3


def test_files_that_cannot_be_used(tmp_path):
    """Catches: a Python traceback, or a message that does not name the file."""
    path = tmp_path / "map.txt"
    with pytest.raises(InputError, match=r"cannot read the map .*map\.txt: No such file"):
        GridWorld.load(path)
    with pytest.raises(InputError, match=r"cannot read the map .*: Is a directory"):
        GridWorld.load(tmp_path)
    path.write_bytes(b"S\xff\xfeG")
    with pytest.raises(InputError, match=r"map\.txt is not UTF-8\. Save the map"):
        GridWorld.load(path)
    path.write_text("\n\n")
    with pytest.raises(InputError, match=r"map\.txt: the map is empty"):
        GridWorld.load(path)
    path.write_text("S.\n.G.\n")
    with pytest.raises(InputError, match=r"map\.txt: row 2 of the map has 3 cells, row 1 has 2"):
        GridWorld.load(path)


@pytest.mark.parametrize("discount", [-0.1, 1.0])
def test_discounts_without_exact_values_are_refused(discount):
    """Catches: a singular matrix, or values that mean nothing."""
    with pytest.raises(InputError, match=r"outside \[0, 1\)"):
        GridWorld.article().solve(discount)


@pytest.mark.parametrize("probabilities", [np.full([4, 3], 1 / 3), np.full([3, 4], 0.25), np.full([4, 4], 0.3)])
def test_policies_that_are_none_are_refused(probabilities):
    """Catches: logits in place of probabilities, and tables of another map."""
    with pytest.raises(InputError, match=r"the policy has shape \(\d, \d\)\. Use \(4, 4\)"):
        GridWorld.article().policy_values(probabilities, 0.9)
