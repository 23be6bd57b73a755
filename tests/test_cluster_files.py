"""`tutorials/cluster/`: files that start a run on many machines."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ppo_keras.commands.parser import parse

CLUSTER = Path(__file__).parents[1] / "tutorials" / "cluster"


def commands(text):
    """The words of each `ppo-keras` command in a text, variables of the shell filled in."""
    filled = text.replace('"$run"', "x").replace("$resume", "").replace('"$JOB_COMPLETION_INDEX"', "1")
    return [shlex.split(command)[1:] for command in re.findall(r"ppo-keras train [^\n]*", filled)]


@pytest.mark.parametrize("name, count", [("slurm.sh", 1), ("kubernetes.yaml", 1), ("docker-compose.yml", 2)])
def test_commands_are_accepted(name, count):
    """Catches: an option that was renamed, workers that are called otherwise by others, an index beyond them."""
    found = commands((CLUSTER / name).read_text())
    sharing = [parse(command).config.sharing for command in found]
    assert len(sharing) == count and len({one.workers for one in sharing}) == 1
    if name != "slurm.sh":
        assert len(sharing[0].workers.split(",")) == 2 and {one.worker_index for one in sharing} == ({0, 1} if count == 2 else {1})


def test_the_files_fit_together():
    """Catches: a file that cannot be read, hosts that are no services or pods, pods without the volume."""
    compose = yaml.safe_load((CLUSTER / "docker-compose.yml").read_text())
    hosts = lambda command: [address.partition(":")[0] for address in parse(commands(command)[0]).config.sharing.workers.split(",")]
    assert hosts(compose["services"]["chief"]["command"]) == list(compose["services"])
    service, claim, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    name, pods, pod = job["metadata"]["name"], job["spec"]["completions"], job["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert hosts(container["args"][0]) == [f"{name}-{i}.{service['metadata']['name']}" for i in range(pods)] and pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name} and pods == job["spec"]["parallelism"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"] and container["volumeMounts"][0]["name"] == volume["name"]
    assert subprocess.run(["bash", "-n", CLUSTER / "slurm.sh"], check=False).returncode == 0


def test_the_exchange_is_measured():
    """Catches: tables that are not computed, an efficiency that grows with the gradient, a line that does not pass through what was measured."""
    done = subprocess.run([sys.executable, CLUSTER / "exchange.py"], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    measured = [list(map(float, line.replace(",", "").split())) for line in done.stdout.splitlines() if re.match(r" *[\d,]+ +[\d.]+ +[\d.]+$", line)]
    assert len(measured) == 5 and measured[-1][1] > measured[0][1] > 0
    assert all(0.3 < fitted / found < 3 for _, found, fitted in measured)
    shares = {line[:26].strip(): int(line.split()[-1].rstrip("%")) for line in done.stdout.splitlines() if "64 workers, 10 Gbit/s" in line}
    assert shares["135M, all weights"] < shares["135M, adapters of rank 8"] and shares["1B, all weights"] < shares["1B, adapters of rank 8"]


def test_what_shards_a_matrix_is_tried():
    """Catches: a program that raises, or README's words on it that are no longer true."""
    done = subprocess.run([sys.executable, CLUSTER / "sharding.py"], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    keras_says, dtensor_says, together = done.stdout.splitlines()[-3:]
    assert "of shape (4, 8) on device:CPU:0" in keras_says and "[(4, 4), (4, 4)], gradient that of the whole: True" in dtensor_says
    assert "Error" in together
