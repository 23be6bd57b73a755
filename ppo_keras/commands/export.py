"""The command `export`: the model of a run in the formats of other libraries."""

import os

from ppo_keras.errors import require
from ppo_keras.pretrained.asking import Asking
from ppo_keras.pretrained.export import export_pretrained
from ppo_keras.pretrained.export_settings import check_export
from ppo_keras.pretrained.tokenizer import load_tokenizer
from ppo_keras.runs.elsewhere import checkpoint_from
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy, load_settings


def export(options):
    """Writes the policy of a run into a folder.

    Args:
        options: a namespace with the options of `ppo-keras export`.

    Raises:
        InputError: no such run or stage, one whose policy writes no text or cannot be written so, or a folder that is not empty; nothing is written.
    """
    layout = "adapters" if options.adapters_only else "gguf" if options.gguf else "merged"
    check_export(options.folder, layout, options.dtype)
    run = Run.open(options.run, options.runs_folder)
    run.check_one_seed()
    saved = run.load_json("config.json")
    writes = os.path.exists(run.path("tokenizer.model")) and saved.get("task") != "classification"
    require(writes, f"{run.folder} is a run of the task {saved.get('task')!r}, whose policy writes no text, so no other library has its kind. Export a writer.")
    settings = load_settings(run)
    policy, tokenizer = load_policy(run, options.stage), load_tokenizer(run.path("tokenizer.model"))
    done = export_pretrained(
        policy, tokenizer, options.folder, checkpoint_from(saved, settings.pretrained) if settings.pretrained else None, layout, options.dtype
    )
    what = {"merged": f"a {done.model_type}", "adapters": f"PEFT's adapters of a {done.model_type}", "gguf": f"the GGUF file of a {done.model_type}"}[layout]
    size = sum(path.stat().st_size for path in done.folder.iterdir())
    print(f"{done.folder} holds {what}: {size / 1e6:.1f} MB in {done.dtype}. The value head is left out.")
    ids = Asking(tokenizer, settings, saved.get("answers", False)).ids("film")
    print(f"The prompt 'film' was given to it as {' '.join(tokenizer.pieces(ids))} ({ids}): write the same around prompts there.")
