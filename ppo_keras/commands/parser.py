"""The options of every command. TensorFlow is imported only by the commands that need it, so that --help answers at once."""

import argparse
import difflib
import importlib

from simple_parsing import ArgumentParser, SimpleHelpFormatter
from simple_parsing.wrappers.field_wrapper import DashVariant

from ppo_keras.commands.quiet import quiet_start
from ppo_keras.commands.sizes import SIZES
from ppo_keras.commands.train import train
from ppo_keras.environments.config import TASKS as AGENT_TASKS
from ppo_keras.environments.config import AgentConfig, settings_for, suits_one_thread
from ppo_keras.errors import InputError
from ppo_keras.networks.adapter_settings import LAYERS
from ppo_keras.pretrained.config import CRITICS, WEIGHTS
from ppo_keras.pretrained.export_settings import DTYPES
from ppo_keras.runs.folder import STAGES
from ppo_keras.tasks.config import TASKS as TEXT_TASKS
from ppo_keras.tasks.config import settings_for as settings_for_texts

EXAMPLES = """examples:
  ppo-keras train generation
  ppo-keras train cartpole --seeds 5
  ppo-keras train cartpole-no-velocity --model lstm
  ppo-keras train cartpole-no-velocity --resume cartpole-no-velocity
  ppo-keras train gym:Acrobot-v1
  ppo-keras evaluate cartpole --episodes 100
  ppo-keras compare generation:before generation
  ppo-keras chat generation
  ppo-keras train generation --model lstm --run lstm --seed 1
  ppo-keras train generation --data reviews.csv --text-column review --label-column stars
  ppo-keras train generation --pretrained smollm2 --run smollm2
  ppo-keras train generation --reward my_rewards:mentions_an_animal --run animals
  ppo-keras train classification --costs "0 1; 5 0"
  ppo-keras train question-answering --data questions.csv --question-column q --answer-column a
  ppo-keras train translation --model lstm --run lstm
  ppo-keras generate generation --prompt "The ending" --count 3
  ppo-keras export generation exported
  ppo-keras bench text
"""


class Parser(ArgumentParser):
    """Says what is wrong with the options in one line, without the usage of fifty options before it."""

    def error(self, message):
        self.exit(2, f"ppo-keras: error: {' '.join(message.split())}. See {self.prog} --help.\n")


def build_parser(arguments=()):
    """The parser of every command; each sub-parser names its function as `command`.

    The options of a task are added only where `arguments` name it: there are fifty for each.
    """
    style = dict(add_option_string_dash_variants=DashVariant.DASH, formatter_class=SimpleHelpFormatter, allow_abbrev=False)
    parser = Parser(prog="ppo-keras", description="PPO for language models and agents in Keras and TensorFlow.", epilog=EXAMPLES, **style)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    training = commands.add_parser("train", help="train a task", description="Trains a task.", **style)
    tasks = training.add_subparsers(title="tasks", metavar="TASK", required=True)
    chosen = arguments[1] if arguments[:1] == ["train"] and len(arguments) > 1 else None
    for name, (settings, purpose) in TEXT_TASKS.items():
        task = tasks.add_parser(
            name, help=purpose, description=f"Supervised training, then PPO; the task: {purpose}.",
            epilog=f"example:\n  ppo-keras train {name} --model lstm --run lstm --iterations 60", **style,
        )  # fmt: skip
        if name == chosen:
            defaults = settings_for_texts(name, _option(arguments, "--pretrained", None), "--chat" in arguments)
            task.add_arguments(settings, dest="config", default=defaults)
            _add_resume(task)
            task.set_defaults(command=lambda parsed: train(chosen, parsed, arguments))
    known = dict(AGENT_TASKS) | ({chosen: (None, "")} if (chosen or "").startswith("gym:") and chosen != "gym:" else {})
    for name, (_, purpose) in known.items():
        task = tasks.add_parser(
            name, help=purpose, description=f"Trains an agent: {purpose or name}.",
            epilog=f"example:\n  ppo-keras train {name} --model lstm --run lstm --seeds 5", **style,
        )  # fmt: skip
        if name == chosen:
            settings = settings_for(name, _option(arguments, "--model", "mlp"))
            task.add_arguments(type(settings), dest="config", default=settings)
            _add_resume(task)
            task.set_defaults(command=lambda parsed: train(chosen, parsed, arguments))
    if chosen == "gym:":
        raise InputError("gym: names no environment. Add its id, such as gym:Acrobot-v1.")
    if chosen and not chosen.startswith("-") and chosen not in tasks.choices:
        near = difflib.get_close_matches(chosen, tasks.choices, n=1, cutoff=0.0)[0]
        raise InputError(f"there is no task {chosen!r}; the nearest is {near}. Known: {', '.join(tasks.choices)}, and gym:ID for Gymnasium's.")
    tasks.metavar = "TASK (also gym:ID, such as gym:Acrobot-v1)"

    _add_readers(commands, style)

    writing = commands.add_parser(
        "generate", help="continue, answer, translate or label a prompt with the model of a run",
        description="Continues, answers, translates or labels prompts with the model of a run (a classifier needs no option but --stage).",
        epilog='example:\n  ppo-keras generate generation --prompt "The ending" --count 3 --stage before', **style,
    )  # fmt: skip
    writing.add_argument("run", metavar="RUN", help="name or folder of a run")
    writing.add_argument(
        "--prompt", type=str, action="append", required=True,
        help="the beginning of a text (with control codes, a label before it: 'positive: The'), a question, or a text; may be given several times",
    )  # fmt: skip
    writing.add_argument("--stage", choices=("before", "after"), default="after", help="the model before or after PPO")
    writing.add_argument("--count", type=int, default=1, help="continuations of each prompt")
    writing.add_argument("--length", type=int, help="most tokens of a continuation (as in training)")
    writing.add_argument("--temperature", type=float, help="divides the logits (as in training)")
    writing.add_argument("--greedy", action="store_true", help="always the most probable token")
    writing.add_argument("--top-k", type=int, help="sample among the K most probable tokens")
    writing.add_argument("--top-p", type=float, help="sample among the most probable tokens that hold this probability")
    _add_source(writing)
    writing.set_defaults(command=_later("generate", "generate"))

    exporting = commands.add_parser(
        "export", help="write the model of a run for other libraries",
        description="Writes the model of a run into a new folder in Hugging Face's format, which transformers and others load: the weights with their "
        "adapters added, the config and the tokenizer. Of a network from nothing this is a GPT-NeoX. The value head is left out.",
        epilog="examples:\n  ppo-keras export generation exported --stage best\n  ppo-keras export smollm2 adapters --adapters-only", **style,
    )  # fmt: skip
    exporting.add_argument("run", metavar="RUN", help="name or folder of a run whose model writes text")
    exporting.add_argument("folder", metavar="FOLDER", help="a new folder, or an empty one")
    _add_stage(exporting)
    layouts = exporting.add_mutually_exclusive_group()
    layouts.add_argument("--adapters-only", action="store_true", help="the adapters alone, in PEFT's format")
    layouts.add_argument("--gguf", action="store_true", help="a GGUF file, FOLDER/model.gguf (Llama, Mistral, Qwen, GPT-2 with a byte-level tokenizer)")
    exporting.add_argument(
        "--dtype",
        type=str,
        metavar="KIND",
        help=f"{', '.join(DTYPES)} (that of the checkpoint; of a GGUF file float16; of adapters and networks from nothing float32)",
    )
    exporting.add_argument("--runs-folder", type=str, default="runs", help="where the run folders are")
    exporting.set_defaults(command=_later("export", "export"))

    bench = commands.add_parser("bench", help="measure speed and memory", description="Measures speed and memory; the last line is JSON.", **style)
    kinds = bench.add_subparsers(title="what", metavar="WHAT", required=True)
    text = kinds.add_parser(
        "text", help="one PPO iteration of a language model", description="Times one PPO iteration of a language model and its parts.",
        epilog="examples:\n  ppo-keras bench text --no-shared-trunk\n  ppo-keras bench text --pretrained smollm2 --iterations 3\n  ppo-keras bench text --pretrained smollm2 --weights bfloat16 --recompute", **style,
    )  # fmt: skip
    text.add_argument("--model", choices=("transformer", "lstm"), default="transformer", help="kind of network")
    text.add_argument("--no-shared-trunk", action="store_true", help="separate policy and value networks")
    text.add_argument("--no-jit", action="store_true", help="TensorFlow graphs without XLA")
    text.add_argument("--iterations", type=int, default=10, help="timed iterations")
    _add_sizes(text)
    text.set_defaults(command=_benchmark("bench_text", lambda o: (o.model, not o.no_shared_trunk, not o.no_jit, o.iterations)))
    memory = kinds.add_parser(
        "memory", help="what memory an iteration takes, before anything is loaded",
        description="Estimates the memory of one PPO iteration of a language model, part by part and phase by phase, for this machine and for cards that are "
        "named. No weight is read: of a checkpoint, config.json is enough.",
        epilog="examples:\n  ppo-keras bench memory --pretrained smollm2 --batch-size 64\n  ppo-keras bench memory --pretrained my_model --weights bfloat16", **style,
    )  # fmt: skip
    memory.add_argument("--no-shared-trunk", action="store_true", help="separate policy and value networks")
    memory.add_argument("--devices", type=int, default=1, help="how many devices share the batch: the memory is that of each")
    _add_sizes(memory)
    memory.set_defaults(command=_benchmark("bench_memory", lambda o: (not o.no_shared_trunk, o.devices)))
    logging = kinds.add_parser(
        "logging", help="the share of time that TensorBoard takes", description="Times what TensorBoard costs in PPO of a language model.",
        epilog="example:\n  ppo-keras bench logging --iterations 3", **style,
    )  # fmt: skip
    logging.add_argument("--no-jit", action="store_true", help="TensorFlow graphs without XLA")
    logging.add_argument("--iterations", type=int, default=5, help="timed iterations")
    logging.set_defaults(command=_later("bench", "bench_logging", lambda o: (o.iterations, not o.no_jit)))
    before = kinds.add_parser(
        "supervised", help="the stages before PPO: a writer, reward models", description="Times the supervised stages of train generation, after compilation.",
        epilog="example:\n  ppo-keras bench supervised --model lstm", **style,
    )  # fmt: skip
    before.add_argument("--model", choices=("transformer", "lstm"), default="transformer", help="kind of network")
    before.add_argument("--epochs", type=int, default=5, help="timed epochs of 50 steps")
    before.add_argument("--no-jit", action="store_true", help="TensorFlow graphs without XLA")
    before.set_defaults(command=_later("supervised", "bench_supervised", lambda o: (o.model, o.epochs, not o.no_jit)))
    scaling = kinds.add_parser(
        "scaling", help="how time grows with batch, lengths, width, layers, vocabulary, environments",
        description="Times PPO iterations of growing sizes, one size at a time, and fits exponents: seconds ~ size^k. The sizes that do not grow are those of "
        "bench text. Everything takes some ten minutes, most of them for compiling.",
        epilog="examples:\n  ppo-keras bench scaling --of batch response --picture scaling.png\n  ppo-keras bench scaling --of environments", **style,
    )  # fmt: skip
    scaling.add_argument("--of", nargs="+", choices=SIZES, metavar="SIZE", help=f"which grow: {', '.join(SIZES)}; all where none is named")
    scaling.add_argument("--model", choices=("transformer", "lstm"), default="transformer", help="kind of network, for texts")
    scaling.add_argument("--iterations", type=int, default=3, help="timed iterations of each size")
    scaling.add_argument("--no-jit", action="store_true", help="TensorFlow graphs without XLA")
    scaling.add_argument("--picture", metavar="FILE", help="a PNG file to draw the times into")
    scaling.set_defaults(command=_later("scaling", "bench_scaling", lambda o: (o.of or tuple(SIZES), o.model, o.iterations, not o.no_jit, o.picture)))
    agents = kinds.add_parser(
        "cartpole", help="steps a second of an agent on CartPole", description="Times training on CartPole-v1, after compilation.",
        epilog="example:\n  ppo-keras bench cartpole --environments 256", **style,
    )  # fmt: skip
    agents.add_argument("--environments", type=int, default=4, help="copies that are acted in side by side")
    agents.add_argument("--steps", type=int, default=500_000, help="environment steps")
    agents.add_argument("--model", choices=("mlp", "lstm", "transformer"), default="mlp", help="kind of network")
    agents.add_argument("--gym", action="store_true", help="Gymnasium's CartPole through the bridge, instead of ours")
    agents.add_argument("--no-jit", action="store_true", help="TensorFlow graphs without XLA")
    select = lambda o: (o.model, o.environments, o.steps, o.gym, not o.no_jit)
    small = lambda o: suits_one_thread(o.model, o.environments * 128 // 4, AgentConfig())
    agents.set_defaults(command=_later("bench", "bench_cartpole", select, small))
    return parser


def _add_sizes(command):
    """The options of `bench.Sizes`."""
    command.add_argument("--pretrained", metavar="NAME", help="a checkpoint with adapters instead: smollm2, a folder, a GGUF file, or a name on the hub")
    command.add_argument("--batch-size", type=int, help="responses in an iteration (64; of a checkpoint 16)")
    command.add_argument("--prompt-length", type=int, help="tokens of a prompt (16; of a checkpoint 32)")
    command.add_argument("--response-length", type=int, help="tokens of a response (48; of a checkpoint 32)")
    command.add_argument("--minibatches", type=int, default=4, help="into which an iteration is divided")
    command.add_argument("--accumulation-steps", type=int, default=1, help="micro-batches that a minibatch is split into, to save memory")
    command.add_argument("--lora-rank", type=int, help="of a checkpoint's adapters (8); 0 trains every weight")
    command.add_argument("--lora-layers", choices=tuple(LAYERS), default="attention", help="of a checkpoint, which have adapters")
    command.add_argument(
        "--critic", choices=CRITICS, default="shared", help="of a checkpoint: a head, one whose gradient stops there, or with adapters of its own"
    )
    command.add_argument("--weights", choices=WEIGHTS, default="float32", help="of a checkpoint")
    command.add_argument("--recompute", action="store_true", help="compute a transformer's blocks once more backwards instead of keeping them")
    command.add_argument(
        "--reward-model",
        choices=("head", "trunk", "none"),
        help="a head on the reference's trunk (so with adapters), a trunk of its own (so without), or a function",
    )


def _benchmark(name, select):
    """A benchmark of language models: `select` picks what comes before its `Sizes`."""

    def command(options):
        with quiet_start():
            bench = importlib.import_module("ppo_keras.commands.bench")
        getattr(bench, name)(*select(options), bench.Sizes.of(options))

    return command


def _later(module, name, select=lambda options: (options,), one_thread=lambda options: False):
    """A function of a file of this room, imported when it is run; `select` picks its arguments from the options, `one_thread` says whether one is enough for it."""

    def command(options):
        with quiet_start() as started:
            started.one_thread = one_thread(options)
            function = getattr(importlib.import_module(f"ppo_keras.commands.{module}"), name)
        function(*select(options))

    return command


def _add_readers(commands, style):
    """The commands that look at runs: evaluate, compare, chat."""
    evaluating = commands.add_parser(
        "evaluate", help="measure runs, with confidence intervals",
        description="Measures runs of any task: return or reward, advantages, KL, entropy, time and pace. Texts are those of the test split. "
        "Each run's folder gets evaluation.json, and evaluation.png with all runs of the command.",
        epilog="examples:\n  ppo-keras evaluate cartpole --episodes 100\n  ppo-keras evaluate generation lstm --stage best", **style,
    )  # fmt: skip
    evaluating.add_argument("run", metavar="RUN", nargs="+", help="name or folder of a run; of several seeds, the units are the seeds")
    _add_stage(evaluating)
    _add_sampling(evaluating)
    evaluating.set_defaults(command=_later("evaluate", "evaluate"))

    comparing = commands.add_parser(
        "compare", help="two runs, or stages of one, on the same prompts",
        description="Two runs side by side on the same prompts (agents: episodes that begin alike), both scored by the reward of the first, and the "
        "share on which the second wins. comparison.json in the folder of the first has all rows.",
        epilog="examples:\n  ppo-keras compare generation:before generation\n  ppo-keras compare generation lstm --greedy", **style,
    )  # fmt: skip
    comparing.add_argument("first", metavar="RUN[:STAGE]", help=f"name or folder of a run; the stage is {', '.join(STAGES)} (after)")
    comparing.add_argument("second", metavar="RUN[:STAGE]", help="the other")
    comparing.add_argument("--greedy", action="store_true", help="always the most probable action or token")
    comparing.add_argument("--show", type=int, default=10, help="rows that are printed")
    _add_sampling(comparing)
    comparing.set_defaults(command=_later("compare", "compare"))

    chatting = commands.add_parser(
        "chat", help="type prompts to the model of a run",
        description="Reads prompts, a line each, and prints the response with the log-probability, KL, entropy and value of every token (of a "
        "classifier the probabilities of the labels), and the score where the reward needs no reference. A run that was trained with --chat remembers the turns until you type new. quit, Ctrl-D "
        "or Ctrl-C ends it.",
        epilog='examples:\n  ppo-keras chat generation --temperature 0.7\n  echo "The ending" | ppo-keras chat generation --greedy', **style,
    )  # fmt: skip
    chatting.add_argument("run", metavar="RUN", help="name or folder of a run")
    _add_stage(chatting)
    chatting.add_argument("--greedy", action="store_true", help="always the most probable token")
    chatting.add_argument("--temperature", type=float, help="divides the logits (as in training)")
    _add_source(chatting)
    chatting.set_defaults(command=_later("chat", "chat"))


def _add_sampling(command):
    command.add_argument("--samples", "--episodes", dest="count", metavar="N", type=int, help="prompts, texts or episodes (as after training)")
    _add_source(command)


def _add_stage(command):
    command.add_argument("--stage", choices=STAGES, default="after", help="the weights before PPO (not of agents), after it, or the most rewarded ones")


def _add_source(command):
    command.add_argument("--seed", type=int, default=0, help="of the samples")
    command.add_argument("--runs-folder", type=str, default="runs", help="where the run folders are")


def parse(arguments):
    """The namespace of a command line; see `build_parser`."""
    return build_parser(arguments).parse_args(arguments)


def _option(arguments, name, default):
    """The value of one option, before the others are known (the defaults of a task depend on its model)."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument(name, nargs="?", default=default, const=default)
    return vars(peek.parse_known_args(list(arguments))[0])[name.strip("-")]


def _add_resume(task):
    task.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped, by its name or folder; its settings are its own")
