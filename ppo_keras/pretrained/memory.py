"""How many bytes PPO of a language model takes, by its sizes alone: no weight is read, nothing is compiled.

`estimate` adds up what is there all the time (weights, optimizer) and what each phase of an iteration needs for itself. XLA reserves one piece of memory for
all phases, as large as the largest of them, so that the peak is that of one phase. The terms are those that XLA itself names, tensor by tensor
(`XLA_FLAGS=--xla_dump_to=FOLDER`, the files `*buffer-assignment.txt`), for Llama's form and for our own; what follows from no size was measured.

What is not here: LSTMs, several devices, programs without XLA. Of prompts of several widths the widest counts.
"""

import dataclasses
import math
from typing import Any

from ppo_keras.blocks import NUMBERS
from ppo_keras.networks.adapter_settings import LAYERS

BYTES = {"float32": 4, "bfloat16": 2}
TOLERANCE = 1.25  # estimates are right within a quarter: what needs more than that beyond the memory there is cannot fit
# Measured on CPUs. TensorFlow and Keras once they are imported, with the libraries of tokenizers and checkpoints; and what XLA and LLVM hold on to of a
# compiled iteration, in all and for each block of the policy: of one with adapters, and where all its weights have gradients and an optimizer.
RUNTIME, PROGRAM, ADAPTED_BLOCK, TRAINED_BLOCK = 0.75e9, 0.6e9, 38e6, 65e6
CONTEXT = 0.6e9  # of CUDA and its libraries on a card, by what is usual: none was there to measure it
CARDS = {  # GB as they are sold
    "V100 16 GB": 16, "T4": 16, "V100 32 GB": 32, "L4": 24, "RTX 4090": 24, "RTX 5090": 32, "A100 40 GB": 40, "L40S": 48, "A100 80 GB": 80, "H100": 80,
    "H200": 141, "B200": 192,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Work:
    """What PPO does with a model, as far as memory depends on it.

    | field | meaning |
    |---|---|
    | `batch`, `prompt`, `response` | responses in an iteration; tokens of a prompt, and of a response |
    | `minibatches`, `accumulation_steps` | into how many parts the batch is divided for an update, and each of them for its gradients |
    | `lora_rank`, `lora_layers` | of the adapters, see `add_adapters`; rank 0: every weight is trained |
    | `weights` | "float32" or "bfloat16" |
    | `critic` | "shared": a head on the policy's hidden states; "adapters": it reads by itself, with adapters of its own; "network": a trunk of its own |
    | `reward` | None: a function; "head": a head on the reference's trunk; or the `Settings` of a reward model with a trunk of its own |
    | `recompute` | blocks are computed once more in the backward pass: of each, only what goes in is kept |
    | `devices` | how many share the batch, each with all weights; the memory is that of one |
    """

    batch: int
    prompt: int
    response: int
    minibatches: int = 4
    accumulation_steps: int = 1
    lora_rank: int = 0
    lora_layers: Any = "attention"
    weights: str = "float32"
    critic: str = "shared"
    reward: Any = None
    recompute: bool = False
    devices: int = 1

    @property
    def sequences(self):
        """How many are differentiated at once."""
        return math.ceil(self.batch / (self.minibatches * self.accumulation_steps))

    @property
    def savings(self):
        """{option of the command line: the `Work` with it}: what may take less memory."""
        other, whole = (lambda **change: dataclasses.replace(self, **change)), self.batch // self.minibatches
        options = {"--weights bfloat16": other(weights="bfloat16")} if self.lora_rank and self.weights == "float32" else {}
        if whole > self.accumulation_steps:
            options |= {f"--accumulation-steps {whole}": other(accumulation_steps=whole)}
        return options if self.recompute else options | {"--recompute": other(recompute=True)}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes: {phase: {part: bytes}}, in the order in which the phases follow each other."""

    phases: dict

    @property
    def totals(self):
        """{phase: bytes}."""
        return {phase: sum(parts.values()) for phase, parts in self.phases.items()}

    @property
    def peak_phase(self):
        """The phase that needs most."""
        return max(self.totals, key=self.totals.get)

    @property
    def peak(self):
        """The bytes of that phase."""
        return self.totals[self.peak_phase]


def matrices_of(settings):
    """{linear layer of a block: (inputs, outputs)} of `Settings`."""
    plain = settings.plain()
    form, width, inside = plain.form, plain.width, plain.heads * plain.form.head_size
    return {
        "query_key_value": (width, inside + 2 * key_width(settings)), "output_projection": (inside, width),
        "expand": (width, form.mlp_width * (1 + form.gated)), "contract": (form.mlp_width, width),
    }  # fmt: skip


def key_width(settings):
    """Numbers of the keys of one step in a block; its values are as many."""
    form = settings.plain().form
    return form.key_heads * form.head_size


def count_block(settings):
    """Numbers of one block of `Settings`."""
    form = settings.plain().form
    biased = dict(query_key_value=form.query_key_value_bias, output_projection=form.output_bias, expand=form.mlp_bias, contract=form.mlp_bias)
    layers = sum(inputs * outputs + biased[name] * outputs for name, (inputs, outputs) in matrices_of(settings).items())
    return layers + _of_norm(form) * ((2 + 2 * form.sandwich) * settings.width + 2 * form.normalize_heads * form.head_size)


def count_weights(settings):
    """Numbers of the encoder of `Settings`: embeddings, blocks and the last norm."""
    form, embeddings = settings.plain().form, settings.vocabulary_size * settings.width
    positions = form.most_positions * settings.width if form.positions == "learned" else 0
    return embeddings * (2 - form.tied) + positions + settings.layers * count_block(settings) + _of_norm(form) * settings.width


def _of_norm(form):
    """Numbers of a norm for each that it norms: a scale, and of a layer norm a shift."""
    return 2 if form.norm == "layer" else 1


def count_adapters(settings, rank, layers="attention"):
    """Numbers of the adapters: A `(inputs, rank)` and B `(rank, outputs)` of each layer that has one; see `add_adapters`."""
    ranks = layers if isinstance(layers, dict) else dict.fromkeys(LAYERS[layers] if rank else (), rank)
    return settings.layers * sum(own * sum(matrices_of(settings)[name]) for name, own in ranks.items())


def activations_of_block(settings, work, card, sequences, steps, keys):
    """Bytes of what a block makes of some sequences and keeps for its backward pass.

    Twice the residual stream, which is float32 also in bfloat16, because each norm's gradient needs what went into it, and what the first one put out, because adapters (in float32) or weights of
    queries, keys and values have gradients that need it. Queries, keys and values, for those of attention; the softmax, in float32, and as what values are
    multiplied with. Of a gated MLP both halves of the hidden layer, the gate's sigmoid and their product; of another one the hidden layer and its tanh. Where
    the other layers are trained, too, what goes into each; where it is through adapters, XLA keeps what the hidden layer was without and with them.

    Args:
        settings, work, card: see `estimate`.
        sequences, steps, keys: B, T, and the steps that attention reads.
    """
    plain = settings.plain()
    form, width, rest = plain.form, plain.width, work.lora_rank == 0 or work.lora_layers != "attention"
    inside = plain.heads * form.head_size
    small = BYTES[work.weights]
    size = small if card else 4  # on CPUs products put out float32 (see `networks.products`), and but the MLP is kept so
    bytes_of_step = 2 * width * 4 + width * (4 if work.lora_rank else size) + inside * size
    bytes_of_step += plain.heads * keys * (4 if small == 4 else 4 + small) + form.mlp_width * (4 if form.gated else 2) * small
    if size > small:  # and what the first layer of the MLP put out in float32, rounded
        bytes_of_step += form.mlp_width * (1 + form.gated) * small
    if rest:
        bytes_of_step += (width + inside) * size + form.mlp_width * small * (1 + 2 * (work.lora_rank > 0))
    return sequences * (steps * bytes_of_step + keys * 2 * key_width(settings) * size)


def logits_at_once(settings, positions):
    """Numbers of the logits that exist at once, of so many positions: see `blocks.in_blocks`."""
    count = positions * settings.vocabulary_size
    if count <= NUMBERS:
        return count
    return math.ceil(positions / math.ceil(positions / max(1, NUMBERS // settings.vocabulary_size))) * settings.vocabulary_size


def estimate(settings, work, card=False):
    """What an iteration of PPO takes, compiled by XLA.

    Args:
        settings: the `Settings` of a checkpoint, or of a Transformer of our own.
        work: a `Work`.
        card: in the memory of a GPU; False in that of a process on CPUs, where the compiler is at home, too.

    Returns:
        An `Estimate`.

    Example:
        >>> estimate(settings_of(config), Work(batch=16, prompt=32, response=32, lora_rank=8)).peak  # doctest: +SKIP
        3412939104
    """
    work, shared = dataclasses.replace(work, batch=math.ceil(work.batch / work.devices)), work.devices > 1
    size, vocabulary, readings = BYTES[work.weights], settings.vocabulary_size, 1 if work.critic == "shared" else 2
    trunk = work.reward if hasattr(work.reward, "plain") else None  # of a reward model
    base, head = count_weights(settings) * (2 if work.critic == "network" else 1), settings.width + 1
    own = count_adapters(settings, work.lora_rank, work.lora_layers)  # the policy's
    trained = head + (readings * own if work.lora_rank else base)
    reward = size * count_weights(trunk) + 4 * (trunk.width + 1) if trunk else 4 * head if work.reward == "head" else 0
    loaded = {
        "TensorFlow": CONTEXT if card else RUNTIME,
        "weights": size * base,
        "adapters and heads": 4 * (trained if work.lora_rank else head),
    }
    always = loaded | {
        "compiled programs": 0 if card else PROGRAM + readings * settings.layers * (ADAPTED_BLOCK if work.lora_rank else TRAINED_BLOCK),
        # with adapters it is the policy with its adapters off, and a copy of its head, and of the critic's adapters
        "reference": 4 * (trained - own if work.lora_rank else head) + (0 if work.lora_rank else size * base),
        "reward model": reward,
        "optimizer": 2 * 4 * trained,  # Adam's two moments
    }
    before = work.prompt + work.response - 1  # what is read before the last token
    cache = readings * 2 * settings.layers * work.batch * (before + 1) * key_width(settings) * size
    through = lambda one, steps: activations_of_block(one, work, card, work.batch, steps, steps)  # forwards: of one block after the other
    kept = [activations_of_block(settings, work, card, work.sequences, steps, before) for steps in (before, work.response)]  # of a block, and of the last
    kept = readings * ((settings.layers - 1) * kept[0] + kept[1])
    if work.recompute:
        kept = readings * settings.layers * work.sequences * before * settings.width * 4  # of each block what goes in: the residual stream
        kept += activations_of_block(settings, work, card, work.sequences, before, before)
    trajectory = {"trajectory": 4 * work.batch * (2 * before + 10 * work.response)}
    scored, learned = work.batch * work.response, work.sequences * work.response  # positions with logits
    of_phases = {
        # of the prompt's cache and the one that grows in the loop there are two; while the prompt is read, the second is not there yet
        "rollout": {"cache": 2 * cache, "activations": max(0, through(settings, work.prompt) - cache), "logits": 3 * 4 * work.batch * vocabulary},
        "scoring": trajectory | {"activations": max(through(one, before) for one in (settings, trunk) if one), "logits": 2 * 4 * logits_at_once(settings, scored)},
        # logits, their exponentials, and the gradients of both; of a tied embedding the gradient begins with that of the head
        "update": trajectory | {
            "activations": kept, "logits": 4 * 4 * logits_at_once(settings, learned), "gradients": 0 if work.lora_rank else 4 * vocabulary * settings.width,
        },
        # joined into vectors, and added up over devices: two more of them
        "step": trajectory | {"gradients": 4 * trained * (3 if shared else 1)},
    }  # fmt: skip
    reading = 0 if card else 3 * 4 * max(map(math.prod, matrices_of(settings).values()))  # a layer as it is read, put together, and turned around
    if size == 2 and not card:  # before its loops XLA makes the head float32; for the backward pass it turns all matrices around, and the head once more
        head_alone = 4 * vocabulary * settings.width
        turned = head_alone + size * (vocabulary * settings.width + settings.layers * count_block(settings))
        for phase, count in (("rollout", head_alone), ("scoring", head_alone), ("update", turned)):
            of_phases[phase]["copies of weights"] = count
    phases = {"loading": loaded | {"reading": reading}} | {phase: always | parts for phase, parts in of_phases.items()}
    return Estimate({phase: {part: math.ceil(count) for part, count in parts.items()} for phase, parts in phases.items()})


def largest_batch(settings, work, available, card=False, multiple=1):
    """The largest batch that fits into so many bytes, a multiple of what the batch is divided into, and of `multiple`; 0 where none does."""
    step = math.lcm(work.minibatches * work.accumulation_steps * work.devices, multiple)
    fits = lambda count: estimate(settings, dataclasses.replace(work, batch=count * step), card).peak <= available
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * step
