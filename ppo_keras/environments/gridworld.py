"""Grid worlds drawn as text, small enough that the exact values can be computed and set beside what a network learned."""

import os
import textwrap
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.environments.environment import Environment, Step
from ppo_keras.errors import InputError, require

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows and columns of each action; row 0 is the top
ARTICLE_MAP = ("SG", "SS")  # the states 2 and 4 above the states 1 and 3


class Solution(NamedTuple):
    """The best that can be done in a grid world, float64.

    | field | shape | meaning |
    |---|---|---|
    | `values` | `(cells,)` | V*: discounted return from each cell; 0 where the episode is over |
    | `action_values` | `(cells, 4)` | Q*, also of moves that are masked |
    | `optimal_actions` | bool `(cells, 4)` | the allowed actions as good as the best, up to rounding; all where it is over |
    """

    values: np.ndarray
    action_values: np.ndarray
    optimal_actions: np.ndarray


class GridWorld(Environment):
    """An agent on a map moves up (0), down (1), left (2) or right (3) until it enters a goal or a pit.

    The observation is the number of its cell, int32. Cells that are not walls are numbered column by column from the
    left, each column from the bottom upwards. A move into a wall or over the border leaves the agent where it is.

    Args:
        rows: strings of equal length, or one string with a line for each row: `#` wall, `.` free, `S` start (episodes
            begin in one of them, each as often; in any free cell if there is none), `G` goal, `X` pit.
        step_reward: of every step that enters none of the following.
        goal_reward, pit_reward: of entering a goal or a pit, which ends the episode.
        time_limit: steps after which an episode is cut off; None stands for four times the number of cells, at least 20.
        mask_walls: moves that bump are not allowed (but all four are where all four bump).
        entry_rewards: `{cell: reward}`, what entering these cells pays instead; staying in one is not entering it.

    Raises:
        InputError: the map cannot be used; the message says where.

    Example:
        >>> world = GridWorld(["..G", ".#X", "S.."], step_reward=-0.04)
        >>> world.solve(discount=0.99).values  # (8,)
    """

    name, actions = "gridworld", 4

    def __init__(self, rows, step_reward=0.0, goal_reward=1.0, pit_reward=-1.0, time_limit=None, mask_walls=False, entry_rewards=None):
        self.rows = rows = read_rows(rows)
        self.positions = [  # (row, column) of each cell, counted from the top left
            (row, column) for column in range(len(rows[0])) for row in reversed(range(len(rows))) if rows[row][column] != "#"
        ]
        kinds = np.array([rows[row][column] for row, column in self.positions])
        require("G" in kinds, "the map has no goal. Mark at least one cell with G.")
        self.terminal = np.isin(kinds, ["G", "X"])
        self.starts = np.flatnonzero(kinds == "S") if "S" in kinds else np.flatnonzero(~self.terminal)
        require(self.starts.size > 0, "the map has no cell to start from. Mark at least one with S (start) or . (free).")
        self.observation = len(kinds)
        self.time_limit = max(4 * len(kinds), 20) if time_limit is None else time_limit
        require(self.time_limit >= 1, f"time_limit={time_limit} is less than 1. Use a whole number of steps such as 20.")

        cell_at = {position: cell for cell, position in enumerate(self.positions)}
        self.next_cells = np.array(  # int32 (cells, 4)
            [[cell_at.get((row + down, column + right), cell) for down, right in MOVES] for (row, column), cell in cell_at.items()],
            np.int32,
        )
        self.next_cells[self.terminal] = np.flatnonzero(self.terminal)[:, np.newaxis]
        bumps = self.next_cells == np.arange(len(kinds))[:, np.newaxis]
        self.allowed = ~bumps | bumps.all(axis=-1, keepdims=True) if mask_walls else np.ones_like(bumps)
        self.mask_walls = mask_walls
        entry = np.select([kinds == "G", kinds == "X"], [goal_reward, pit_reward], step_reward).astype(np.float64)
        for cell, reward in (entry_rewards or {}).items():
            require(cell in range(len(kinds)), f"entry_rewards names cell {cell}. Use a cell in 0..{len(kinds) - 1}.")
            entry[cell] = reward
        self.rewards = np.where(bumps, step_reward, entry[self.next_cells])  # float64 (cells, 4)
        self.rewards[self.terminal] = 0.0
        self._check_starts()

    @classmethod
    def article(cls, own_numbers=False, **settings):
        """The grid world of four states of the article's section 4.3, whose layout the article leaves open.

        States 1 (bottom left), 2 (top left), 3 (bottom right) and 4 (top right, the goal) are the cells 0 to 3. An episode
        begins in any of the first three.

        Args:
            own_numbers: entering state 2 pays 1 too, as in the article's worked step, though nothing ends there. At a
                discount above 0.62 the best policy then goes to and fro between 1 and 2 and never to the goal; only the
                time limit ends the episode, and only the discount makes the values finite.
            **settings: of `GridWorld`.
        """
        return cls(ARTICLE_MAP, entry_rewards={1: 1.0} if own_numbers else None, **settings)

    @classmethod
    def load(cls, path, **settings):
        """Reads the map from a text file (UTF-8). `settings` are those of `GridWorld`.

        Raises:
            InputError: the file is missing, not UTF-8 or empty, or its map cannot be used.
        """
        path = os.fspath(path)
        try:
            with open(path, encoding="utf-8-sig") as file:
                text = file.read()
        except OSError as error:
            raise InputError(f"cannot read the map {path}: {error.strerror}. Give a text file, one row of the map a line.") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8. Save the map as plain text of the characters # . S G X.") from error
        try:
            return cls(text, **settings)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def reset(self, batch, seed):
        """See `Environment.reset`. Each start is as likely as every other."""
        chosen = tf.cast(randomness.uniform([batch], seed) * float(len(self.starts)), tf.int32)
        cells = tf.gather(tf.constant(self.starts, tf.int32), chosen)  # (B,)
        return (cells, tf.zeros([batch], tf.int32)), cells

    def step(self, state, actions, seed):
        """See `Environment.step`. Three tables are read; the seed is not used."""
        cells, elapsed = state
        moves, elapsed = cells * len(MOVES) + actions, elapsed + 1
        cells = tf.gather(tf.constant(self.next_cells.ravel()), moves)
        reward = tf.gather(tf.constant(self.rewards.ravel(), tf.float32), moves)
        terminated = tf.gather(tf.constant(self.terminal), cells)
        return Step((cells, elapsed), cells, reward, terminated, elapsed >= self.time_limit)

    def action_masks(self, state):
        """bool `(B, 4)`, False for moves that bump, if `mask_walls`; else ()."""
        return tf.gather(tf.constant(self.allowed), state[0]) if self.mask_walls else ()

    @property
    def reachable(self):
        """bool `(cells,)`: where an episode can come to, and does not end."""
        reached = np.zeros(len(self.terminal), bool)
        cells = list(self.starts)
        while cells:
            cell = cells.pop()
            if not (reached[cell] or self.terminal[cell]):
                reached[cell] = True
                cells.extend(self.next_cells[cell][self.allowed[cell]])
        return reached

    def policy_values(self, probabilities, discount):
        """Discounted return of a policy from each cell, float64 `(cells,)`, where no time limit cuts it off.

        Args:
            probabilities: `(cells, 4)`, of each action in each cell.
            discount: in [0, 1).

        Source: the Bellman equation V = r + gamma P V (Sutton and Barto 2018, eq. 3.14), solved for V.
        """
        require(0 <= discount < 1, f"discount={discount} is outside [0, 1), where exact values exist. Use a value such as 0.99.")
        transitions, rewards = self._under(probabilities)
        return np.linalg.solve(np.eye(self.observation) - discount * transitions, rewards)

    def solve(self, discount):
        """The `Solution` at a discount in [0, 1), where no time limit cuts episodes off.

        Source: policy iteration (Sutton and Barto 2018, section 4.3).
        """
        policy, total = np.argmax(self.allowed, axis=-1), -np.inf
        while True:
            values = self.policy_values(np.eye(len(MOVES))[policy], discount)
            if values.sum() <= total:  # sums that rise strictly cannot go round in circles among tied actions
                break
            total = values.sum()
            action_values = self.rewards + discount * values[self.next_cells]  # (cells, 4)
            allowed_values = np.where(self.allowed, action_values, -np.inf)
            policy = np.argmax(allowed_values, axis=-1)
        best = allowed_values.max(axis=-1, keepdims=True)
        return Solution(values, action_values, allowed_values >= best - 1e-9 * np.abs(best) - 1e-12)

    def policy_return(self, probabilities):
        """Mean undiscounted return of the episodes of a policy (`(cells, 4)`), cut off by the time limit: what is logged."""
        transitions, rewards = self._under(probabilities)
        cells = np.zeros(self.observation)  # the probability of being in each cell
        cells[self.starts] = 1.0 / self.starts.size
        total = 0.0
        for _ in range(self.time_limit):
            total += cells @ rewards
            cells = cells @ transitions
        return float(total)

    def optimal_return(self, discount):
        """`policy_return` of the policy that is best at this discount and takes tied actions equally often."""
        optimal = self.solve(discount).optimal_actions
        return self.policy_return(optimal / optimal.sum(axis=-1, keepdims=True))

    def _under(self, probabilities):
        """Transitions `(cells, cells)` and mean rewards `(cells,)` under a policy."""
        probabilities = np.asarray(probabilities, np.float64)
        require(
            probabilities.shape == self.rewards.shape and np.allclose(probabilities.sum(axis=-1), 1.0, atol=1e-4),
            f"the policy has shape {probabilities.shape}. Use {self.rewards.shape}, rows that sum to 1.",
        )
        transitions = np.zeros([self.observation, self.observation])
        np.add.at(transitions, (np.arange(self.observation)[:, np.newaxis], self.next_cells), probabilities)
        return transitions, np.sum(probabilities * self.rewards, axis=-1)

    def _check_starts(self):
        """Every start must have a way to a goal; none leads through a pit, whose next cell is itself."""
        reaches = np.array([self.rows[row][column] == "G" for row, column in self.positions])
        for _ in self.positions:
            reaches |= reaches[self.next_cells].any(axis=-1)
        for row, column in (self.positions[cell] for cell in self.starts if not reaches[cell]):
            raise InputError(
                f"no goal can be reached from row {row + 1}, column {column + 1}, where an episode can begin. Open a way to G, or mark only other cells with S."
            )


def read_rows(rows):
    """The rows of a map as a tuple of equally long strings of known characters; an `InputError` says what is wrong."""
    lines = textwrap.dedent(rows).splitlines() if isinstance(rows, str) else rows
    lines = [line.rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    require(bool(lines), "the map is empty. Give rows of equal length such as '..G' and 'S.#'.")
    for number, line in enumerate(lines, start=1):
        unknown = sorted(set(line) - set("#.SGX"))
        require(not unknown, f"row {number} of the map holds {''.join(unknown[:1])!r}. Use # wall, . free, S start, G goal, X pit.")
        require(
            len(line) == len(lines[0]),
            f"row {number} of the map has {len(line)} cells, row 1 has {len(lines[0])}. Make all rows equally long; # is a wall.",
        )
    return tuple(lines)
