"""`tutorials/` and its `chapter.py`: every chapter runs, its pair has the same code, its notebook is its own, its links lead somewhere."""

import re
import sys
from pathlib import Path

import jupytext
import matplotlib
import nbformat
import numpy as np
import pytest

import chapter as module
from chapter import SOLVED, Chapter
from chapters import run_chapter
from ppo_keras.errors import InputError
from ppo_keras.pretrained.sources import smollm2

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "tutorials"
NAMES = sorted(path.stem for path in (TUTORIALS / "en").glob("*.py"))
PAGES = [*TUTORIALS.glob("[ez][nh]/*.py"), TUTORIALS / "README.md", ROOT / "README.md"]
NOTEBOOKS = [TUTORIALS / language / f"{name}.ipynb" for name in NAMES for language in ("en", "zh")]
ORDER = list(dict.fromkeys(re.findall(r"\(en/(\w+)\.ipynb\)", (TUTORIALS / "README.md").read_text(encoding="utf-8"))))
PRETRAINED = "06_5_large_language_model"
every_chapter = pytest.mark.parametrize("name", NAMES)
running_chapters = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.pretrained) if name == PRETRAINED else name for name in NAMES])


def cells_of(path):
    """(kind, source) of every cell of a chapter."""
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def skip_without_its_model(name):
    """Skips the test of a chapter whose checkpoint cannot be had."""
    if name == PRETRAINED:
        for package in ("gguf", "tokenizers", "jinja2"):
            pytest.importorskip(package)
        try:
            smollm2()
        except InputError as error:
            pytest.skip(str(error))


@running_chapters
def test_a_chapter_runs_and_its_solutions_are_right(name):
    """Catches: a chapter that the package left behind, mathematics in it that does not hold, a solution that its check refuses."""
    skip_without_its_model(name)
    printed, error = run_chapter(name)
    assert not error, error[-3000:]
    assert "exercise 2: right" in printed


@pytest.mark.full
@running_chapters
def test_a_chapter_runs_as_it_is_published(name):
    """Catches: the same where only all iterations, or XLA, show it; a method that does not learn what the chapter says."""
    skip_without_its_model(name)
    printed, error = run_chapter(name, full=True)
    assert not error, error[-3000:]


def test_a_chapter_without_its_model_says_so(tmp_path):
    """Catches: a traceback for a reader without a network."""
    nowhere = {
        "PPO_KERAS_CACHE": str(tmp_path),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
    }
    printed, error = run_chapter(PRETRAINED, environment=nowhere)
    assert not error, error[-3000:]
    assert printed.startswith("SmolLM2 cannot be had, so the chapter ends here:") and printed.count("\n") == 1


@every_chapter
def test_the_pair_has_the_same_code(name):
    """Catches: a chapter mended in one language only, a cell that was left out, prose that was not translated."""
    english, chinese = (cells_of(TUTORIALS / language / f"{name}.py") for language in ("en", "zh"))
    assert [kind for kind, _ in english] == [kind for kind, _ in chinese]
    for (kind, ours), (_, theirs) in zip(english, chinese):
        assert ours == theirs if kind == "code" else re.search("[\u4e00-\u9fff]", theirs), ours[:200]


def test_no_chapter_is_in_one_language_only():
    """Catches: a chapter without its pair or its solutions."""
    for folder in ("zh", "solutions"):
        assert sorted(path.stem for path in (TUTORIALS / folder).glob("*.py")) == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(TUTORIALS).as_posix())
def test_a_notebook_comes_from_its_script(path):
    """Catches: a notebook of an older script, one that failed, one without its figures, with a path of the author's, or too large for the web
    (python tutorials/build.py)."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == cells_of(path.with_suffix(".py"))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    for output in outputs:
        texts = [output.get("text", ""), *[str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/")]]
        assert not re.search(r"/work/|/root/|/home/|/tmp/|site-packages", " ".join(texts))
    shown = sum("image/png" in output.get("data", {}) for output in outputs)
    assert (shown > 0) == ("chapter.show(" in path.with_suffix(".py").read_text(encoding="utf-8")) and path.stat().st_size < 400_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    """Catches: a chapter renamed under a link to it."""
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.parametrize("language, other", [("en", "zh"), ("zh", "en")])
@every_chapter
def test_a_chapter_leads_to_its_neighbours(name, language, other):
    """Catches: a chapter that the overview forgets, a reader who finds no way from one chapter to the next or to the other language."""
    title = cells_of(TUTORIALS / language / f"{name}.py")[0][1]
    at = ORDER.index(name)
    neighbours = [f"{one}.ipynb" for one in [*ORDER[:at][-1:], *ORDER[at + 1 :][:1]]]
    assert sorted(ORDER) == NAMES
    assert re.findall(r"\]\(([^)#\s]+\.(?:ipynb|md))\)", title) == ["../README.md", *neighbours, f"../{other}/{name}.ipynb"]


@every_chapter
def test_no_chapter_names_a_path_of_one_machine(name):
    """Catches: a folder of the author's, or a download, in a chapter."""
    text = (TUTORIALS / "en" / f"{name}.py").read_text(encoding="utf-8")
    assert not re.search(r"/work/|/root/|/tmp/|urlretrieve|get_file\(", text)


# The class `Chapter`.


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A function: a chapter of this language, as in a notebook whose folder is `tutorials/LANGUAGE`."""

    def begin(language="en"):
        place = tmp_path / "tutorials" / language
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(place)
        monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
        return Chapter("chapter")

    with matplotlib.rc_context():  # a chapter sets fonts and colours
        yield begin


@pytest.mark.parametrize("language, words", [("en", "value"), ("zh", "价值")])
def test_a_chapter_speaks_its_language(chapter, tmp_path, language, words):
    """Catches: English in a Chinese chapter, pictures in the folder of the other language."""
    begun = chapter(language)
    assert begun.text("value", "价值") == words
    assert begun.folder == tmp_path / "runs" / "tutorials" / language / "chapter" and begun.folder.is_dir()


def test_labels_without_a_font_are_english(chapter, monkeypatch):
    """Catches: a figure full of boxes where no Chinese font is installed."""
    monkeypatch.setattr(module.pictures, "families", lambda: ["DejaVu Sans"])
    assert chapter("zh").label("value", "价值") == "value"


@pytest.mark.parametrize(
    "answer, expected, said",
    [
        (0.25, 0.25, "right"),
        ([1.0, 2.0], np.array([1, 2]), "right"),
        (1e-7, 0.0, "right"),
        (0.5, 0.25, "off by up to 0.25"),
        ([1.0, 2.5], [1.0, 2.0], "off by up to 0.5"),
        ([1.0], [1.0, 2.0], "has shape (1,), expected (2,)"),
        (float("nan"), 1.0, "off by up to nan"),
        (None, 1.0, "not answered yet"),
    ],
)
def test_a_check_says_right_or_how_far_off(chapter, capsys, answer, expected, said):
    """Catches: a wrong answer that passes by broadcasting, one that is refused for its rounding, an open one that counts as wrong work."""
    begun = chapter()
    begun.check(answer, expected)
    assert capsys.readouterr().out == f"exercise 1: {said}\n" and begun.wrong == ([] if said == "right" else [1])


def test_solutions_answer_and_must_be_right(chapter, tmp_path, monkeypatch):
    """Catches: solutions that nobody reads, or one that is wrong and passes."""
    (tmp_path / "tutorials" / "solutions").mkdir(parents=True)
    (tmp_path / "tutorials" / "solutions" / "chapter.py").write_text("def two():\n    return 2\n")
    begun = chapter()

    def two():
        return None

    assert begun.exercise(two)() is None
    monkeypatch.setenv(SOLVED, "1")
    assert begun.exercise(two)() == 2
    begun.check(begun.exercise(two)(), 2.0)
    with pytest.raises(AssertionError, match="exercise 2 of chapter"):
        begun.check(begun.exercise(two)(), 3.0)
