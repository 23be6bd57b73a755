"""`ppo_keras.runs.tensorboard`, `tracing`: a real TensorBoard server is asked what it shows of fresh runs of a text task and of an agent."""

import contextlib
import html
import json
import re
import time
import types
import urllib.parse
import urllib.request

import keras
import pytest
import tensorflow as tf
from tensorboard import program

from helpers import ragged_prompts, tiny_learner
from ppo_keras.commands.parser import parse
from ppo_keras.config import LoggingConfig
from ppo_keras.environments.config import EnvironmentConfig, GridConfig
from ppo_keras.errors import InputError
from ppo_keras.runs import callbacks, tensorboard, tracing
from ppo_keras.runs.folder import Run
from ppo_keras.runs.glossary import FINAL, GLOSSARY, METRIC_NAMES
from ppo_keras.runs.recording import Recorder
from ppo_keras.tasks.config import GenerationConfig
from ppo_keras.tasks.training import fit_and_save
from runs_of_agents import trained

SENTENCES = [
    f"{who} {what} {how}."
    for who in ("The cat", "A dog", "My bird", "One fish")
    for what in ("sleeps", "eats", "runs", "looks")
    for how in ("well", "today", "at home", "again")
]
TEXT = (
    "generation --model transformer --no-jit --layers 1 --width 16 --heads 2 --vocabulary-size 300 --prompt-length 4 --response-length 6 "
    "--supervised-epochs 1 --supervised-batch-size 8 --iterations 3 --batch-size 8 --epochs 1 --minibatches 2 --evaluation-samples 8 "
    "--log-every 2 --attention-maps --weight-histograms --graph --seed 5"
).split()
GRID = "gridworld --environments 4 --steps 16 --epochs 1 --minibatches 2 --width 8 --no-jit --evaluation-episodes 4 --environment-steps 256 --seeds 2 --log-every 3".split()


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A function: what TensorBoard's HTTP API answers about the two runs."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    (runs / "lengths_of_texts.py").write_text("def score(prompt, response):\n    return float(len(response))\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(runs))
        trained(runs, "text", *TEXT, "--data", str(runs / "sentences.txt"), "--reward", "lengths_of_texts:score")
    trained(runs, "grid", *GRID)
    get = serve(runs)
    wait_for(lambda: all("final/seconds" in get("plugin/scalars/tags").get(run, {}) for run in ("text", "grid/seed-0", "grid/seed-1")))
    return get


def serve(folder):
    """Starts TensorBoard. Returns a function: what its HTTP API answers."""
    server = program.TensorBoard()
    server.configure(argv=[None, "--logdir", str(folder), "--port", "0", "--load_fast", "false", "--reload_interval", "1"])
    url = server.launch()

    def get(path, body=None, **query):
        path += "?" + urllib.parse.urlencode(query) if query else ""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + "data/" + path, data, {"Content-Type": "application/json"})
        return json.loads(urllib.request.urlopen(request).read())

    return get


def wait_for(holds):
    """TensorBoard reads the files in a thread of its own; what was written last is read last."""
    for _ in range(120):
        if holds():
            return
        time.sleep(0.25)
    pytest.fail("TensorBoard did not read the runs in half a minute")


def test_scalars_are_described(ask):
    """Catches: a metric of the glossary that is not written, one without its meaning and healthy range."""
    tags = ask("plugin/scalars/tags")
    assert {tag for tag in tags["text"] if not tag.startswith(("final/", tensorboard.OVERVIEW))} <= set(METRIC_NAMES)
    assert {"objective/kl", "loss/value", "time/tokens_per_second"} <= set(tags["text"]) and "episode/return" in tags["grid/seed-0"]
    for run in ("text", "grid/seed-1"):
        for metric in GLOSSARY:
            if metric.name in tags[run]:
                shown = re.sub(r"<[^>]*>", "", tags[run][metric.name]["description"])
                assert metric.meaning.split(":")[0].split("`")[0].split("*")[0] in shown.replace("&lt;", "<") and ("Healthy" in shown) == bool(metric.healthy)
    assert [point[1] for point in ask("plugin/scalars/scalars", run="text", tag="objective/kl")] == [1, 2, 3]


@pytest.mark.parametrize(
    "run, reward, speed", [("text", "objective/scores", "time/tokens_per_second"), ("grid/seed-0", "episode/return", "time/steps_per_second")]
)
def test_the_first_page_is_an_overview(ask, run, reward, speed):
    """Catches: pictures or details before what matters (TensorBoard sorts by tag), a number that is not that of its metric, a chart without its meaning."""
    tags = ask("plugin/scalars/tags")[run]
    overview = [tag for tag in sorted(tags) if tag.startswith(tensorboard.OVERVIEW)]
    assert [tag.split(" ", 2)[2] for tag in overview] == [title for title in tensorboard.CHARTS if run == "text" or title != "KL from the reference"]
    others = {*tags, *ask("plugin/images/tags")[run], *ask("plugin/histograms/tags")[run]} - set(overview)
    assert max(overview) < min(others)
    for tag, name in ((overview[0], reward), (overview[-1], speed)):
        assert name in tags[tag]["description"]
        shown, own = (ask("plugin/scalars/scalars", run=run, tag=which) for which in (tag, name))
        assert [point[1:] for point in shown] == [point[1:] for point in own]


def test_the_layout_opens_on_what_matters(ask):
    """Catches: a chart of a tag that nobody writes, one left out, a page for each run."""
    (category,) = ask("plugin/custom_scalars/layout")["category"]
    patterns = {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}
    assert list(patterns) == list(tensorboard.CHARTS)
    known = set(ask("plugin/scalars/tags")["text"]) | set(ask("plugin/scalars/tags")["grid/seed-0"])
    for chart in patterns.values():
        for pattern in chart:
            assert [tag for tag in known if re.match(pattern, tag)] == [pattern.strip("^$")]


def test_tables_hold_held_out_prompts(ask):
    """Catches: prompts of another split or draw, a table at another iteration, columns exchanged, a row left out."""
    assert ask("plugin/text/tags") == {"text": ["responses/held_out"]}
    tables = ask("plugin/text/text", run="text", tag="responses/held_out")
    assert [table["step"] for table in tables] == [2, 3]
    cells = [[re.sub(r"<[^>]*>", "", x).strip() for x in re.findall(r"<td>(.*?)</td>", table["text"], re.DOTALL)] for table in tables]
    for table in cells:
        assert table[:6] == ["prompt", "before PPO", "score", "now", "score", "KL"]
        rows = [table[i : i + 6] for i in range(6, len(table), 6)]
        assert 1 <= len(rows) <= 8 and all(float(row[2]) > 0 and float(row[4]) > 0 and abs(float(row[5])) < 10 for row in rows)
    assert [row[:3] for row in zip(*[iter(cells[0])] * 6)] == [row[:3] for row in zip(*[iter(cells[1])] * 6)]


def test_pictures_and_histograms(ask):
    """Catches: a picture or histogram that is asked for and not written, one at another step, a grid that is drawn only at the end."""
    images, histograms = ask("plugin/images/tags"), ask("plugin/histograms/tags")
    assert set(images["text"]) == {"responses/tokens_1", "responses/tokens_2", "attention/policy"}
    assert set(images["grid/seed-0"]) == {"grid/values_and_policy", "pictures/grid", "pictures/learning_curve"}
    for run, tag, steps in (("text", "attention/policy", [2, 3]), ("grid/seed-1", "grid/values_and_policy", [192, 256])):
        shown = ask("plugin/images/images", run=run, tag=tag, sample="0")
        assert [image["step"] for image in shown] == steps
    batch = {f"batch/{name}" for name in ("ratio", "advantages", "values", "rewards")}
    assert set(histograms["grid/seed-0"]) == batch
    own = {tag for tag in histograms["text"] if tag.startswith("batch/")}
    assert own == batch | {"batch/response_lengths"}
    weights, gradients = ({tag.split("/", 1)[1] for tag in histograms["text"] if tag.startswith(kind)} for kind in ("weights/", "gradients/"))
    assert weights == gradients and "value_head/kernel" in weights
    (first, second) = ask("plugin/histograms/histograms", run="text", tag="batch/response_lengths")
    assert sum(bucket[2] for bucket in first[2]) == 8 and first[1] == 2 and second[1] == 3


def test_hparams_compare_runs_and_seeds(ask):
    """Catches: a run or seed without its row, the seed of another, a setting or final number that the table lacks."""
    experiment = ask("plugin/hparams/experiment", {"experimentName": "", "includeMetrics": True})
    names = [column["name"] for column in experiment["hparamInfos"]]
    assert set(names[:5]) == set(tensorboard.FIRST_COLUMNS) and "ppo.clip_ratio" in names and "kl.kl_target" in names
    assert {metric["name"]["tag"] for metric in experiment["metricInfos"]} >= {metric.name for metric in FINAL}
    columns = [{"hparam": name, "includeInResult": True} for name in names]
    columns += [{"metric": metric["name"], "includeInResult": True} for metric in experiment["metricInfos"]]
    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    question = {"experimentName": "", "allowedStatuses": statuses, "colParams": columns, "startIndex": 0, "sliceSize": 10}
    groups = {group["name"].split("/")[-1]: group for group in ask("plugin/hparams/session_groups", question)["sessionGroups"]}
    assert {name: group["hparams"]["seed"] for name, group in groups.items()} == {"text": 5, "seed-0": 0, "seed-1": 1}
    assert groups["text"]["hparams"]["task"] == "generation" and groups["seed-0"]["hparams"]["task"] == "gridworld"
    metrics = {name: {m["name"]["tag"]: m["value"] for m in group["metricValues"] if "value" in m} for name, group in groups.items()}
    assert metrics["text"]["final/reward_after"] > 0 and "episode/return" in metrics["seed-1"] and "final/evaluation_return" in metrics["seed-0"]


def test_the_graph_is_of_a_step(ask):
    """Catches: an empty graph, or one that nobody asked for."""
    graphs = ask("plugin/graphs/info")
    assert [run for run, shown in graphs.items() if shown["run_graph"]] == ["text"]


@pytest.mark.full  # chapter 7 reads both of a run; what starts and ends them is tested below
def test_the_debugger_and_the_profile_are_of_ppo(tmp_path):
    """Catches: a dump that XLA leaves empty, an infinity in a healthy step (it hides the one that is looked for), a profile without steps."""
    sizes = "--environments 4 --steps 16 --evaluation-episodes 4 --environment-steps 128 --epochs 1 --minibatches 1 --width 8".split()
    trained(tmp_path, "debug", "gridworld", *sizes, "--debug-dump", "--profile", "2:2")
    get = serve(tmp_path / "debug")
    wait_for(lambda: get("plugin/debugger-v2/runs"))
    (run,) = get("plugin/debugger-v2/runs")
    digests = lambda end: get("plugin/debugger-v2/graph_execution/digests", run=run, begin=0, end=end)
    parts = lambda: {digest["op_name"].split("/")[0] for digest in digests(digests(0)["num_digests"])["graph_execution_digests"]}
    wait_for(lambda: parts() >= {"collect", "improve"})
    assert get("plugin/debugger-v2/alerts", run=run, begin=0, end=0)["num_alerts"] == 0
    (profile,) = (tmp_path / "debug").glob("plugins/profile/*/*.xplane.pb")
    assert b"train" in profile.read_bytes()


# The parts.


@pytest.mark.parametrize("text", ["# 1", "1. a", "*a* _b_ `c`", "<b>&", "[a](b) |", "- a", "> a", "~~~", "$x$", "a\\b"])
def test_a_cell_shows_what_was_written(text):
    """Catches: a response that TensorBoard draws as a heading, a list, bold or a tag, so that characters are lost."""
    from tensorboard import plugin_util

    shown = plugin_util.markdown_to_safe_html(tensorboard.cell(text))
    plain = re.fullmatch(r"<p>(.*)</p>", shown.strip())[1]
    assert html.unescape(plain) == text


def test_empty_and_long_cells():
    """Catches: a cell that vanishes, a code block where a text begins with spaces, a number with fifteen digits."""
    assert tensorboard.cell("  \n") == "(nothing)" and tensorboard.cell("     a\n\n  b") == "a b" and tensorboard.cell(1 / 3) == "0.333"


def test_long_texts_leave_room_for_other_columns():
    """Catches: a text in one long line, next to which TensorBoard breaks every label and number in two; a word lost at a break."""
    text = "The tone jumps from comedy to *torture* without warning, and the mix is awful."
    lines = tensorboard.wrapped(text).split("<br>")
    assert len(lines) == 2 and " ".join(lines) == tensorboard.cell(text)
    assert len(tensorboard.wrapped("很" * 100).split("<br>")) == 3 and tensorboard.wrapped("") == tensorboard.cell("") and tensorboard.wrapped(0.5) == "0.500"


def test_flat_settings():
    """Catches: a setting lost or renamed between the row and the column, one that measures nothing, a None that TensorBoard refuses."""
    for config in (GenerationConfig(seed=3), GridConfig(), EnvironmentConfig()):
        flat = tensorboard.flat_settings(config)
        assert set(flat) <= set(tensorboard.setting_names(type(config))) and flat["ppo.clip_ratio"] == 0.2
        assert flat["seed"] == config.seed and None not in flat.values()
        assert not [name for name in flat if name.startswith("logging") or name in ("run", "overwrite")]


@pytest.mark.parametrize(
    "option, words",
    [
        ("--log-every -1", "log_every=-1 is negative. Use a number of iterations such as 20, or 0 for never."),
        ("--profile 5", "profile='5' does not name iterations. Write the first and the last one, counted from 1, such as 5:8."),
        ("--profile 8:5", "profile='8:5' does not name"),
        ("--profile 0:5", "profile='0:5' does not name"),
        ("--attention-maps --model lstm", "attention_maps needs attention, but model='lstm' has none. Use --model transformer, or leave it out."),
    ],
)
@pytest.mark.parametrize("task", ["generation", "cartpole"])
def test_bad_settings_are_named(task, option, words):
    """Catches: a setting that is accepted and then fails, or shows nothing, an hour later."""
    with pytest.raises(InputError, match=re.escape(words)):
        parse(["train", task, *option.split()])
    assert LoggingConfig(profile="5:8").profiled() == (5, 8) and LoggingConfig(profile="7:7").profiled() == (7, 7)


def test_the_debugger_needs_graphs(capsys):
    """Catches: a dump that XLA empties, or jit that is switched off without a word."""
    config = parse(["train", "cartpole", "--debug-dump"]).config
    assert config.jit and not tracing.without_jit(config).jit and "--no-jit" in capsys.readouterr().out
    plain = parse(["train", "cartpole"]).config
    assert tracing.without_jit(plain) is plain and capsys.readouterr().out == ""


@pytest.mark.parametrize("per_call, started", [(1, [5, 9]), (3, [4, 10]), (20, [1, 21])])
def test_the_profiled_iterations(tmp_path, monkeypatch, per_call, started):
    """Catches: an iteration more or less than asked for, a profile that is never ended or begun twice; of calls of several, those that overlap."""
    seen, model = [], types.SimpleNamespace(iteration=tf.Variable(0), iterations_per_call=per_call)
    monkeypatch.setattr(tf.profiler.experimental, "start", lambda folder: seen.append(int(model.iteration) + 1))
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: seen.append(int(model.iteration) + 1))
    steps = []
    monkeypatch.setattr(tf.profiler.experimental, "Trace", lambda name, step_num, _r: contextlib.nullcontext(steps.append(step_num)))
    profile = tracing.Profile(types.SimpleNamespace(folder=tmp_path), 5, 8)
    profile.set_model(model)
    profile.on_train_begin()
    for call in range(20):
        profile.on_train_batch_begin(call)
        model.iteration.assign_add(per_call)
        profile.on_train_batch_end(call)
    profile.on_train_end()
    assert seen == started
    assert steps == list(range(*started, per_call))  # each call is marked as a step


@pytest.mark.parametrize("kind", ["profile", "debug_dump"])
def test_tracing_ends_where_training_breaks_off(tmp_path, monkeypatch, kind):
    """Catches: a profiler or a debugger that stays on after an error: its files are not whole, and the next training cannot begin one."""
    ended, run = [], Run.create(tmp_path, "run")
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda stop=tf.profiler.experimental.stop: ended.append(stop()))
    off = tf.debugging.experimental.disable_dump_debug_info
    monkeypatch.setattr(tf.debugging.experimental, "disable_dump_debug_info", lambda: ended.append(off()))
    monkeypatch.setattr(run, "save_model", lambda model, name: None)
    observers = tracing.observers(LoggingConfig(**{kind: "1:3" if kind == "profile" else True}), run)
    broken = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: 1 / 0)
    data = lambda done: tf.data.Dataset.from_tensors(ragged_prompts((2, 1, 2, 1), 2, vocabulary_size=6)).repeat()
    with pytest.raises(ZeroDivisionError):
        fit_and_save(tiny_learner(), run, "after", callbacks.Interrupt(), Recorder(run, 4), {}, 1, 3, data, observers | {"broken": broken})
    assert ended == [None]


def test_without_xprof_one_line_says_what_to_install(monkeypatch, capsys, tmp_path):
    """Catches: an empty Profile tab and no word about why."""
    monkeypatch.setattr(tracing.importlib.util, "find_spec", lambda name: None)
    tracing.Profile(types.SimpleNamespace(folder=tmp_path), 1, 2).on_train_begin()
    assert capsys.readouterr().out == 'To see the profile, TensorBoard needs xprof: pip install -e ".[profile]"\n'
