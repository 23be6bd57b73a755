"""Preference pairs share texts: several answers are ranked against each other. Here they are parted so that no text is on both sides."""

import collections
import warnings

from ppo_keras.datasets.left_out import PAIR_HELD_OUT, warn_left_out
from ppo_keras.errors import DataWarning, InputError


def groups_of(pairs):
    """The number of the group of each pair: pairs that share a text, or are linked by others that do, are one group.

    Args:
        pairs: list of N (chosen, rejected).

    Returns:
        list of N ints.

    Example:
        >>> groups_of([("a", "b"), ("c", "d"), ("e", "b")])
        [0, 1, 0]
    """
    parent = {text: text for pair in pairs for text in pair}

    def root(text):
        while parent[text] != text:
            parent[text] = text = parent[parent[text]]
        return text

    for chosen, rejected in pairs:
        parent[root(rejected)] = root(chosen)
    numbers = {}
    return [numbers.setdefault(root(chosen), len(numbers)) for chosen, _ in pairs]


def carve_pairs(pairs, names, order, source):
    """Takes a tenth of the pairs for each split held out; no text of one is in another.

    Groups stay whole. Where none is small enough (every text is compared with every other), part of the largest is taken,
    and the pairs that link it to the rest are left out, with a warning: at most as many as are held out may be, a tenth.

    Args:
        pairs: list of N (chosen, rejected).
        names: of the splits to be held out.
        order: ints `(N,)`, the rows in the order in which they are taken.
        source: the name of the data, for the messages.

    Returns:
        {"train": list of rows, name: list of rows}.

    Raises:
        InputError: every pair is linked to so many others that nothing can be held out.
    """
    size = max(len(pairs) // 10, min(2, len(pairs) // (len(names) + 1)))  # two, so that halves can be made
    groups, chosen = _groups(pairs, order), {}
    for name in names:
        rows = chosen[name] = []
        for group in [group for group, members in groups.items() if len(members) <= size]:
            if len(rows) + len(groups[group]) <= size:
                rows.extend(groups.pop(group))
        if size and not rows:
            largest = max(groups.values(), key=len, default=[])
            inside, touched = _part(pairs, largest, size)
            if not inside:
                raise InputError(f"the pairs of {source} share so many texts that no {name} split can be taken out. Give --validation-data and --test-data.")
            rows.extend(inside)
            warn_left_out(len(touched) - len(inside), len(pairs), "pairs", source, PAIR_HELD_OUT, f" ({name})")
            largest[:] = [row for row in largest if row not in touched]
    return {"train": [row for members in groups.values() for row in members]} | chosen


def deal_pairs(pairs, order):
    """The rows of two halves, lists: each group goes whole to the smaller one. Where more than half of the pairs are one group,
    pairs are dealt in turn, and the halves share texts, with a warning.

    Args:
        pairs: list of N (chosen, rejected).
        order: ints `(N,)`, the rows in the order in which they are dealt.
    """
    groups = sorted(_groups(pairs, order).values(), key=len, reverse=True)
    if groups and len(groups[0]) > max(1, len(pairs) // 2):
        warnings.warn(
            f"{len(groups[0])} of {len(pairs)} preference pairs are linked by common texts, so reward model and judge learn from some of the same.",
            DataWarning,
            stacklevel=3,
        )
        return order[::2], order[1::2]
    halves = [], []
    for rows in groups:
        min(halves, key=len).extend(rows)
    return halves


def _groups(pairs, order):
    """{number: the rows of a group}, both in the order given."""
    numbers, groups = groups_of(pairs), {}
    for row in order:
        groups.setdefault(numbers[row], []).append(row)
    return groups


def _part(pairs, rows, size):
    """Up to `size` pairs of a group, and the set of all rows that have one of their texts, no more than twice `size`."""
    having = collections.defaultdict(list)
    for row in rows:
        for text in pairs[row]:
            having[text].append(row)
    held_out, inside, touched = set(), [], set()
    for row in rows:
        if held_out.issuperset(pairs[row]):
            continue  # it came with others
        near = {other for text in pairs[row] for other in having[text]}
        wider = lambda text, pair=pairs[row]: text in held_out or text in pair
        gained = [other for other in sorted(near) if all(map(wider, pairs[other])) and not held_out.issuperset(pairs[other])]
        if len(inside) + len(gained) <= size and len(touched) + len(near - touched) <= 2 * size:
            held_out.update(pairs[row])
            inside.extend(gained)
            touched |= near
    return inside, touched
