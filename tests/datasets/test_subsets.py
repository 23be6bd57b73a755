"""`ppo_keras.datasets.subsets`: whatever part of the data is taken, it holds every class or is refused."""

import numpy as np
import pytest

from ppo_keras.datasets.loader import Split, load_pairs, load_texts
from ppo_keras.datasets.pairs import deal_pairs
from ppo_keras.datasets.subsets import carve, check_classes, halves, take
from ppo_keras.errors import DataWarning, InputError


def labelled(*labels):
    """A `Split` whose texts tell their labels: "1 of row 0"."""
    return Split([f"{label} of row {i}" for i, label in enumerate(labels)], np.array(labels, np.int32))


def counts(split):
    return np.bincount(split.labels, minlength=2).tolist()


@pytest.mark.parametrize("labels", [[0, 1] * 20, [0] * 20 + [1] * 20, [1, 0, 0] * 11, [0] * 31 + [1, 1]], ids=["alternating", "sorted", "odd", "rare"])
def test_halves_hold_each_class_alike(labels):
    """Catches: even and odd rows, which give each half one class where labels alternate; rows in both halves or in none; labels of other rows."""
    whole = labelled(*labels)
    one, other = halves(whole, seed=3)
    assert sorted(one.texts + other.texts) == sorted(whole.texts)
    assert all(abs(a - b) <= 1 for a, b in zip(counts(one), counts(other))) and abs(len(one.texts) - len(other.texts)) <= 1
    for half in (one, other):
        assert all(text.startswith(f"{label} ") for text, label in zip(half.texts, half.labels))


def test_halves_are_shuffled_by_the_seed():
    """Catches: halves that follow the order of the file, a seed that is not used, another draw when a run is opened again."""
    whole = labelled(*[0] * 50, *[1] * 50)
    draws = [halves(whole, seed)[0].texts for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2] and draws[0] not in (whole.texts[::2], whole.texts[1::2])


def test_halves_of_pairs_keep_the_pairs():
    """Catches: a rejected text that leaves its chosen one, pairs dealt by their place."""
    pairs = Split([f"good {i}" for i in range(40)], rejected=[f"bad {i}" for i in range(40)])
    one, other = halves(pairs, seed=0)
    assert len(one.texts) == len(other.texts) == 20 and not set(one.texts) & set(other.texts) and one.texts != pairs.texts[::2]
    assert all(text.replace("good", "bad") == rejected for half in (one, other) for text, rejected in zip(half.texts, half.rejected))
    assert [len(half.texts) for half in halves(take(pairs, [0]), seed=0)] == [1, 0] and [half.texts for half in halves(take(pairs, []), 0)] == [[], []]


def test_halves_of_pairs_share_no_text():
    """Catches: answers to one prompt ranked against each other, dealt to the reward model and to its judge; halves of very different size."""
    sizes = [1] * 20 + [10]  # how many others each best answer is ranked against
    ranked = [(f"best {i}", f"worse {i} {k}") for i, size in enumerate(sizes) for k in range(size)]
    pairs = Split([better for better, _ in ranked], rejected=[worse for _, worse in ranked])
    assert [len(half) for half in deal_pairs(ranked, list(range(30)))] == [15, 15]  # the large group comes last
    for seed in range(4):
        halved = halves(pairs, seed)
        one, other = ({*half.texts, *half.rejected} for half in halved)
        assert not one & other and [len(half.texts) for half in halved] == [15, 15]
    chain = Split([f"{i}" for i in range(40)], rejected=[f"{i + 1}" for i in range(40)])  # every pair is linked to every other
    with pytest.warns(DataWarning, match="^40 of 40 preference pairs are linked by common texts, so reward model and judge learn from some of the same.$"):
        assert [len(half.texts) for half in halves(chain, seed=0)] == [20, 20]


@pytest.mark.parametrize("count, train, held_out", [(200, 160, 20), (19, 15, 2), (6, 2, 2), (5, 3, 1), (3, 1, 1), (2, 2, 0)])
def test_few_texts_of_a_class_are_shared_out(count, train, held_out):
    """Catches: a tenth of nineteen, which is one: no half of it can hold the class; a class of three that training does not see."""
    parts = carve(labelled(*[0] * 200, *[1] * count), ["validation", "test"], 0, "a.tsv")
    assert [counts(parts[name]) for name in ("train", "validation", "test")] == [[160, train], [20, held_out], [20, held_out]]


def test_a_subset_without_a_class_is_refused():
    """Catches: a model of one class, right about everything it is shown; a message that names neither the class nor the subset."""
    check_classes(labelled(0, 1), ("dull", "fine"), "a half", "Add some.")
    check_classes(Split(["a"]), None, "a half", "Add some.")
    with pytest.raises(InputError, match="^a half holds no text with the label 'fine'. Add some.$"):
        check_classes(labelled(0, 0), ("dull", "fine"), "a half", "Add some.")
    with pytest.raises(InputError, match="^a half holds no text. Add some.$"):
        check_classes(labelled(), ("dull", "fine"), "a half", "Add some.")
    with pytest.raises(InputError, match="the label '1', '2', '3' and 6 more. Add"):
        check_classes(labelled(0), [str(i) for i in range(10)], "a half", "Add some.")


def test_a_class_lost_with_repeated_texts(tmp_path):
    """Catches: one class left, because the other's texts stand under both labels and the check came before they were left out."""
    rows = "".join(f"film {i}\tyes\n" for i in range(90)) + "".join(f"film {i}\tno\n" for i in range(40))
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + rows)
    with pytest.raises(InputError, match="the train split of .*a.tsv holds no text with the label 'negative'.*stand under no other, or remove it.$"):
        load_texts(tmp_path / "a.tsv", minimum=8)


def test_a_split_that_stays_empty(tmp_path):
    """Catches: a validation or test split of nothing, which fails when the first stage of the training has ended."""
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(InputError, match="the validation split of .*a.txt holds no text. Add texts"):
        load_texts(tmp_path / "a.txt", minimum=1)
    (tmp_path / "a.tsv").write_text("question\tanswer\nOne?\t1\n")
    with pytest.raises(InputError, match="the validation split of .*a.tsv holds no text"):
        load_pairs(tmp_path / "a.tsv", minimum=1)


def test_held_out_files_are_mixed(tmp_path):
    """Catches: the first texts of a file that is sorted by label, taken for a sample of it; another order for another seed, whose runs are compared."""
    for name, count in (("train", 100), ("held_out", 40)):
        rows = "".join(f"{name} {i}\t{i // (count // 2)}\n" for i in range(count))
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\n" + rows)
    first, other = (load_texts(tmp_path / "train.tsv", test_data=tmp_path / "held_out.tsv", seed=seed) for seed in (0, 1))
    assert 3 <= first.test.labels[:10].sum() <= 7 and first.test.labels.sum() == 20
    assert all(int(text.split()[1]) // 20 == label for text, label in zip(first.test.texts, first.test.labels))
    assert first.test.texts == other.test.texts and first.validation.texts != other.validation.texts
