"""`load_pretrained`: a language model that others trained, as a policy, and its tokenizer."""

import math

from tqdm import tqdm

from ppo_keras.errors import check_count, require
from ppo_keras.networks.adapters import add_adapters
from ppo_keras.pretrained.config import check_loading
from ppo_keras.pretrained.families import new_policy, settings_of
from ppo_keras.pretrained.peft import PeftAdapters
from ppo_keras.pretrained.sources import find_checkpoint
from ppo_keras.pretrained.tensors import read_into
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer
from ppo_keras.pretrained.weights import check_memory, open_weights


def load_pretrained(
    name, lora_rank=16, lora_alpha=None, lora_layers="attention", memory=256, weights="float32", revision=None, report=None, adapters=None, critic="shared"
):  # fmt: skip
    """A pretrained language model as an actor-critic whose value is 0 everywhere, and its tokenizer.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, fetched by pip), a folder in Hugging Face's format, a GGUF file, or a name on the hub.
        lora_rank: of the adapters that are trained (see `add_adapters`); 0 trains every weight.
        lora_alpha, lora_layers: see `add_adapters`.
        memory: steps that attention reaches back: at least prompt plus response.
        weights: "float32" or "bfloat16", of the frozen weights; adapters are float32.
        revision: of a name on the hub.
        report: called with how much is fetched or read, and of how much; None draws a progress bar.
        adapters: a folder in PEFT's format, which are trained further; their rank, alpha and layers are those of its `adapter_config.json`.
        critic: "shared", a head on the policy's hidden states; "detached", its gradient stops there; "adapters", it has adapters of its own.

    Returns:
        A `TransformerActorCritic` and a `PretrainedTokenizer`.

    Raises:
        InputError: no such checkpoint, one that is damaged, of another family, too large for this machine's memory, adapters of another model, or an
            argument out of range.

    Example:
        >>> writer, tokenizer = load_pretrained("smollm2", lora_rank=8)  # doctest: +SKIP
    """
    check_loading(lora_rank, lora_alpha, lora_layers, weights, adapters, critic)
    check_count("memory", memory, example=256)
    checkpoint = Checkpoint(name, revision, report, adapters)
    return checkpoint.policy(memory, lora_rank, lora_alpha, lora_layers, weights, report, critic=critic), checkpoint.tokenizer


class Checkpoint:
    """A checkpoint that was found: its tokenizer at once, its weights when a policy is made of them.

    | attribute | meaning |
    |---|---|
    | `tokenizer` | a `PretrainedTokenizer` |
    | `most_steps` | the longest context that it knows |
    | `adapters` | the `PeftAdapters` that were named, or None |

    Args:
        name, revision, report, adapters: see `load_pretrained`.

    Raises:
        InputError: see `load_pretrained`.
    """

    def __init__(self, name, revision=None, report=None, adapters=None):
        self.name, place = name, find_checkpoint(name, revision, report or Bar("fetching", "B"))
        self.weights = open_weights(place)
        self.settings = settings_of(self.weights.config)
        self.most_steps = self.settings.most_steps
        self.tokenizer = PretrainedTokenizer.from_folder(place) if place.is_dir() else PretrainedTokenizer.from_gguf_metadata(self.weights.metadata)
        self.adapters = None if adapters is None else PeftAdapters(adapters, self.weights, self.settings, name)

    @property
    def checksum(self):
        """The sha256 of its weights, the same wherever it lies."""
        return self.weights.checksum()

    def check(self, memory, weights="float32"):
        """Raises `InputError` where a policy of these settings could not be made; no weight is read."""
        require(
            memory <= self.most_steps,
            f"memory={memory} is longer than the context of {self.most_steps} that {self.name} knows. Use {self.most_steps} or less.",
        )
        check_memory(self.weights, weights)

    def policy(
        self, memory=256, lora_rank=16, lora_alpha=None, lora_layers="attention", weights="float32", report=None, labels=None, critic="shared"
    ):  # fmt: skip
        """A new `TransformerActorCritic` with these weights.

        Args:
            memory, lora_rank, lora_alpha, lora_layers, weights, report, critic: see `load_pretrained`. Adapters that were named have sizes of their own.
            labels: how many actions it has where it reads a whole text of `memory` tokens as one observation; None for a language model.

        Raises:
            InputError: a context beyond what it knows, weights that do not fit its config or this machine's memory.
        """
        self.check(memory, weights)
        policy, own = new_policy(self.settings, memory, weights, labels, critic == "detached"), critic == "adapters"
        read_into(policy.encoder, self.weights, report or Bar("reading", " weights"))
        if self.adapters:
            add_adapters(policy, **self.adapters.settings, critic=own)
            self.adapters.fill(policy)
        elif lora_rank:
            add_adapters(policy, lora_rank, lora_alpha, lora_layers, critic=own)
        policy.start_value_from_policy()
        return policy


class Bar:
    """A progress bar on stderr, drawn from its first call to the one that says that all is done."""

    def __init__(self, what, unit):
        self.make, self.bar = lambda total: tqdm(desc=what, total=total, unit=unit, unit_scale=True, leave=False), None

    def __call__(self, done, total):
        if self.bar is None:
            self.bar = self.make(total)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.bar.close()


def parameters(policy):
    """(all, trained) numbers of a policy."""
    count = lambda variables: sum(math.prod(variable.shape) for variable in variables)
    return count(policy.variables), count(policy.trainable_variables)
