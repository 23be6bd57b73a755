"""`LanguagePPO`: the collector for language models. A prompt is the state, a token an action, a response an episode."""

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.cluster import exchange, this_cluster
from ppo_keras.config import KLConfig, PPOConfig
from ppo_keras.devices import WHOLE
from ppo_keras.errors import InputError, check_count, check_instance, check_role, check_seed, require, shown
from ppo_keras.kl import estimate_kl, kl_controller
from ppo_keras.language.generation import (
    Prompts,
    Responses,
    check_ends,
    generate,
    is_end,
    join,
    map_prompts,
    of_responses_and_ends,
    response_log_probs,
)
from ppo_keras.language.rewards import ModelScore, PythonReward, RewardModel, score_responses
from ppo_keras.language.vocabulary import check_vocabulary
from ppo_keras.losses import log_probability
from ppo_keras.masking import masked_mean
from ppo_keras.networks.adapters import Frozen, reference_of
from ppo_keras.ppo import PPO
from ppo_keras.trajectory import Trajectory


class LanguagePPO(PPO):
    """PPO that steers a language model towards a reward and keeps it near a frozen reference (Ziegler et al. 2019).

    `fit` takes a data set of `Prompts` (or `NumberedPrompts`, which a reward that reads columns needs), `(B / K, P)` each batch: an
    iteration writes `B` responses, K to each prompt.

    Args:
        policy: an actor-critic over tokens, pre-trained; also one of your own with `initial_state`, `step`, `read`, `call`,
            `copy`, `has_memory` and `distribution`.
        reward: a `RewardModel` or a `ModelScore`; a `PythonReward`; or a TensorFlow function of (`Prompts`, `Responses`) that compiles
            (without AutoGraph), to float32 `(B,)`. Where reward or judge share the trunk of the reference, one reading serves all of them.
        end_id: the token that ends a response, or a list or tuple of several, each of which does; the size of the vocabulary, where
            every response shall have full length.
        pad_id: the token after the end.
        response_length: `T`, most tokens of a response.
        config: a `PPOConfig`; text usually has `discount=1`.
        kl: a `KLConfig`.
        missing_end_penalty: subtracted from the score of a response without an end token.
        short_penalty: subtracted from the score of a response in proportion to what it lacks of `usual_length`:
            a short text is the cheapest way to please most rewards (Singhal et al. 2023 on lengths in RLHF).
        usual_length: tokens that a response usually has; needed with `short_penalty`.
        responses_per_prompt: K. With several, a score counts from the mean score of the prompt's other responses (leave
            one out; Kool et al. 2019): what makes one prompt harder than another then adds no noise to the advantages.
        reference: a frozen copy of the policy at the start; None takes the one whose trunk the reward shares, where it is that, or makes one now,
            which of a policy with adapters shares its frozen weights.
        judge: a `RewardModel`, or a TensorFlow function like a reward, to log-odds float32 `(B,)`; it is reported and never rewarded.
        seed: of all randomness.

    Raises:
        ValueError: the reference shares variables with the policy.
        InputError: policy, reference, reward model, judge and tokenizer of other vocabularies; a `short_penalty` without
            `usual_length`; an argument of another kind, or out of range; when it first collects, a reward of another shape, or
            prompts without a static shape.
    """

    def __init__(
        self, policy, reward, end_id, pad_id, response_length,
        config=None, kl=None, missing_end_penalty=0.0, short_penalty=0.0, usual_length=None, responses_per_prompt=1,
        reference=None, judge=None, seed=0, **kwargs,
    ):  # fmt: skip
        advice = "Use a language model such as TransformerActorCritic(tokenizer.vocabulary_size, memory=...), without actions."
        check_role("policy", policy, ("initial_state", "step", "read", "distribution", "has_memory"), advice)
        require(
            getattr(policy, "actions", None) is None,
            f"policy is an agent's: it chooses by {type(policy.distribution).__name__}({policy.distribution.size}). {advice}",
        )
        kinds = "Give a RewardModel, PythonReward(function, tokenizer), or a TensorFlow function of (Prompts, Responses)."
        require(callable(reward), f"reward is {shown(reward)}. {kinds}")
        require(not isinstance(judge, PythonReward), "judge is a PythonReward, but it is compiled with the rest. Give a TensorFlow function, to log-odds.")
        check_instance("config", config, PPOConfig)
        check_instance("kl", kl, KLConfig)
        for name, value, least, example in (
            ("pad_id", pad_id, 0, 0), ("response_length", response_length, 1, 32), ("responses_per_prompt", responses_per_prompt, 1, 4),
        ):  # fmt: skip
            check_count(name, value, least, example)
        ends = check_ends(end_id)
        check_seed(seed)
        super().__init__(policy, config, seed, **kwargs)
        self.reward, self.pad_id, self.response_length = reward, pad_id, response_length
        self.end_id = ends if isinstance(end_id, list) else end_id  # Keras would track a list
        self.missing_end_penalty, self.short_penalty, self.usual_length = missing_end_penalty, short_penalty, usual_length or 1.0
        self.responses_per_prompt = responses_per_prompt
        self.judge = ModelScore(judge) if isinstance(judge, RewardModel) else judge  # a model would be taken for a part that learns, and saved
        if short_penalty and usual_length is None:
            raise InputError(f"short_penalty={short_penalty} needs usual_length. Give the number of tokens that a response usually has.")
        shared = getattr(reward, "trunk", None)
        still = isinstance(shared, Frozen) and shared.is_still(policy)
        self.reference = reference or (shared if still else reference_of(policy))
        if {id(v) for v in self.reference.variables} & {id(v) for v in policy.variables}:
            raise ValueError("reference shares variables with policy, so it would move with it. Pass policy.copy(), or None.")
        if isinstance(self.reference, keras.Model):
            self.reference.trainable = False
        models = {"reward model": getattr(reward, "model", reward), "judge": getattr(judge, "model", judge)}
        frozen = getattr(self.reference, "policy", self.reference)
        readers = {"reference": frozen, **models, "tokenizer of the reward": getattr(reward, "tokenizer", None)}
        check_vocabulary(policy, readers, {"end_id": ends, "pad_id": (pad_id,)})
        if isinstance(reward, keras.Model):
            reward.trainable = False
        for model in models.values():
            if isinstance(model, RewardModel):
                model.check_reader()
        kl = kl or KLConfig()
        self.kl_estimator, self.kl_controller = kl.kl_estimator, kl_controller(kl)
        start = keras.initializers.Constant(self.kl_controller.initial)
        self.kl_coefficient = self.add_weight((), start, "float32", trainable=False, name="kl_coefficient")

    @property
    def frozen(self):
        """The reference, and a reward model."""
        return [self.reference, *([self.reward] if isinstance(self.reward, keras.Model) else [])]

    @property
    def compiles_whole(self):
        """False with a `PythonReward`, which runs between the compiled parts."""
        return not isinstance(self.reward, PythonReward)

    @property
    def reads_rows(self):
        """Whether the reward reads what belongs to a prompt beside its text, so that what somebody types has no score."""
        return isinstance(self.reward, PythonReward) and self.reward.reads_rows

    def fit(self, x=None, y=None, *, steps_per_epoch=None, **kwargs):
        """Keras's `fit`.

        Args:
            x: a `tf.data.Dataset` of `Prompts` or `NumberedPrompts`, in batches of one size.
            steps_per_epoch: iterations in an epoch; needed where the data set has no end.
            y, kwargs: see `PPO.fit`.

        Raises:
            InputError: see `PPO.fit`; `x` is something else, or holds no batch.
        """
        check_prompts(x)
        endless = x.cardinality() == tf.data.INFINITE_CARDINALITY
        require(
            steps_per_epoch is not None or not endless, "the data set has no end, and so the first epoch would have none. Use fit(prompts, steps_per_epoch=20)."
        )
        return super().fit(x, y, steps_per_epoch=steps_per_epoch, **kwargs)

    def compile_parts(self, wrap):
        """See `PPO.compile_parts`."""
        super().compile_parts(wrap)
        self._rollout, self._assemble = self.devices.on_shares(self.share_of_rollout, wrap), wrap(self.assemble)

    def collect(self, data):
        """Writes a response to each prompt, scores it, and forms the trajectory."""
        if not data[0].shape.is_fully_defined():
            raise InputError(f"the prompts have shape {data[0].shape}, expected sizes that are known. Use batch(..., drop_remainder=True).")
        prompts = map_prompts(lambda part: tf.repeat(part, self.responses_per_prompt, axis=0), data)
        (responses, reference_log_probs, scores, judged), _ = self._rollout(prompts)
        if isinstance(self.reward, PythonReward):
            scores = self.score_on_processes(prompts, responses)
        trajectory, metrics = self._assemble(prompts, responses, reference_log_probs, scores, judged)
        self.adapt(metrics["objective/kl"], responses.mask.shape[0])
        parts = self.reward.parts if isinstance(self.reward, PythonReward) else {}
        return trajectory, metrics | {name: tf.constant(mean, tf.float32) for name, mean in parts.items()}

    def score_on_processes(self, prompts, responses):
        """The scores of a `PythonReward`, `(B,)`; of several processes each calls it for its share, and the means of its parts are those of all."""
        share = this_cluster().share
        scores = self.score(share.of(prompts), share.of(responses))
        if share.count == 1:
            return scores
        own = np.array([*scores.numpy(), *self.reward.parts.values()], np.float32)
        every = exchange(own.view(np.int32)).view(np.float32)
        scores, means = every[:, : len(scores)], every[:, len(scores) :].mean(axis=0)
        self.reward.parts = dict(zip(self.reward.parts, means.tolist()))
        return tf.constant(scores.reshape(-1))

    def share_of_rollout(self, share, prompts):
        """What `rollout` returns for a share of the prompts; in place of features scores, `(B,)`, and the judge's log-odds, `(B,)`: None of a
        `PythonReward` and without a judge. See `Devices.on_shares`."""
        prompts = share.of(prompts)
        responses, log_probs, features = self.rollout(prompts, share)
        scores = None if isinstance(self.reward, PythonReward) else self.score(prompts, responses, features)
        judged = None if self.judge is None else self._scored(self.judge, prompts, responses, features)
        return (responses, log_probs, scores, judged), ()

    def rollout(self, prompts, share=WHOLE):
        """Responses of the policy, and what the reference finds in them (see `read_reference`)."""
        seed, temperature = self.draw_seed(purpose=0), self.config.temperature
        responses = generate(self.policy, prompts, self.response_length, self.end_id, self.pad_id, seed, temperature, share=share)
        return responses, *self.read_reference(prompts, responses)

    def read_reference(self, prompts, responses):
        """Log-probabilities of the response tokens, float32 `(B, T)`, and what a reward or a judge on the same trunk reads, `(B, D)`; None where neither does."""
        if not any(map(self._shares, (self.reward, self.judge))):
            return self.reference_log_probs(prompts, responses), None
        at_temperature = lambda logits, tokens: (log_probability(logits / self.config.temperature, tokens),)
        (log_probs,), features = of_responses_and_ends(self.reference, prompts, responses, at_temperature)
        return log_probs, features

    def _shares(self, scorer):
        """Whether a reward or a judge reads hidden states of the reference."""
        return getattr(scorer, "trunk", None) is self.reference

    def _scored(self, scorer, prompts, responses, features):
        """What a reward or a judge says of responses, of the reading by the reference where it shares its trunk."""
        if features is not None and self._shares(scorer):
            return scorer.of_features(features)
        return score_responses(scorer, prompts, responses) if isinstance(scorer, RewardModel) else scorer(prompts, responses)

    def reference_log_probs(self, prompts, responses):
        """Log-probabilities of the response tokens under the reference, float32 `(B, T)`."""
        return response_log_probs(self.reference, prompts, responses, self.config.temperature)

    def score(self, prompts, responses, features=None):
        """The reward of each whole response, float32 `(B,)`; `features` are those of `read_reference`, where that has read them already."""
        scores = tf.cast(self._scored(self.reward, prompts, responses, features), tf.float32)
        if scores.shape != responses.tokens.shape[:1]:
            raise InputError(
                f"the reward returned shape {scores.shape}, expected {responses.tokens.shape[:1]}. Return one score a response; a plain "
                "Python function of (prompt, response) goes into PythonReward(function, tokenizer)."
            )
        return scores

    def assemble(self, prompts: Prompts, responses: Responses, reference_log_probs, scores, judged=None):
        """The trajectory, its rewards made of score and KL penalty. Returns it and metrics; changes nothing.

            r_t = -beta * kl_t + [t is the last real token] * score   (Ziegler et al. 2019, eq. 2)

        Penalties for a missing end and for shortness are part of the score; with several responses to a prompt the mean
        score of the others is subtracted (their KL penalties are not part of that mean).
        TRL places the score one step later where there is room; at the last real token it is discounted like the
        action that earned it. A response that is cut off at T counts as ended: what follows it has value 0.
        """
        mask, last = responses.mask, responses.last
        ended = tf.reduce_any(is_end(responses.tokens, self.end_id) & (mask > 0), axis=1)  # in the response, never the prompt
        lengths = tf.reduce_sum(mask, axis=1)
        penalised = scores - self.missing_end_penalty * tf.cast(~ended, tf.float32)
        penalised -= self.short_penalty * tf.nn.relu(1.0 - lengths / self.usual_length)
        earned = less_the_others(penalised, self.responses_per_prompt)
        kl = tf.where(mask > 0, estimate_kl(responses.log_probs, reference_log_probs, self.kl_estimator), 0.0)
        beta = tf.convert_to_tensor(self.kl_coefficient)
        rewards = -beta * kl + last * earned[:, tf.newaxis]
        next_values = tf.pad(responses.values[:, 1:], [[0, 0], [0, 1]])  # 0 after the last real token: values are 0 there
        inputs, starts = join(prompts, responses)
        trajectory = Trajectory(inputs, starts, responses.tokens, responses.log_probs, responses.values, rewards, next_values, last, mask)
        kl_of_response = tf.reduce_mean(tf.reduce_sum(kl, axis=1))
        share = lambda holds: tf.reduce_mean(tf.cast(holds, tf.float32))
        metrics = {
            "objective/kl": kl_of_response,
            "objective/kl_coefficient": beta,
            "objective/entropy": tf.reduce_mean(-tf.reduce_sum(responses.log_probs, axis=1)),
            "objective/non_score_reward": -beta * kl_of_response,
            "objective/scores": tf.reduce_mean(scores),
            "objective/rlhf_reward": tf.reduce_mean(penalised) - beta * kl_of_response,
            "response/length": tf.reduce_mean(lengths),
            "response/ended_share": share(ended),
            "response/token_kl": masked_mean(kl, mask),
        }
        if judged is not None:
            metrics["objective/judged"] = share(judged > 0)
        return trajectory, metrics

    def adapt(self, kl, count):
        """Moves the KL coefficient after an iteration of `count` responses, whose mean KL was `kl`."""
        beta = tf.convert_to_tensor(self.kl_coefficient)
        self.kl_coefficient.assign(self.kl_controller.update(beta, kl, float(count)))


def less_the_others(scores, group):
    """Each score less the mean of the others of its group; the score itself where it has no others.

        s_i - 1/(K-1) sum_{j != i} s_j  =  K/(K-1) (s_i - mean)   (leave one out; Kool et al. 2019)

    Args:
        scores: float32 `(B,)`, groups of neighbours.
        group: K; divides B.

    Returns:
        float32 `(B,)`.
    """
    if group == 1:
        return scores
    groups = tf.reshape(scores, [-1, group])
    centred = groups - tf.reduce_mean(groups, axis=1, keepdims=True)
    return tf.reshape(centred * (group / (group - 1)), [-1])


def check_prompts(data):
    """Raises `InputError` unless `data` is a `tf.data.Dataset` of batches of `Prompts`."""
    example = "tf.data.Dataset.from_tensor_slices(prompts).repeat().batch(64, drop_remainder=True)"
    given = "no data" if data is None else shown(data)
    require(isinstance(data, tf.data.Dataset), f"fit was given {given}, expected a tf.data.Dataset of Prompts. Use {example}.")
    parts = tf.nest.flatten(data.element_spec)
    sound = isinstance(data.element_spec, tuple) and [part.shape.rank for part in parts] in ([2, 2], [2, 2, 1])  # without and with rows
    sound = sound and all(part.dtype.is_integer for part in parts[2:])
    require(
        sound and parts[0].dtype == tf.int32 and (parts[1].dtype.is_floating or parts[1].dtype.is_integer),
        f"the data set gives {', '.join(f'{part.dtype.name} {part.shape}' for part in parts)}, expected batches of Prompts: tokens int32 (B, P), mask float32 (B, P). Make prompts with pad_prompts, and use "
        f"{example}.",
    )
    require(data.cardinality() != 0, f"the data set holds no batch. Where there are fewer prompts than a batch has, repeat them: {example}.")
