"""What the tasks of language can be told, and the settings that suit each (no TensorFlow here)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Optional

from ppo_keras.config import (
    DeviceConfig,
    KLConfig,
    LoggingConfig,
    NetworkConfig,
    OptimizerConfig,
    PPOConfig,
    SupervisedConfig,
    check_divides,
    check_heads,
    check_seeds,
    optional,
    require,
    switch,
)
from ppo_keras.errors import InputError
from ppo_keras.pretrained.config import PretrainedConfig


@dataclass(frozen=True)
class TextConfig:
    """What every task of language can be told."""

    model: str = "transformer"  # transformer or lstm
    data: Optional[str] = None  # your own file: .csv, .tsv or .jsonl with named columns (generation: also .txt)
    validation_data: Optional[str] = None  # its validation split in a file of its own; by default a tenth of the file
    test_data: Optional[str] = None  # its test split in a file of its own; by default a tenth of the file
    dataset: Optional[str] = None  # or the name of a TensorFlow data set, such as imdb_reviews
    run: str = "text"  # name of the run; its folder is runs/NAME
    runs_folder: str = "runs"  # where the run folders are
    overwrite: bool = switch(False)  # replace a run of this name
    seed: int = 0  # of all randomness
    seeds: int = 1  # train this many times, with seed, seed + 1, ..., and report the spread
    jit: bool = switch(True)  # compile with XLA
    iterations: int = 120  # PPO iterations
    batch_size: int = 64  # responses in an iteration
    vocabulary_size: int = 2500  # pieces of the tokenizer, 260 of them bytes and special tokens
    checkpoint_every: int = 20  # iterations between two checkpoints
    network: NetworkConfig = NetworkConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    ppo: PPOConfig = PPOConfig(discount=1.0)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-4)
    logging: LoggingConfig = LoggingConfig()
    checkpoint: PretrainedConfig = PretrainedConfig()
    sharing: DeviceConfig = DeviceConfig()

    def __post_init__(self):
        require(self.model in ("transformer", "lstm"), f"model={self.model!r} is unknown. Use transformer or lstm.")
        check_seeds(self.seed, self.seeds)
        if self.model == "transformer":
            check_heads(self.network.width, self.network.heads)
        require(self.data is None or self.dataset is None, "--data and --dataset were both given. Give one.")
        require(
            self.data is not None or not (self.validation_data or self.test_data),
            "--validation-data and --test-data go with --data, the file to train on.",
        )
        for name in ("iterations", "batch_size", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is less than 1. Use a whole number of 1 or more.")
        require(
            self.model == "transformer" or not self.network.recompute, f"--recompute is for a transformer's blocks, but --model is {self.model}. Leave it out."
        )
        self.ppo.check_batch(self.batch_size)
        self.ppo.check_warmup(self.iterations)
        self.logging.check(self.model)
        if self.checkpoint.pretrained is not None:
            self.check_pretrained()

    free_sizes: ClassVar = ()  # of the network, which other networks than the policy have too

    def check_pretrained(self):
        """Raises `InputError` where a setting is of a model from nothing, but a checkpoint was named."""
        require(self.model == "transformer", f"--pretrained brings a transformer, but --model is {self.model}. Leave one of them out.")
        default = type(self).vocabulary_size
        require(self.vocabulary_size == default, f"--pretrained brings its tokenizer, so --vocabulary-size {self.vocabulary_size} has no use. Leave it out.")
        require(self.network.shared_trunk, "--pretrained has one trunk for policy and value. Leave out --no-shared-trunk.")
        default = type(self).network
        for name in ("layers", "width", "heads", "dropout"):
            value, free = getattr(self.network, name), name in self.free_sizes
            require(free or value == getattr(default, name), f"--pretrained brings its own sizes, so --{name} {value} has no use. Leave it out.")


@dataclass(frozen=True)
class GenerationConfig(TextConfig):
    """Everything `ppo-keras train generation` can be told."""

    run: str = "generation"  # name of the run; its folder is runs/NAME
    language: str = "en"  # of the bundled film reviews: en or zh
    text_column: Optional[str] = None  # where the text is ("text")
    label_column: Optional[str] = None  # where the label is ("label"); two classes, with --control-codes any number
    positive_label: Optional[str] = None  # which of the two labels is rewarded; by default the one that words such as good or 好评 tell
    chosen_column: Optional[str] = None  # preference pairs instead of labels: the better text
    rejected_column: Optional[str] = None  # and the worse one
    control_codes: bool = switch(False)  # prompts begin with a label, "positive:"; the reward is that the text has it
    reward: Optional[str] = None  # module:function of (prompt, response, columns of the data...) to a number or to parts by name, instead of a learned reward
    reward_weights: Optional[str] = None  # of the parts that the function returns, in their sum: correct=1,format=0.5; by default 1 each
    reward_processes: int = 0  # processes that call the function, where it is slow; 0: it is called in this one
    reward_timeout: Optional[float] = optional(None)  # most seconds of one call of the function, which then has a process of its own; none: any number
    prompt_length: int = 5  # most tokens of a prompt, the begin token included; prompts are beginnings of texts
    prompt_widths: int = 1  # with --chat: widths that batches of prompts of like length are padded to; with several there is less padding, and more to compile
    response_length: Optional[int] = None  # most tokens of a response; by default what 95 in 100 of the texts need
    missing_end_penalty: float = 0.5  # subtracted from the score of a response that does not end
    short_penalty: float = 0.7  # subtracted from the score in proportion to what a response lacks of the usual length
    reward_network: str = "bag"  # of the reward model and the judge: bag (of words), transformer, lstm, or trunk: of the writer before PPO, which they share
    reward_epochs: Optional[int] = None  # at most, of the reward model and of the judge; by default --supervised-epochs
    reward_learning_rate: Optional[float] = optional(None)  # at which they begin; none: --supervised-learning-rate
    evaluation_samples: int = 256  # responses to held-out prompts, before and after
    ppo: PPOConfig = PPOConfig(discount=1.0, value_coefficient=0.1, entropy_coefficient=0.01, max_gradient_norm=1.0, temperature=0.8)
    kl: KLConfig = KLConfig(kl_coefficient=0.1, kl_target=8.5, kl_horizon=1000)

    def __post_init__(self):
        super().__post_init__()
        require(
            self.language in ("en", "zh"),
            f"language={self.language!r} is unknown. Use en or zh, or --data FILE for another language.",
        )
        require(
            self.reward_network in ("bag", "transformer", "lstm", "trunk"),
            f"reward_network={self.reward_network!r} is unknown. Use bag, transformer, lstm or trunk.",
        )
        if self.reward_network == "transformer":
            check_heads(self.network.width, self.network.heads)
        for name in ("missing_end_penalty", "short_penalty"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} is negative. Use 0 to switch it off.")
        require(
            (self.chosen_column is None) == (self.rejected_column is None),
            "preference pairs need both --chosen-column and --rejected-column.",
        )
        require(
            not self.control_codes or (self.reward is None and self.chosen_column is None and self.label_column != ""),
            "--control-codes needs labelled texts, and its reward is the judged match: leave out --reward and the columns of pairs.",
        )
        require(
            self.positive_label is None or not (self.control_codes or self.chosen_column),
            "--positive-label names the one label that is rewarded. With --control-codes each prompt asks for its own, and pairs have none: leave it out.",
        )
        require(
            self.reward_epochs is None or self.reward_epochs >= 1,
            f"reward_epochs={self.reward_epochs} is less than 1. Use a number such as 15, or leave it out.",
        )
        require(
            self.reward_learning_rate is None or self.reward_learning_rate > 0,
            f"reward_learning_rate={self.reward_learning_rate} is not positive. Use a value such as 2e-3, or leave it out.",
        )
        for name in ("reward_weights", "reward_processes", "reward_timeout"):
            given = f"--{name.replace('_', '-')} is of a function of yours, but"
            require(self.reward is not None or not getattr(self, name), f"{given} there is none. Give --reward module:function, or leave it out.")
        require(self.reward_processes >= 0, f"reward_processes={self.reward_processes} is negative. Use a number such as 4, or 0 for none.")
        require(
            self.reward_timeout is None or 0 < self.reward_timeout < float("inf"),
            f"reward_timeout={self.reward_timeout} is not positive. Use a number of seconds such as 10, or none.",
        )
        self.part_weights()
        require(self.evaluation_samples >= 1, f"evaluation_samples={self.evaluation_samples} is less than 1. Use a number such as 256.")
        require(
            self.prompt_length >= 2,
            f"prompt_length={self.prompt_length} leaves no room for a prompt after the begin token. Use 2 or more.",
        )
        check_response_length(self.response_length)
        check_prompt_widths(self.prompt_widths)
        require(
            self.prompt_widths == 1 or self.checkpoint.chat,
            f"prompt_widths={self.prompt_widths} is for prompts of varied length, but these are beginnings of up to {self.prompt_length} tokens. Leave it out.",
        )

    @property
    def free_sizes(self):
        """Those of the reward model and the judge; heads on a shared trunk have no more than a dropout."""
        return ("dropout",) if self.reward_network == "trunk" else ("layers", "width", "heads", "dropout")

    @property
    def scoring(self):
        """The `SupervisedConfig` of the reward model and of the judge."""
        supervised, epochs = self.supervised, self.reward_epochs or self.supervised.supervised_epochs or SupervisedConfig.supervised_epochs
        return replace(supervised, supervised_epochs=epochs, supervised_learning_rate=self.reward_learning_rate or supervised.supervised_learning_rate)

    def part_weights(self):
        """`reward_weights` as {part: weight}; raises `InputError` where it holds something else."""
        weights = {}
        for pair in self.reward_weights.split(",") if self.reward_weights else []:
            name, equals, weight = (word.strip() for word in pair.rpartition("="))
            number = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", weight)
            good = equals and name and number and name not in weights
            require(good, f"--reward-weights {self.reward_weights!r} is no list of parts and numbers. Write each part once, such as correct=1,format=0.5.")
            weights[name] = float(weight)
        return weights

    def check_pretrained(self):
        """See `TextConfig`."""
        super().check_pretrained()
        require(not self.control_codes, "--control-codes are pieces of a tokenizer of their own, but --pretrained brings its tokenizer. Leave one out.")
        chat = self.checkpoint.chat
        given = [name for name in ("label_column", "positive_label") if chat and getattr(self, name)]
        require(not given, f"--chat answers the texts and reads no labels, so --{'-'.join(given[:1]).replace('_', '-')} has no use. Leave it out.")
        usual = type(self).prompt_length
        require(not chat or self.prompt_length == usual, f"--chat asks whole texts, so --prompt-length {self.prompt_length} has no use. Leave it out.")
        require(
            chat or self.checkpoint.prompt_format == "{}",
            "--prompt-format is of prompts that are answered, but generation goes on with the beginnings of texts. Add --chat, or leave it out.",
        )
        require(not chat or self.reward, "--chat answers the texts, so labels of theirs teach no reward. Give --reward module:function.")
        require(not chat or self.chosen_column is None, "--chat answers the texts, which are one column of prompts. Leave out --chosen-column.")
        require(not chat or self.response_length, "--chat answers texts, whose length says nothing about the answers'. Give --response-length, such as 64.")
        require(
            not chat or self.supervised.supervised_epochs == 0,
            "--chat answers the texts, and there are no answers to learn to write. Give --supervised-epochs 0.",
        )


@dataclass(frozen=True)
class ClassificationConfig(TextConfig):
    """Everything `ppo-keras train classification` can be told."""

    run: str = "classification"  # name of the run; its folder is runs/NAME
    language: str = "en"  # of the bundled film reviews: en or zh
    text_column: Optional[str] = None  # where the text is ("text")
    label_column: Optional[str] = None  # where the label is ("label"); any number of classes
    positive_label: Optional[str] = None  # which of two labels is the second of the costs; by default the one that words such as good tell
    costs: Optional[str] = None  # table of costs, a row a true label, of two the negative first: "0 1; 5 0"; by default 1 for every mistake
    text_length: Optional[int] = None  # tokens that are read of a text; by default all of 99 in 100 texts
    iterations: int = 24  # PPO iterations
    batch_size: int = 512  # texts in an iteration
    validate_every: int = 2  # iterations between two looks at the validation split; the policy that cost least there is kept
    network: NetworkConfig = NetworkConfig(layers=1, width=64, dropout=0.5)
    supervised: SupervisedConfig = SupervisedConfig(supervised_learning_rate=1e-3)
    ppo: PPOConfig = PPOConfig(discount=1.0, entropy_coefficient=0.3)  # much entropy: a sure policy cannot weigh costs
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-4)
    logging: LoggingConfig = LoggingConfig(log_every=4)

    def __post_init__(self):
        super().__post_init__()
        require(
            self.language in ("en", "zh"),
            f"language={self.language!r} is unknown. Use en or zh, or --data FILE for another language.",
        )
        require(self.validate_every >= 1, f"validate_every={self.validate_every} is less than 1. Use a number such as 5.")
        require(
            self.text_length is None or self.text_length >= 2,
            f"text_length={self.text_length} is less than 2. Use a number of tokens such as 64.",
        )
        self.cost_table()

    def check_pretrained(self):
        """See `TextConfig`."""
        super().check_pretrained()
        plain = not self.checkpoint.chat and self.checkpoint.prompt_format == "{}"
        require(plain, "--chat and --prompt-format are of prompts that are answered, but a classifier reads a text as it is. Leave them out.")

    def cost_table(self):
        """`costs` as a list of rows of numbers, or None; raises `InputError` where it holds something else."""
        if self.costs is None:
            return None
        try:
            return [[float(cell) for cell in row.replace(",", " ").split()] for row in self.costs.strip(" ;").split(";")]
        except ValueError as error:
            raise InputError(f"--costs {self.costs!r} is not a table of numbers ({error}). Write rows with ; between them, such as '0 1; 5 0'.") from error


@dataclass(frozen=True)
class AnsweringConfig(TextConfig):
    """What the tasks whose prompts have references can be told."""

    supervised_share: float = 0.5  # of the training pairs, which supervised training sees; PPO practises on the others
    prompt_length: Optional[int] = None  # most tokens of a prompt, of a longer one the end; by default what the longest needs
    prompt_widths: int = 1  # widths that batches of prompts of like length are padded to; with several there is less padding, and more to compile
    response_length: Optional[int] = None  # most tokens of a response; by default what the longest known reference needs
    short_penalty: float = 0.0  # subtracted from the score in proportion to what a response lacks of the usual length
    responses_per_prompt: int = 4  # of an iteration's responses; with several, a score counts from the mean of the others
    ppo: PPOConfig = PPOConfig(discount=1.0, value_coefficient=0.1, max_gradient_norm=1.0)
    kl: KLConfig = KLConfig(kl_coefficient=0.01)

    def __post_init__(self):
        super().__post_init__()
        require(
            0 < self.supervised_share <= 1,
            f"supervised_share={self.supervised_share} is outside (0, 1]. Use a share such as 0.1.",
        )
        require(
            self.prompt_length is None or self.prompt_length >= 3,
            f"prompt_length={self.prompt_length} leaves no room between two begin tokens. Use a number such as 32.",
        )
        require(
            self.responses_per_prompt >= 1,
            f"responses_per_prompt={self.responses_per_prompt} is less than 1. Use a whole number of 1 or more.",
        )
        require(self.short_penalty >= 0, f"short_penalty={self.short_penalty} is negative. Use 0 to switch it off.")
        check_divides("responses_per_prompt", self.responses_per_prompt, "batch_size", self.batch_size)
        check_response_length(self.response_length)
        check_prompt_widths(self.prompt_widths)


@dataclass(frozen=True)
class QuestionAnsweringConfig(AnsweringConfig):
    """Everything `ppo-keras train question-answering` can be told."""

    run: str = "question-answering"  # name of the run; its folder is runs/NAME
    questions: str = "stories"  # of the bundled ones: stories, arithmetic or all
    question_column: Optional[str] = None  # where the question is ("question")
    answer_column: Optional[str] = None  # where its answer is ("answer")
    partial_credit: float = 0.0  # reward of a wrong answer, times the F1 of its words
    supervised_share: float = 0.1  # of the training pairs, which supervised training sees; PPO practises on the others
    iterations: int = 240  # PPO iterations
    batch_size: int = 512  # responses in an iteration; many, because a right or wrong answer says little
    vocabulary_size: int = 600  # pieces of the tokenizer, 260 of them bytes and special tokens
    network: NetworkConfig = NetworkConfig(dropout=0.1)
    supervised: SupervisedConfig = SupervisedConfig(supervised_epochs=40, supervised_batch_size=16, patience=5)
    ppo: PPOConfig = PPOConfig(discount=1.0, value_coefficient=0.1, entropy_coefficient=0.03, epochs=2, max_gradient_norm=1.0)
    kl: KLConfig = KLConfig(kl_coefficient=0.0)  # a right answer is right, however far from the supervised policy
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3)

    def __post_init__(self):
        super().__post_init__()
        require(
            self.questions in ("arithmetic", "stories", "all"),
            f"questions={self.questions!r} is unknown. Use stories, arithmetic or all.",
        )
        require(0 <= self.partial_credit < 1, f"partial_credit={self.partial_credit} is outside [0, 1). Use a value such as 0.2.")


@dataclass(frozen=True)
class TranslationConfig(AnsweringConfig):
    """Everything `ppo-keras train translation` can be told."""

    run: str = "translation"  # name of the run; its folder is runs/NAME
    source_column: Optional[str] = None  # where the text is ("source")
    target_column: Optional[str] = None  # where its translation is ("target")
    reward: str = "chrf"  # of a translation: chrf or bleu of the sentence, from sacrebleu
    iterations: int = 300  # PPO iterations
    batch_size: int = 256  # responses in an iteration
    vocabulary_size: int = 1200  # pieces of the tokenizer, 260 of them bytes and special tokens
    supervised: SupervisedConfig = SupervisedConfig(supervised_epochs=30, patience=4)
    # few, large steps: the scores of single responses are mostly noise
    ppo: PPOConfig = PPOConfig(discount=1.0, value_coefficient=0.1, epochs=2, minibatches=1, max_gradient_norm=1.0)
    kl: KLConfig = KLConfig(kl_coefficient=0.001)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-4)

    def __post_init__(self):
        super().__post_init__()
        require(self.reward in ("chrf", "bleu"), f"reward={self.reward!r} is unknown. Use chrf or bleu.")


TASKS = {  # name on the command line: settings, purpose
    "generation": (GenerationConfig, "a writer that learns to write what a reward asks for"),
    "classification": (ClassificationConfig, "label texts; mistakes cost what a table says"),
    "question-answering": (QuestionAnsweringConfig, "answer questions; the reward is that the answer is right"),
    "translation": (TranslationConfig, "translate; the reward is the chrF or BLEU of the sentence"),
}


def settings_for(task, pretrained=None, chat=False):
    """The settings of a task, before the user changes any; with a checkpoint (a name, see `PretrainedConfig`) those that suit one."""
    kind = TASKS[task][0]
    if pretrained is None:
        return kind()
    settings = _WITH_CHECKPOINT[task]
    if task == "generation" and chat:
        settings = settings | dict(supervised=replace(settings["supervised"], supervised_epochs=0), short_penalty=0.0)
    return kind(**settings)


_WITH_CHECKPOINT = {
    "generation": dict(
        iterations=45, batch_size=32, checkpoint_every=5, reward_network="trunk", reward_epochs=15, reward_learning_rate=2e-3,
        supervised=SupervisedConfig(supervised_epochs=1, supervised_batch_size=16, supervised_learning_rate=5e-4),
        ppo=PPOConfig(discount=1.0, value_coefficient=0.1, entropy_coefficient=0.01, epochs=1, max_gradient_norm=1.0, temperature=0.8),
        kl=KLConfig(kl_coefficient=0.08, kl_target=4.5, kl_horizon=300), optimizer=OptimizerConfig(learning_rate=1e-3),
        logging=LoggingConfig(log_every=10),
    ),
    "classification": dict(
        iterations=24, batch_size=64, supervised=SupervisedConfig(supervised_epochs=1, supervised_batch_size=16, supervised_learning_rate=5e-4),
        ppo=PPOConfig(discount=1.0, entropy_coefficient=0.3, epochs=1), optimizer=OptimizerConfig(learning_rate=2e-4), logging=LoggingConfig(log_every=4),
    ),
    "question-answering": dict(
        iterations=40, batch_size=64, checkpoint_every=10, supervised=SupervisedConfig(supervised_epochs=3, supervised_batch_size=16, supervised_learning_rate=5e-4),
        ppo=PPOConfig(discount=1.0, value_coefficient=0.1, entropy_coefficient=0.01, epochs=1, max_gradient_norm=1.0), kl=KLConfig(kl_coefficient=0.0),
        optimizer=OptimizerConfig(learning_rate=5e-4), logging=LoggingConfig(log_every=10),
    ),
    "translation": dict(
        iterations=60, batch_size=64, checkpoint_every=10, supervised=SupervisedConfig(supervised_epochs=1, supervised_batch_size=16, supervised_learning_rate=5e-4),
        ppo=PPOConfig(discount=1.0, value_coefficient=0.1, epochs=1, max_gradient_norm=1.0), kl=KLConfig(kl_coefficient=0.001),
        optimizer=OptimizerConfig(learning_rate=1e-3), logging=LoggingConfig(log_every=10),
    ),
}  # fmt: skip


def check_response_length(length):
    """Raises `InputError` for a response of no tokens."""
    require(length is None or length >= 1, f"response_length={length} is less than 1. Use a number such as 32.")


def check_prompt_widths(widths):
    """Raises `InputError` for no width, or more than anybody waits for to be compiled."""
    require(1 <= widths <= 16, f"prompt_widths={widths} is outside [1, 16]. Use 1 for one width, or a number such as 4.")
