"""Which rows of a data set stay. Every row that does not is counted, and the user is told how many went and why."""

import collections

from ppo_keras.datasets.left_out import PAIR_HELD_OUT, warn_left_out
from ppo_keras.datasets.subsets import take

REPEATED = "repeat an earlier one"
HELD_OUT = "are in a split held out as well"
TWO_LABELS = "have other labels in other rows, and nothing tells which is right"
BOTH_WAYS = "stand there the other way round as well, and nothing tells which is right"
EQUAL = "have the same text on both sides, which prefers nothing"
GATHERED = "give an earlier prompt one more reference"  # nothing is lost


def keep_distinct(name, splits):
    """The splits without rows that repeat or contradict others, and without what a split held out has as well.

    A text with two labels is left out with both: either may be the mistake. So is a pair that stands there both ways. A
    prompt that comes several times is one prompt with several references.

    Args:
        name: of the data, for the warnings.
        splits: {split: `Split`}, at least "train"; of clean texts.

    Returns:
        {split: `Split`}. No text of the test split, chosen or rejected, is in another one, and none of the validation
        split in train.
    """
    held_out, kept = set(), {}
    for split in ("test", "validation", "train"):
        if split not in splits:
            continue
        rows = splits[split]
        reasons = _reasons(rows, held_out)
        kept[split] = take(rows, [i for i, reason in enumerate(reasons) if reason is None])
        held_out.update(kept[split].texts, kept[split].rejected or ())
        place, total = f"the {split} split of {name}" if len(splits) > 1 else name, len(rows.texts)
        for why, count in collections.Counter(reason for reason in reasons if reason not in (None, GATHERED)).items():
            warn_left_out(count, total, rows.kind, place, why, f" of {split}" if why in (HELD_OUT, PAIR_HELD_OUT) else "")
    return kept


def _reasons(rows, held_out):
    """Why each row is left out: a list of reasons, None where it stays."""
    if rows.rejected is not None:
        return _reasons_of_pairs(list(zip(rows.texts, rows.rejected)), held_out)
    labels, first, reasons = collections.defaultdict(set), {}, []
    if rows.labels is not None:
        for text, label in zip(rows.texts, rows.labels.tolist()):
            labels[text].add(label)
    for i, text in enumerate(rows.texts):
        before = first.setdefault(text, i)
        if text in held_out:
            reasons.append(HELD_OUT)
        elif len(labels.get(text, ())) > 1:
            reasons.append(TWO_LABELS)
        elif before == i:
            reasons.append(None)
        else:
            reasons.append(GATHERED if rows.references and _gather(rows.references[before], rows.references[i]) else REPEATED)
    return reasons


def _gather(references, more):
    """Adds what is new among `more` references; whether there was something."""
    new = [reference for reference in more if reference not in references]
    references.extend(new)
    return bool(new)


def _reasons_of_pairs(pairs, held_out):
    everywhere, seen, reasons = set(pairs), set(), []
    for chosen, rejected in pairs:
        if chosen == rejected:
            reasons.append(EQUAL)
        elif chosen in held_out or rejected in held_out:
            reasons.append(PAIR_HELD_OUT)
        elif (rejected, chosen) in everywhere:
            reasons.append(BOTH_WAYS)
        else:
            reasons.append(REPEATED if (chosen, rejected) in seen else None)
        seen.add((chosen, rejected))
    return reasons
