"""Builds the notebooks: every chapter is executed, its figures inside. Needs: pip install -e ".[tutorials]"

python tutorials/build.py                   # all, about 20 minutes on two cores
python tutorials/build.py 04_3_gridworld    # one, in both languages
"""

import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
TENSORFLOWS = re.compile(r"^(INFO|WARNING):tensorflow:.*\n?", re.MULTILINE)  # its notes about this machine, with paths
MOST_BYTES = 400_000  # of a notebook: the web shows larger ones badly


def notebook_of(script):
    """The notebook of a chapter, not executed. The same script gives the same bytes."""
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
    notebook.nbformat_minor = 5
    return notebook


def build(script):
    """Executes a chapter in its own folder and writes the notebook beside it."""
    notebook, begun = notebook_of(script), time.perf_counter()
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(script.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ from build to build
        if "outputs" in cell:
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for out in cell.outputs:
                if out.output_type == "stream":
                    out.text = TENSORFLOWS.sub("", out.text)
            cell.outputs = [out for out in cell.outputs if out.output_type != "stream" or out.text]
    content = nbformat.writes(notebook)
    if len(content.encode()) > MOST_BYTES:
        raise SystemExit(f"{script} makes a notebook of {len(content.encode()):,} bytes, more than {MOST_BYTES:,}. Draw fewer or smaller figures.")
    script.with_suffix(".ipynb").write_text(content, encoding="utf-8")
    print(f"{script.with_suffix('.ipynb')}: {time.perf_counter() - begun:.0f} s, {len(content.encode()):,} bytes", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chosen = sys.argv[1:] or sorted({path.stem for path in HERE.glob("[ez][nh]/*.py")})
    for name in chosen:
        for language in ("en", "zh"):
            build(HERE / language / f"{name}.py")
