"""`ppo_keras.commands.bench`: what `ppo-keras bench text` and `bench cartpole` print. Times are printed, not tested."""

import json
import types

import pytest

from ppo_keras.commands import bench
from ppo_keras.commands.main import main
from ppo_keras.networks.actor_critic import new_policy
from small_checkpoint import write_checkpoint

KEYS = [
    "iteration_seconds", "generation_tokens_per_second", "score_tokens_per_second", "update_tokens_per_second",
    "compile_seconds", "peak_share", "peak_gigaflops", "peak_gigabytes",
]  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """The benchmark at a size that takes seconds."""
    for name, value in dict(VOCABULARY=16, BATCH=8, PROMPT=3, RESPONSE=4).items():
        monkeypatch.setattr(bench, name, value)
    smaller = lambda *args, **sizes: new_policy(*args, **sizes | dict(width=16, layers=1, heads=2))
    monkeypatch.setattr(bench, "new_policy", smaller)
    monkeypatch.setattr(bench, "peak_flops", lambda jit_compile: 1e9)


def test_the_last_line_is_json_of_every_figure(tiny, capsys):
    """Catches: a figure left out or renamed, text after the JSON, a time of 0."""
    assert main(["bench", "text", "--iterations", "1", "--no-jit", "--model", "lstm", "--no-shared-trunk"]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert list(result) == KEYS
    assert all(result[name] > 0 for name in KEYS[:5]) and result["peak_share"] >= 0
    for part in ("generation", "score", "update", "iteration", "compilation", "peak", "most memory"):
        assert any(part in line for line in table), part
    assert not any("estimated" in line for line in table)  # of a Transformer with XLA only


def test_a_checkpoint_is_measured(tmp_path, monkeypatch, capsys):
    """Catches: a network of our own measured in its place, whole weights that are trained, another size than is said; a system that knows no peak."""
    for name, value in dict(PRETRAINED_BATCH=8, PRETRAINED_LENGTH=4, peak_flops=lambda jit_compile: 1e9, peak_memory=lambda: None).items():
        monkeypatch.setattr(bench, name, value)
    seen, load = [], bench.load_pretrained
    monkeypatch.setattr(bench, "load_pretrained", lambda *args, **kwargs: seen.append(load(*args, **kwargs)) or seen[0])
    options = "--iterations 1 --no-jit --lora-layers all --critic adapters --accumulation-steps 2".split()
    assert main(["bench", "text", "--pretrained", str(write_checkpoint(tmp_path, blocks=1)), *options]) == 0
    first, *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    assert (
        "adapters of rank 8 on all, adapters critic, " in first and "trained, graphs, 8 responses of 4 tokens" in first and list(json.loads(last)) == KEYS[:-1]
    )
    assert "most memory   unknown" in table
    ((policy, _),) = seen
    assert {variable.shape[1] for variable in policy.trainable_variables if variable.path.endswith("lora_kernel_a")} == {8}


def test_a_checkpoint_that_is_not_there_is_one_line(capsys):
    """Catches: a traceback, or a network of our own in its place."""
    assert main(["bench", "text", "--pretrained", "smolm2"]) == 2
    assert "there is no folder or .gguf file 'smolm2'" in capsys.readouterr().err
    assert main(["bench", "text", "--pretrained", "smollm2", "--model", "lstm"]) == 2
    assert "--pretrained brings its own network" in capsys.readouterr().err


def test_memory_is_estimated_and_measured(tiny, monkeypatch, capsys):
    """Catches: the peak of what is compiled once more for its parts, an estimate of another size than is measured, or where nothing is known."""
    timed, counted, time_it, function = [], [], bench.time_of, bench.tf.function
    monkeypatch.setattr(bench.tf, "function", lambda one, jit_compile, **settings: function(one, **settings))  # the estimate is of XLA, which takes its time
    monkeypatch.setattr(bench, "time_of", lambda *args: timed.append(1) or time_it(*args))
    monkeypatch.setattr(bench, "peak_memory", lambda: counted.append(len(timed)) or 2.5e9)
    monkeypatch.setattr(bench, "estimate", lambda settings, work, card: types.SimpleNamespace(peak=1e9 * work.batch, peak_phase="update"))
    assert main(["bench", "text", "--iterations", "1", "--batch-size", "4", "--minibatches", "2", "--reward-model", "none"]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert counted == [2] and (result["peak_gigabytes"], result["estimated_gigabytes"]) == (2.5, 4.0)
    assert "most memory      2.50 GB, estimated 4.00 GB (update)" in table and "4 responses of 4 tokens" in table[0]


def test_a_head_reads_with_the_reference_that_there_is(tiny, monkeypatch):
    """Catches: a second copy of the reference for the head of a model without adapters, which then reads every text a second time."""
    roles = []

    def learner(policy, reward, *args, reference=None):
        roles.extend([reward.trunk, reference])
        raise StopIteration  # before it is timed

    monkeypatch.setattr(bench, "LanguagePPO", learner)
    with pytest.raises(StopIteration):
        bench.bench_text(jit_compile=False, sizes=bench.Sizes(reward="head"))
    assert roles[0] is roles[1] is not None


def test_work_that_cannot_fit_is_refused_before_it_is_tried(monkeypatch, capsys):
    """Catches: a batch that ends in the middle, killed without a word; a network that is made first."""
    monkeypatch.setattr("ppo_keras.pretrained.machine.memory_here", lambda: (2e9, False))
    monkeypatch.setattr(bench, "new_policy", lambda *args, **kwargs: pytest.fail("a network was made"))
    assert main(["bench", "text", "--batch-size", "65536"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ppo-keras: error: transformer with a batch of 65536, prompts of 16 and responses of 48 tokens needs about ")
    assert "and 2 GB are free. Use --batch-size " in line


# The command `bench memory`.


def test_memory_of_a_checkpoint_by_its_config_alone(tmp_path, monkeypatch, capsys):
    """Catches: weights that must be there, a part or a phase that is not printed, the machine's memory taken for a card's, text after the JSON."""
    whole = write_checkpoint(tmp_path)
    (place := tmp_path / "only").mkdir()
    (whole / "config.json").rename(place / "config.json")
    monkeypatch.setattr(bench, "memory_here", lambda: (1e9, False))
    sizes = "--batch-size 8 --prompt-length 3 --response-length 5 --minibatches 2 --lora-rank 3 --lora-layers all --critic adapters --accumulation-steps 2 --reward-model head".split()
    assert main(["bench", "memory", "--pretrained", str(place), *sizes]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    settings = bench.settings_of(json.loads((place / "config.json").read_text()))
    expected = bench.estimate(settings, bench.Work(8, 3, 5, 2, 2, 3, "all", critic="adapters", reward="head"))
    assert result["phases"] == expected.totals and result["peak_bytes"] == expected.peak and result["parts"] == expected.phases[result["phase"]]
    assert list(result["fits"]) == list(result["largest_batch"]) == ["this machine", *bench.CARDS]
    assert not result["fits"]["this machine"] and result["largest_batch"]["this machine"] == 0 and all(result["fits"][card] for card in bench.CARDS)
    shared = bench.bench_memory(devices=2, sizes=bench.Sizes(str(place), batch=16, minibatches=2))
    assert shared["phases"] == bench.estimate(settings, bench.Work(16, 32, 32, 2, 1, 8, reward="head", devices=2)).totals
    assert "each of 2 devices" in " ".join(capsys.readouterr().out.split())
    row = lambda name: next([cell.strip() for cell in line.split("│")[2:-1]] for line in table if line.startswith(f"│ {name} "))
    assert row("together") == [f"{total / 1e9:.3f}" for total in expected.totals.values()]
    assert row("this machine") == ["1.0", f"{expected.peak / 1e9:.2f}", "no", "none"] and row("T4")[:3] == ["16.0", "0.60", "yes"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--pretrained", "smolm2"], "there is no folder or .gguf file 'smolm2'"),
        (["--pretrained", ""], "name='' is no name of a checkpoint"),
        (["--lora-rank", "4"], "--lora-rank, --lora-layers, --critic and --weights are of a checkpoint"),
        (["--critic", "detached"], "--lora-rank, --lora-layers, --critic and --weights are of a checkpoint"),
        (["--accumulation-steps", "3"], "minibatches * accumulation_steps=12 does not divide batch_size=64"),
        (["--batch-size", "0"], "--batch-size=0 is no whole number"),
        (["--batch-size", "10"], "minibatches=4 does not divide batch_size=10"),
        (["--no-shared-trunk", "--pretrained", "smollm2"], "--pretrained brings its own network"),
    ],
)
def test_memory_of_what_is_not_there(options, words, capsys):
    """Catches: a traceback, a size that is left out without a word."""
    assert main(["bench", "memory", *options]) == 2
    assert words in capsys.readouterr().err


def test_work_beyond_the_context_of_a_checkpoint(tmp_path, capsys):
    """Catches: an estimate, and cards where it fits, of work that the checkpoint cannot do."""
    checkpoint, most = str(write_checkpoint(tmp_path)), bench.settings_of(json.loads((tmp_path / "config.json").read_text())).most_steps
    assert main(["bench", "memory", "--pretrained", checkpoint, "--prompt-length", "3", "--response-length", str(most - 2)]) == 2
    assert f"tokens are longer than the context of {most} that {checkpoint} knows. Use {most} or less." in capsys.readouterr().err


def test_the_share_of_the_peak_by_hand():
    """Catches: a backward pass, an epoch, a second trunk or the reward model not counted, or embeddings counted as products."""
    make = lambda shared: new_policy("lstm", 10, width=8, layers=1, heads=2, memory=7, shared=shared)
    trunk, head = 2 * 8 * (4 * 8), 10 * 8  # two kernels of four gates; the embedding that gives the logits
    inputs, responses = 2 * (3 + 4 - 1), 2 * 4
    for trunks in (1, 2):
        policy, reward = make(shared=trunks == 1), bench.RewardModel(make(True).new_encoder())
        acting = 2 * (trunks * trunk * inputs + head * responses)
        reference, scoring = 2 * (trunk * inputs + head * responses), 2 * trunk * 2 * 7
        assert bench.iteration_flops(policy, reward.encoder, 5, 2, 3, 4) == acting * (1 + 3 * 5) + reference + scoring


def test_no_iterations_is_refused(tiny, capsys):
    """Catches: a traceback (or a NaN) for `--iterations 0`."""
    assert main(["bench", "text", "--iterations", "0", "--no-jit"]) == 2
    assert capsys.readouterr().err == "ppo-keras: error: --iterations 0 is less than 1. Use a number such as 10.\n"


def test_the_share_of_logging(tiny, monkeypatch, capsys):
    """Catches: views counted in every iteration or in none, an iteration that contains its own logging, text after the JSON."""
    monkeypatch.setattr(bench, "VOCABULARY", 300)
    assert main(["bench", "logging", "--iterations", "1", "--no-jit"]) == 0
    *_, line, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert list(result) == ["iteration_seconds", "scalars_seconds", "views_seconds", "first_seconds", "share"] and "every 20 iterations" in line
    cost = result["scalars_seconds"] + result["views_seconds"] / 20
    assert result["share"] == pytest.approx(cost / (cost + result["iteration_seconds"]), abs=2e-3) and min(result.values()) > 0
    assert main(["bench", "logging", "--iterations", "0"]) == 2 and "--iterations 0 is less than 1" in capsys.readouterr().err


# The command `bench cartpole`.


@pytest.mark.parametrize("options", [pytest.param([], id="ours"), pytest.param(["--gym"], id="gym", marks=pytest.mark.full)])
def test_cartpole_ends_with_json_of_three_figures(options, capsys):
    """Catches: a figure left out or renamed, text after the JSON, Gymnasium's environment named where ours was timed."""
    if options:
        pytest.importorskip("gymnasium")
    assert main(["bench", "cartpole", "--environments", "2", "--steps", "500", "--no-jit", *options]) == 0
    *_, line, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert list(result) == ["steps_per_second", "compile_seconds", "episode_return"]
    assert all(value > 0 for value in result.values()) and result["episode_return"] < 200  # after 500 steps
    assert ("of Gymnasium" in line) == bool(options) and "2 environments x 128 steps, 1 iterations a call, 512 steps in" in line


@pytest.mark.parametrize("environments, steps, gym", [(4, 500_000, False), (256, 500_000, False), (4, 513, False), (4, 1, False), (4, 1025, True)])
def test_steps_a_second_of_cartpole_by_hand(monkeypatch, capsys, environments, steps, gym):
    """Catches: the compiling call timed too, steps asked for counted in place of steps done, weights that the first call trained, the first return shown."""
    if gym:
        pytest.importorskip("gymnasium")
    clock, fits = iter([100.0, 107.0, 200.0, 204.0]), []
    monkeypatch.setattr(bench, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))

    def fit(self, steps_per_epoch=1, verbose=None):
        fits.append((steps_per_epoch, self.iterations_per_call, int(self.iteration)))
        self.iteration.assign_add(3)
        return types.SimpleNamespace(history={"episode/return": [20.0, 30.0]})

    monkeypatch.setattr(bench.EnvironmentPPO, "fit", fit)
    bench.bench_cartpole("mlp", environments, steps, gym, jit_compile=False)
    (first, per_call, start), (calls, *same) = fits
    assert (first, start) == (1, 0) and same == [per_call, 0] and (per_call == 1 or not gym)
    done = calls * per_call * environments * 128
    assert 0 <= done - steps < per_call * environments * 128
    result = json.loads(capsys.readouterr().out.rstrip("\n").split("\n")[-1])
    assert result == {"steps_per_second": done / 4, "compile_seconds": 7.0, "episode_return": 30.0}


@pytest.mark.parametrize("option", ["--environments", "--steps"])
def test_no_cartpole_is_refused(option, capsys):
    """Catches: a traceback (or a division by 0) for `--environments 0`."""
    assert main(["bench", "cartpole", option, "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ppo-keras: error: {option} 0 is less than 1. Use a number such as ")
