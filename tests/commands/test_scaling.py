"""`ppo-keras bench scaling`: which work is timed, the exponents, the picture. Times are printed, not tested."""

import json

import numpy as np
import pytest

from helpers import assert_close
from ppo_keras.commands import measuring, scaling
from ppo_keras.commands.main import main
from ppo_keras.commands.scaling import Growth
from ppo_keras.reports.pictures import growth

SMALL = dict(batch=8, response=3, width=8, layers=1, vocabulary=16)


@pytest.fixture
def small(monkeypatch):
    """Sizes that take seconds; the `new_policy` and the batches that are really used are kept."""
    monkeypatch.setattr(scaling, "USUAL", SMALL)
    monkeypatch.setattr(scaling, "SIZES", {"batch": (4, 8), "width": (8, 16), "environments": (4, 8)})
    monkeypatch.setattr(scaling, "PROMPT", 2)
    monkeypatch.setattr(scaling, "STEPS", 8)
    monkeypatch.setattr(scaling, "peak_flops", lambda jit_compile: 1e9)
    made, new, prompts = [], scaling.new_policy, scaling.Prompts
    monkeypatch.setattr(scaling, "new_policy", lambda *args, **sizes: made.append(sizes) or new(*args, **sizes))
    monkeypatch.setattr(scaling, "Prompts", lambda tokens, mask: made[-1].update(prompts=tokens.shape.as_list()) or prompts(tokens, mask))
    return made


def test_exponents():
    """Catches: logarithms of one side only, an exponent upside down, the operations in the place of the time."""
    one = Growth([1, 2, 4], [3.0, 6.0, 12.0], [5.0, 20.0, 80.0])
    assert_close([one.exponent, one.expected], [1.0, 2.0])
    noisy = Growth([1, 2, 4], [1.0, 2.0, 8.0], [1.0, 1.0, 1.0])
    assert_close([noisy.exponent, noisy.expected], [1.5, 0.0], atol=1e-6)


def test_each_size_grows_alone(small, capsys, tmp_path):
    """Catches: a size that does not reach the network or the batch, two that grow together, a picture or a figure left out."""
    picture = tmp_path / "scaling.png"
    options = ["--of", "width", "batch", "environments", "--iterations", "1", "--no-jit", "--picture", str(picture)]
    assert main(["bench", "scaling", *options]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert [sizes["width"] for sizes in small] == [8, 16, 8, 8] and {sizes["memory"] for sizes in small} == {5}
    assert [sizes["prompts"] for sizes in small] == [[8, 2], [8, 2], [4, 2], [8, 2]]
    assert list(result) == ["width", "batch", "environments"]
    assert [result[name]["sizes"] for name in result] == [[8, 16], [4, 8], [4, 8]]
    assert all(second > 0 for one in result.values() for second in one["seconds"])
    assert_close(result["batch"]["operations"][1] / result["batch"]["operations"][0], 2.0)
    assert result["width"]["operations_exponent"] > 1.2  # of the matrices it is 2, of the head 1
    assert result["environments"]["operations"] == [32, 64]
    for one in result.values():
        assert_close(one["exponent"], np.log2(one["seconds"][1] / one["seconds"][0]), atol=1e-9)
        assert any(f"^{one['exponent']:.2f}; the operations grow with" in line for line in table)
    assert picture.read_bytes().startswith(b"\x89PNG") and any("GFLOP/s before" in line for line in table)


def test_the_picture_says_every_size():
    """Catches: a line that is not relative to its least size, the operations drawn as the time, a size without its exponent."""
    found = {"batch": Growth([10, 20], [0.5, 1.0], [3.0, 12.0]), "layers": Growth([1, 4], [2.0, 8.0], [1.0, 4.0])}
    (axes,) = growth(found).axes
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert lines[:4] == [[[1, 1], [2, 4]], [[1, 1], [2, 2]], [[1, 1], [4, 4]], [[1, 1], [4, 4]]]
    assert [text.get_text() for text in axes.get_legend().texts] == ["batch: 1.00", "layers: 1.00", "operations"]
    assert axes.get_xscale() == axes.get_yscale() == "log"


@pytest.mark.parametrize(
    "options, words",
    [
        (["--iterations", "0"], "--iterations 0 is less than 1. Use a number such as 3."),
        (["--of", "bach"], "bach"),
        (["--picture", "nowhere/scaling.png"], "there is no folder nowhere"),
        (["--picture", "scaling.doc"], "is no name of a PNG file"),
        (["--picture", "."], "is no name of a PNG file"),
    ],
)
def test_bad_options_are_one_line(options, words, monkeypatch, capsys, tmp_path):
    """Catches: ten minutes of work before a path is found to be wrong; a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scaling, "peak_flops", lambda jit_compile: pytest.fail("work was begun"))
    try:
        code = main(["bench", "scaling", *options])
    except SystemExit as end:  # argparse's own refusal
        code = end.code
    assert code == 2
    assert words in capsys.readouterr().err.rstrip("\n").split("\n")[-1]


def test_a_machine_that_changes_is_told(capsys):
    """Catches: times of a machine that was busy for half of them, said as if they were certain."""
    assert measuring.steady_peak(100e9, 106e9) == 103e9
    assert capsys.readouterr().out == "peak of matrix products: 100 GFLOP/s before, 106 after\n"
    measuring.steady_peak(100e9, 80e9)
    assert "The machine became 20% slower meanwhile" in capsys.readouterr().out
