"""`ppo_keras.runs.glossary`: one list of metrics, which README shows. `test_generation_task.py` compares it with what a run writes."""

import re
from pathlib import Path

import pytest

from ppo_keras.runs.glossary import GLOSSARY, METRIC_NAMES, PARTS, glossary_table, meaning_of

README = Path(__file__).parents[2] / "README.md"


def test_readme_shows_the_glossary():
    """Catches: a table in the README that was not renewed after a metric changed (python -c "...glossary_table()")."""
    assert glossary_table() in README.read_text(encoding="utf-8")


def test_every_name_is_unique():
    """Catches: two meanings of one tag."""
    names = [metric.name for metric in GLOSSARY]
    assert len(names) == len(set(names)) and METRIC_NAMES == tuple(names)


@pytest.mark.parametrize("metric", GLOSSARY, ids=lambda metric: metric.name)
def test_every_metric_is_explained(metric):
    """Catches: a tag that is not `group/metric`, or one without a meaning."""
    assert re.fullmatch(r"[a-z]+/[a-z_]+", metric.name)
    assert len(metric.meaning) > 10


@pytest.mark.parametrize(
    "stage, measures", [("writer", ["cross_entropy", "accuracy"]), ("reward", ["cross_entropy", "accuracy"]), ("judge", ["cross_entropy", "accuracy"])]
)
def test_every_supervised_stage_is_explained(stage, measures):
    """Catches: a stage whose curves `SupervisedRecorder` drops, because the glossary does not name them."""
    named = [name for name in METRIC_NAMES if name.startswith(stage + "/")]
    assert named == [f"{stage}/loss", *(f"{stage}/validation_{measure}" for measure in measures)]


def test_the_table_has_a_row_a_metric_and_six_cells_a_row():
    """Catches: a "|" in a meaning, which breaks the Markdown table, or a row left out."""
    head, line, *rows = glossary_table().splitlines()
    assert line == "|---|---|---|---|---|---|"
    assert [row.split("|")[1].strip() for row in rows] == [f"`{metric.name}`" for metric in (*GLOSSARY, PARTS)]
    assert {row.count("|") for row in (head, *rows)} == {7}


def test_names_elsewhere_are_code_and_notes_are_not():
    """Catches: a note such as "train/loss (negated)" shown as if it were a tag."""
    table = glossary_table()
    assert "| `objective/kl` |" in table and "| `train/approx_kl` |" in table and "| train/entropy_loss (negated) |" in table


def test_what_a_tag_means():
    """Catches: a part of a reward without a word about it, one that takes the place of a metric of that name, a word about any tag."""
    assert meaning_of("reward/correct").startswith(PARTS.meaning) and PARTS.healthy in meaning_of("reward/correct")
    assert meaning_of("reward/loss").startswith("cross-entropy of the reward model") and meaning_of("final/reward_after").startswith("mean score")
    assert meaning_of("batch/ratio") is None
