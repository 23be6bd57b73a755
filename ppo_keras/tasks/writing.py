"""What the tasks whose policy writes have in common once they are trained: the run is opened again, and its writer examined."""

from ppo_keras.errors import InputError
from ppo_keras.language.generation import pad_prompts
from ppo_keras.pretrained.machine import check_work_fits
from ppo_keras.pretrained.memory import Work
from ppo_keras.reports.examination import examine, sample_responses
from ppo_keras.runs.models import load_policy, load_reference
from ppo_keras.tasks.text import TextJob
from ppo_keras.tasks.training import plain_errors


class WriterJob(TextJob):
    """A `TextJob` with a `LanguagePPO`. A subclass defines

    | method | meaning |
    |---|---|
    | `make_learner()` | the `LanguagePPO` of the run |
    | `test_prompts(count)` | NumPy `Prompts` of the test split, by default as many as after training |
    | `encode_prompt(text, before)` | token ids of what somebody types, after the turns of a chat |
    | `score_as(other)` | the reward of another opened run of the task, a function of this run's (`Prompts`, `Responses`) |
    """

    earned, units = "reward", "prompts"

    def check_memory(self, responses_per_prompt=1):
        """Raises `InputError`, with what would fit, where PPO of a checkpoint cannot fit into the memory of this machine."""
        config = self.config
        if self.checkpoint is None or self.run is not None or not config.jit:  # a run that is opened is not trained; without XLA nothing is known
            return
        own, adapters, ppo = config.checkpoint, self.checkpoint.adapters, config.ppo
        rank, layers = (adapters.settings["rank"], adapters.settings["layers"]) if adapters else (own.lora_rank, own.lora_layers)
        work = Work(
            config.batch_size, self.prompt_length, self.response_length, ppo.minibatches, ppo.accumulation_steps, rank, layers, own.weights,
            critic="adapters" if own.critic == "adapters" else "shared", recompute=config.network.recompute,
        )  # fmt: skip  # what else reads here (a reward model, a judge) is small beside a checkpoint
        check_work_fits(self.checkpoint.settings, work, self.checkpoint.name, responses_per_prompt)

    def open(self, stage, memory=None):
        """Takes the models of the run: its writer of a stage ("before", "after" or "best"), and the reference.

        Args:
            stage, memory: see `load_policy`.
        """
        self.policy = load_policy(self.run, stage, memory)
        if memory:
            self.context = self.policy.encoder.config["memory"]
        self.reference = load_reference(self.run, self.policy)
        self.open_reward()
        self.learner = self.make_learner()

    def open_reward(self):
        """Takes the reward model of the run, where it has one."""

    def sample(self, count, seed):
        """The `Sample` of `evaluate`, of `count` prompts of the test split (None: as many as after training)."""
        with plain_errors():
            return sample_responses(self.learner, self.test_prompts(count), self.config.batch_size, seed, self.config.jit)

    def prompts_as(self, other, count):
        """The prompts that another opened run of the task has, as this one reads them."""
        return self.test_prompts(count)

    def answer(self, other, count, seed, greedy):
        """Prompts, responses (lists of strings) and scores `(N,)`, by the reward of an opened run of the same task and data."""
        prompts, score = self.prompts_as(other, count), self.score_as(other)
        with plain_errors():
            examined = examine(
                self.learner, prompts, self.response_length, self.config.batch_size, seed, score, greedy, self.config.jit
            )  # fmt: skip
        return *self.tokenizer.decode_pairs(prompts, examined.responses), examined.scores

    def reply(self, prompt, seed, greedy, score, before=()):
        """The response to a prompt (str), `Examined`; with its score where there is a function for it, and after the turns `before` it in a chat."""
        ids = self.encode_prompt(prompt, before)
        room = self.context - len(ids)
        if room < 1:
            what, mend = ("the chat with this prompt", "Shorten the prompt, or type new") if before else ("the prompt", "Shorten it")
            raise InputError(f"{what} has {len(ids)} tokens, but the context of this run holds {self.context - 1} and a response. {mend}.")
        prompts = pad_prompts([ids], len(ids), self.tokenizer.pad_id)
        return examine(self.learner, prompts, min(self.response_length, room), 1, seed, score, greedy, jit_compile=False)
