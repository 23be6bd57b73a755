"""Every metric that a run writes: its meaning, its healthy range, and its name elsewhere. README's table is made from it."""

from typing import NamedTuple


class Metric(NamedTuple):
    """One metric. The last three fields are its names in TRL, Stable-Baselines3 and CleanRL; "" where there is none."""

    name: str
    meaning: str
    healthy: str
    trl: str = ""
    sb3: str = ""
    cleanrl: str = ""


GLOSSARY = (
    Metric("objective/scores", "mean score that the reward gives to a response, before any penalty", "rises, then levels off", "objective/scores (less the missing-end penalty)", "rollout/ep_rew_mean", "charts/episodic_return"),
    Metric("objective/kl", "divergence from the reference, nats a response: the sum over its tokens of the estimator in `kl_estimator`", "rises and levels off, at the target where there is one; 3 to 12 with a learned reward, free with a verifiable one", "objective/kl"),
    Metric("objective/kl_coefficient", "beta: reward subtracted for a nat", "moves slowly; an adaptive one settles"),
    Metric("objective/entropy", "-log-probability of a response, summed over its tokens, nats", "falls slowly, not to 0", "objective/entropy"),
    Metric("objective/non_score_reward", "-beta * KL, a response", "small beside the scores", "objective/non_score_reward"),
    Metric("objective/rlhf_reward", "what PPO maximises: score less the penalties for a missing end and for shortness, less the KL penalty, a response", "rises", "objective/rlhf_reward"),
    Metric("objective/judged", "share of responses that the judge, which takes no part in the reward, finds good (or as asked)", "rises with objective/scores; where it falls, the reward is gamed"),
    Metric("response/length", "tokens of a response, the end token included", "stays well above half of the start"),
    Metric("response/ended_share", "share of responses that end by themselves", "near 1", "val/num_eos_tokens (a count)"),
    Metric("response/token_kl", "divergence from the reference, nats a token", "below 1"),
    Metric("episode/return", "return of the episodes that ended since the last line; where none did, of the last that did", "rises, then levels off", "", "rollout/ep_rew_mean (the last 100)", "charts/episodic_return"),
    Metric("episode/length", "their length in steps", "", "", "rollout/ep_len_mean (the last 100)", "charts/episodic_length"),
    Metric("episode/count", "episodes that ended since the last line", "above 0"),
    Metric("loss/total", "policy loss + value_coefficient * value loss - entropy_coefficient * entropy", "no trend to expect", "", "train/loss"),
    Metric("loss/policy", "clipped surrogate, as a loss", "small and negative; no trend to expect", "loss/policy_avg", "train/policy_gradient_loss", "losses/policy_loss"),
    Metric("loss/value", "half the (clipped) squared error of the values", "falls, then levels off", "loss/value_avg", "train/value_loss (without the half)", "losses/value_loss"),
    Metric("policy/entropy", "entropy of the policy, nats a token (or step)", "falls slowly, not to 0", "policy/entropy_avg", "train/entropy_loss (negated)", "losses/entropy"),
    Metric("policy/ratio", "mean of new over old probability of the actions (tokens)", "0.95 to 1.05", "val/ratio"),
    Metric("policy/approx_kl", "how far the updates moved from the policy that acted, nats a token (or step), estimator k3", "0.001 to 0.05", "policy/approxkl_avg (half the squared difference)", "train/approx_kl", "losses/approx_kl"),
    Metric("policy/first_ratio_gap", "mean distance of the ratio from 1 in the first minibatch, before any update: acting and learning must compute the same", "below 0.001, in bfloat16 below 0.02: a step and a whole sequence round differently; more means dropout or memory differ"),
    Metric("policy/clip_fraction", "share of actions whose ratio left 1 +- clip_ratio", "0.02 to 0.3", "policy/clipfrac_avg (where the clipped term counts)", "train/clip_fraction", "losses/clipfrac"),
    Metric("value/clip_fraction", "share of values that moved further than value_clip", "below 0.3", "val/clipfrac_avg (where the clipped term counts)"),
    Metric("value/explained_variance", "1 - var(return - value) / var(return), before the update", "rises towards 1 (near 0 where several responses to a prompt are compared); below 0 is worse than a constant", "", "train/explained_variance", "losses/explained_variance"),
    Metric("value/mean", "mean value of the states, before the update", "follows value/return_mean"),
    Metric("value/return_mean", "mean of the value targets", "follows objective/rlhf_reward (near 0 where several responses to a prompt are compared); of an agent, grows with the discounted return"),
    Metric("optimizer/gradient_norm", "global norm of the gradient, before it is limited", "steady; no jumps by a factor of 10"),
    Metric("optimizer/learning_rate", "learning rate at the start of the iteration", "as scheduled", "lr", "train/learning_rate", "charts/learning_rate"),
    Metric("optimizer/steps", "minibatches used: fewer than epochs * minibatches where target_kl stopped the epochs, or gradients in float16 overflowed and their step was left out", "constant"),
    Metric("writer/loss", "cross-entropy of the writer in supervised training, nats a token (of a classifier, a text)", "falls"),
    Metric("writer/validation_cross_entropy", "the same on the validation split", "falls, then levels off; the best epoch is kept"),
    Metric("writer/validation_accuracy", "of a classifier: share of validation texts that it gets right before PPO", "well above chance"),
    Metric("reward/loss", "cross-entropy of the reward model, nats a text (or pair)", "falls"),
    Metric("reward/validation_cross_entropy", "the same on the validation split", "falls; the best epoch is kept"),
    Metric("reward/validation_accuracy", "share of validation texts (or pairs) that the reward model gets right", "well above 0.5"),
    Metric("judge/loss", "cross-entropy of the judge, nats a text", "falls"),
    Metric("judge/validation_cross_entropy", "the same on the validation split", "falls; the best epoch is kept"),
    Metric("judge/validation_accuracy", "share of validation texts that the judge gets right", "well above 0.5"),
    Metric("time/episodes", "responses written so far", "", "episode"),
    Metric("time/environment_steps", "steps of all environments so far", "", "", "time/total_timesteps"),
    Metric("time/steps_per_second", "environment steps acted and learned from, a second", "constant after the first call", "", "time/fps", "charts/SPS"),
    Metric("time/iteration_seconds", "seconds of the iteration", "constant after the first, which compiles"),
    Metric("time/tokens_per_second", "response tokens written and learned from, a second", "constant after the first"),
)  # fmt: skip

FINAL = (  # numbers of `summary.json`, which TensorBoard's HParams table compares between runs
    Metric("final/reward_after", "mean score of the responses to the test prompts, after PPO", "above final/reward_before"),
    Metric("final/positive_after", "share of these responses that the judge calls positive", "above final/positive_before"),
    Metric("final/exact_match_after", "share of the test questions that are answered right, greedily", "above final/exact_match_before"),
    Metric("final/chrf_after", "chrF of the greedy translations of the test split", "above final/chrf_before"),
    Metric("final/accuracy_ppo", "share of the test texts that are labelled right", "above final/accuracy_majority"),
    Metric("final/cost_ppo", "mean cost of the labels of the test split", "below final/cost_supervised"),
    Metric("final/evaluation_return", "mean return of the greedy agent's episodes after training", "as high as the task allows"),
)  # fmt: skip

PARTS = Metric("reward/PART", "mean of a part that a Python reward returns, as the function calls it; their weighted sum is the score", "rises with objective/scores, or says which part does not")  # fmt: skip

METRIC_NAMES = tuple(metric.name for metric in GLOSSARY)


def meaning_of(name):
    """What a tag of TensorBoard means, and when it is healthy; None of one that is in neither list."""
    other = PARTS if name.startswith("reward/") else None
    metric = next((metric for metric in (*GLOSSARY, *FINAL) if metric.name == name), other)
    if metric is None:
        return None
    return metric.meaning + (f" Healthy: {metric.healthy}." if metric.healthy else "")


def glossary_table():
    """The glossary as a Markdown table."""
    rows = ["| metric | meaning | healthy | TRL | SB3 | CleanRL |", "|---|---|---|---|---|---|"]
    code = lambda name: f"`{name}`" if name and " " not in name else name
    for m in (*GLOSSARY, PARTS):
        rows.append(f"| `{m.name}` | {m.meaning} | {m.healthy} | {code(m.trl)} | {code(m.sb3)} | {code(m.cleanrl)} |")
    return "\n".join(rows)
