"""`ppo_keras.pretrained.machine`: what memory there is and was taken, and what is refused before it is tried."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from ppo_keras.errors import InputError
from ppo_keras.networks.transformer import Form
from ppo_keras.pretrained import machine
from ppo_keras.pretrained.families import Settings
from ppo_keras.pretrained.machine import check_weights_fit, check_work_fits, forget_peak, free_memory, gigabytes, peak_memory
from ppo_keras.pretrained.memory import CONTEXT, Work, count_weights, estimate

LARGE = Settings(vocabulary_size=50_000, width=2048, layers=16, heads=32, most_steps=1024, form=Form(mlp_width=8192))
WORK = Work(batch=64, prompt=500, response=500, lora_rank=8)


def has(monkeypatch, available, card=False):
    monkeypatch.setattr(machine, "memory_here", lambda: (available, card))


def test_what_is_free(tmp_path, monkeypatch):
    """Catches: kilobytes taken for bytes, what this process holds counted as lost, the whole machine's memory in a container that may have less, and a
    system without /proc where nothing can be loaded."""
    files = {"/proc/meminfo": "MemTotal:       32000 kB\nMemAvailable:      3 kB\n", "/proc/self/status": "VmHWM:  9 kB\nVmRSS:  4 kB\n"}
    for path, text in files.items():
        (tmp_path / path.replace("/", "_")).write_text(text)
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / path.replace("/", "_"))
    assert free_memory() == 7 * 1024 and peak_memory() == 9 * 1024
    for limit in machine.LIMITS:
        file = tmp_path / limit.replace("/", "_")
        for said, free in (("max\n", 7 * 1024), ("9223372036854771712\n", 7 * 1024), ("6000\n", 6000)):
            file.write_text(said)
            assert free_memory() == free
        file.unlink()
    for path in tmp_path.iterdir():
        path.unlink()
    assert free_memory() is None and peak_memory() > 1e8  # by getrusage
    check_weights_fit(LARGE, "float32", "large")
    check_work_fits(LARGE, WORK, "large")


def test_a_system_that_knows_neither(tmp_path, monkeypatch):
    """Catches: Windows, which has no module `resource`, so that no text task could be imported."""
    monkeypatch.setitem(sys.modules, "resource", None)
    spec = importlib.util.spec_from_file_location("elsewhere", machine.__file__)
    spec.loader.exec_module(elsewhere := importlib.util.module_from_spec(spec))
    monkeypatch.setattr(elsewhere, "Path", lambda path: tmp_path / "none" / "there")
    elsewhere.forget_peak()
    assert elsewhere.free_memory() is elsewhere.peak_memory() is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux forgets a peak, others do not")
def test_the_peak_is_that_since_it_was_forgotten():
    """Catches: the memory that there is taken for the most that was, a peak that is that of an earlier piece of work."""
    forget_peak()
    before = peak_memory()
    block = np.ones(2**26, np.uint8)
    with_it = peak_memory()
    del block
    assert 2**25 < with_it - before < 2**28 and peak_memory() > with_it - 2**22  # the system counts by pages, and not to the last
    forget_peak()
    assert peak_memory() < with_it - 2**25


def test_a_card(monkeypatch):
    """Catches: the memory of the machine where there is a GPU, its limit without what CUDA has taken before, the peak of the process in place of the card's."""
    monkeypatch.setattr(machine.tf.config, "list_physical_devices", lambda kind: [kind])
    device = lambda kind, limit: type("Device", (), dict(device_type=kind, memory_limit=limit))()
    monkeypatch.setattr(machine.device_lib, "list_local_devices", lambda: [device("CPU", 1), device("GPU", 5_000_000), device("GPU", 2)])
    monkeypatch.setattr(machine.tf.config.experimental, "get_memory_info", lambda name: {"current": 1, "peak": 3_000_000})
    forgotten = []
    monkeypatch.setattr(machine.tf.config.experimental, "reset_memory_stats", forgotten.append)
    forget_peak()
    assert machine.memory_here() == (5_000_000 + CONTEXT, True) and peak_memory() == 3_000_000 + CONTEXT and forgotten == ["GPU:0"]


def test_weights_that_cannot_be_read(monkeypatch):
    """Catches: weights that do not fit and are begun, advice that would not fit either, weights refused that may fit."""
    needed = {kind: estimate(LARGE, Work(1, 1, 1, weights=kind)).totals["loading"] for kind in ("float32", "bfloat16")}
    has(monkeypatch, needed["float32"] / 1.24)
    check_weights_fit(LARGE, "float32", "large")
    has(monkeypatch, needed["float32"] / 1.26)
    with pytest.raises(
        InputError, match=r"^large needs 4\.\d GB of memory in float32, and 3\.\d GB are free. bfloat16 needs 2\.\d GB: use weights=\"bfloat16\", or take"
    ):
        check_weights_fit(LARGE, "float32", "large")
    has(monkeypatch, needed["bfloat16"] / 1.26)
    for kind in needed:
        with pytest.raises(InputError, match=rf"in {kind}, and 2\.\d GB are free. Free some, or take a checkpoint of less than 0\.\d+ billion parameters.$"):
            check_weights_fit(LARGE, kind, "large")
    assert 0.9e9 < count_weights(LARGE) < 1.1e9


def test_work_that_cannot_fit(monkeypatch):
    """Catches: a batch that is begun although it cannot fit, one refused that may, and advice that does not help."""
    needed = estimate(LARGE, WORK).peak
    has(monkeypatch, needed / 1.24)
    check_work_fits(LARGE, WORK, "large")
    has(monkeypatch, needed / 1.3)
    with pytest.raises(InputError) as error:
        check_work_fits(LARGE, WORK, "large")
    said = str(error.value)
    assert said.startswith("large with a batch of 64, prompts of 500 and responses of 500 tokens needs about ") and "(update)" in said
    assert said.endswith(
        f"and {gigabytes(needed / 1.3)} are free. Use --batch-size 44 or --accumulation-steps 16 or --recompute."
    )  # bfloat16 takes more on CPUs
    with pytest.raises(InputError, match="Use --batch-size 40 or"):
        check_work_fits(LARGE, WORK, "large", multiple=5)
    has(monkeypatch, 1e9)
    with pytest.raises(InputError, match="Use a smaller checkpoint.$"):
        check_work_fits(LARGE, WORK, "large")


def test_gigabytes_in_words():
    """Catches: bytes taken for something else, digits that nobody knows."""
    assert [gigabytes(count) for count in (8e6, 2.34e9, 9.96e9, 12.3e9)] == ["0.008 GB", "2.3 GB", "10 GB", "12 GB"]
