"""What the chapters of the tutorial share: their language, their figures, their exercises."""

import importlib.util
import os
import sys
from pathlib import Path

import matplotlib.style
import numpy as np

from ppo_keras.reports import pictures
from ppo_keras.reports.pictures import png

SOLVED = "PPO_KERAS_SOLUTIONS"  # an environment variable: set, each exercise is answered by the solutions, which must be right


class Chapter:
    """One chapter, run as a script or opened as a notebook. The same code serves both languages.

    Args:
        name: of its file, without `.py`.

    Attributes:
        language: "zh" where the file (or the notebook's working folder) lies in a folder `zh`; else "en".
        folder: `runs/tutorials/LANGUAGE/NAME` beside `tutorials/`: for figures, TensorBoard and runs.
        wrong: numbers of the exercises whose answer was wrong.

    Example:
        >>> chapter = Chapter("04_3_gridworld")
        >>> chapter.text("value", "价值")
        'value'
    """

    def __init__(self, name):
        script = getattr(sys.modules["__main__"], "__file__", None)
        place = Path(script).absolute().parent if script else Path.cwd()
        self.name, self.language, self.exercises, self.wrong = name, "zh" if place.name == "zh" else "en", 0, []
        self.root = place.parents[1] if place.parent.name == "tutorials" else Path.cwd()
        self.folder = self.root / "runs" / "tutorials" / self.language / name
        self.folder.mkdir(parents=True, exist_ok=True)
        matplotlib.style.use("tableau-colorblind10")
        matplotlib.rcParams["font.family"] = pictures.families()
        matplotlib.rcParams["axes.unicode_minus"] = False  # some Chinese fonts lack the sign

    def text(self, en, zh):
        """The one in the chapter's language, for what is printed."""
        return zh if self.language == "zh" else en

    def label(self, en, zh):
        """The same for a figure: English where no font has Chinese characters."""
        return self.text(en, zh) if len(pictures.families()) > 1 else en

    def show(self, figure, name):
        """Saves a matplotlib `Figure` as `NAME.png` in the chapter's folder; in a notebook, shows it."""
        content = png(figure, dpi=80)
        path = self.folder / f"{name}.png"
        path.write_bytes(content)
        if "ipykernel" in sys.modules:
            from IPython.display import Image, display

            display(Image(content))
        else:
            print(self.text("figure:", "图:"), path.relative_to(self.root))

    def exercise(self, function):
        """A decorator of a function that the reader is to fill in; `None` means that it was not."""
        if not os.environ.get(SOLVED):
            return function
        path = self.root / "tutorials" / "solutions" / f"{self.name}.py"
        spec = importlib.util.spec_from_file_location(f"solutions_{self.name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, function.__name__)

    def check(self, answer, expected, tolerance=1e-5):
        """Says whether an answer is right, or how far off it is.

        Args:
            answer: a number, an array or a tensor; None where the exercise is still open.
            expected: the same; a right answer is `tolerance` near, absolutely or relatively.
        """
        self.exercises += 1
        said = self.text(f"exercise {self.exercises}: ", f"练习{self.exercises}:")
        expected = np.asarray(expected, np.float64)
        if answer is None:
            print(said + self.text("not answered yet", "尚未作答"))
            right = False
        elif np.shape(answer) != expected.shape:
            print(said + self.text(f"has shape {np.shape(answer)}, expected {expected.shape}", f"形状是{np.shape(answer)},应为{expected.shape}"))
            right = False
        else:
            off = float(np.max(np.abs(np.asarray(answer, np.float64) - expected)))
            right = bool(np.allclose(answer, expected, rtol=tolerance, atol=tolerance))
            print(said + (self.text("right", "正确") if right else self.text(f"off by up to {off:.4g}", f"最多相差{off:.4g}")))
        if not right:
            self.wrong.append(self.exercises)
            if os.environ.get(SOLVED):
                raise AssertionError(f"the solution of exercise {self.exercises} of {self.name} is wrong")
