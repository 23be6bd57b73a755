"""What TensorBoard is told beside numbers: descriptions, the layout of its Custom Scalars tab, its HParams table, tables of text."""

import html
import numbers
import re
import textwrap
from dataclasses import asdict, fields, is_dataclass

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalars
from tensorboard.plugins.hparams import api as hp
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from ppo_keras.runs.glossary import FINAL, meaning_of

CHARTS = {  # title: tags, of which a run has those of its kind; the handful to look at first, in this order
    "reward": ("objective/scores", "objective/rlhf_reward", "episode/return"),
    "KL from the reference": ("objective/kl",),
    "clip fraction": ("policy/clip_fraction",),
    "entropy": ("policy/entropy",),
    "value loss": ("loss/value",),
    "explained variance": ("value/explained_variance",),
    "gradient norm": ("optimizer/gradient_norm",),
    "learning rate": ("optimizer/learning_rate",),
    "tokens or steps a second": ("time/tokens_per_second", "time/steps_per_second"),
}
OVERVIEW = "0 overview"
TABLE_METRICS = (  # columns of the HParams table
    "objective/scores", "objective/kl", "episode/return", "policy/entropy", "value/explained_variance",
    *(metric.name for metric in FINAL),
)  # fmt: skip
FIRST_COLUMNS = ("task", "model", "seed", "optimizer.learning_rate", "ppo.entropy_coefficient")
LINE = 40  # characters of a text in a line of a table
NOT_SETTINGS = {"run", "runs_folder", "overwrite", "seeds", "logging"}  # they change nothing that is measured


def write_scalars(metrics, overview=False):
    """Scalars with their descriptions from the glossary, at the default writer and step; all at once, which is many times faster than one by one.

    Args:
        metrics: {name: number}, None where there is nothing to report.
        overview: whether the handful is written once more, under tags that sort before all others: the page that TensorBoard opens on begins with them.
    """
    shown = {name: value for name, value in metrics.items() if value is not None}
    values = [scalar_pb(name, value, meaning_of(name)) for name, value in shown.items()]
    for number, (title, tags) in enumerate(CHARTS.items() if overview else (), start=1):
        tag = next((tag for tag in tags if tag in shown), None)
        if tag:
            values.append(scalar_pb(f"{OVERVIEW}/{number} {title}", shown[tag], f"{tag}: {meaning_of(tag)}"))
    whole = Summary(value=[value for one in values for value in one.value])
    tf.summary.experimental.write_raw_pb(whole.SerializeToString())


def write_layout():
    """The charts of the Custom Scalars tab. Every run has the same, so that TensorBoard merges them into one page."""
    charts = [layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$" for tag in tags])) for title, tags in CHARTS.items()]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="PPO", chart=charts)])
    (value,) = custom_scalars.pb(layout).value
    tf.summary.write(value.tag, tf.make_ndarray(value.tensor), step=0, metadata=value.metadata)


def flat_settings(config):
    """The settings of a run for the HParams table: {"ppo.clip_ratio": 0.2, ...}, without those that are None.

    Args:
        config: a `TextConfig` or an `EnvironmentConfig`.
    """
    flat = {}
    for name, value in asdict(config).items():
        inner = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        flat |= {} if name in NOT_SETTINGS else inner
    return {name: value for name, value in flat.items() if value is not None}


def setting_names(kind):
    """The names that `flat_settings` can give for a class of settings."""
    names = []
    for field in fields(kind):
        if field.name not in NOT_SETTINGS:
            inner = field.default
            names += [f"{field.name}.{f.name}" for f in fields(inner)] if is_dataclass(inner) else [field.name]
    return names


def write_hparams(run, task, config, kinds=()):
    """This run's row of the HParams table and the columns that the table has, at the default writer and step.

    TensorBoard takes the columns from any one run: every run has the same, so that nothing is shared between runs.

    Args:
        run: a `Run`.
        task: its name, a column too.
        config: its settings.
        kinds: classes of the settings of all tasks that shall share the table.
    """
    names = dict.fromkeys(["task"] + [name for kind in (*kinds, type(config)) for name in setting_names(kind)])
    columns = [hp.HParam(name) for name in names], [hp.Metric(tag, description=meaning_of(tag)) for tag in TABLE_METRICS]
    summary = hp.hparams_config_pb(*columns, time_created_secs=0.0)
    content = plugin_data_pb2.HParamsPluginData.FromString(summary.value[0].metadata.plugin_data.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in FIRST_COLUMNS  # which TensorBoard shows first
    summary.value[0].metadata.plugin_data.content = content.SerializeToString()
    tf.summary.experimental.write_raw_pb(summary.SerializeToString())
    name = "/".join(run.folder.absolute().parts[-3:])  # runs of one name are merged, and seeds of two experiments are not one
    hp.hparams({"task": task} | flat_settings(config), trial_id=name)


def write_final(run, summary, step):
    """The numbers of `summary.json` as scalars `final/...`: the last columns of the HParams table.

    Args:
        run: a `Run`.
        summary: a dict.
        step: of the curves at the end.
    """
    writer = tf.summary.create_file_writer(str(run.folder))
    with writer.as_default(step=step):
        write_scalars({f"final/{name}": float(value) for name, value in summary.items() if isinstance(value, numbers.Real) and name != "seed"})
    writer.close()


def write_table(tag, header, rows, description=None):
    """A table of strings in the Text tab, at the default writer and step.

    Args:
        tag: of the table.
        header: names of the columns.
        rows: lists of cells; numbers are rounded.
    """
    table = [[f"**{name}**" for name in header]] + [[wrapped(x) for x in row] for row in rows]
    tf.summary.text(tag, tf.constant(np.array(table)), description=description)


def cell(content):
    """A cell as Markdown that shows what was written, whatever it was: TensorBoard draws every cell as Markdown.

    Example:
        >>> cell("1. a *b* <c>")
        '1\\\\. a \\\\*b\\\\* &lt;c&gt;'
    """
    if isinstance(content, numbers.Real):
        return f"{content:.3f}"
    text = re.sub(r"([\\`*_{}\[\]()#+\-.!|])", r"\\\1", html.escape(" ".join(content.split()), quote=False))
    return text.replace("~", "&#126;") or "(nothing)"


def wrapped(content):
    """The same in short lines: a long text leaves the other columns no room."""
    if isinstance(content, numbers.Real):
        return cell(content)
    return "<br>".join(map(cell, textwrap.wrap(content, LINE) or [""]))
