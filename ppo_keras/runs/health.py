"""Signs that a training goes wrong, each said once and with what to try. What is not finite stops it: `callbacks.StopOnNonFinite`."""

import collections
import warnings

import keras

from ppo_keras.checkpoints import from_json, of_json
from ppo_keras.errors import HealthWarning


class Health(keras.callbacks.Callback):
    """Watches the metrics of PPO.

    Args:
        reward: the metric that should rise, "objective/scores" or "episode/return"; of an agent, counted from the first
            episode that ended.
        watch_kl: whether KL counts: a coefficient of 0 says that it does not.
        watch_value: whether the critic counts: where several responses to a prompt are compared it has nothing to explain.
        patience: lines of `metrics.csv` that a sign must last: an iteration, of an agent a call.
    """

    def __init__(self, reward, watch_kl=True, watch_value=True, patience=10):
        super().__init__()
        self.reward, self.watch_kl, self.watch_value, self.patience = reward, watch_kl, watch_value, patience
        self.lasted, self.said = collections.Counter(), set()
        self.seen, self.first, self.recent = 0, [], collections.deque(maxlen=patience)

    def on_train_batch_end(self, batch, logs=None):
        metrics = {name: float(value) for name, value in logs.items()}
        if self.seen or metrics.get("episode/count", 1.0) > 0:
            self.seen += 1
            self.first = [*self.first, metrics][: self.patience]
            self.recent.append(metrics)
        for name, (seen, advice) in self.signs(metrics).items():
            self.lasted[name] = self.lasted[name] + 1 if seen else 0
            if self.lasted[name] >= self.patience and name not in self.said:
                self.said.add(name)
                warnings.warn(f"{advice} (iteration {int(self.model.iteration.numpy())}; said once)", HealthWarning, stacklevel=2)

    def state(self):
        """See `callbacks.Checkpoint`."""
        lists = {"first": self.first, "recent": list(self.recent), "said": sorted(self.said)}
        return {"facts": of_json({"seen": self.seen, "lasted": self.lasted, **lists})}

    def restore(self, state):
        """See `callbacks.Checkpoint`."""
        facts = from_json(state["facts"])
        self.seen, self.first, self.said = facts["seen"], facts["first"], set(facts["said"])
        self.lasted.update(facts["lasted"])
        self.recent.extend(facts["recent"])

    def signs(self, metrics):
        """{name: (whether it shows in these metrics, what it means and what to try)}."""
        get = lambda name: metrics.get(name, 0.0)
        return {
            "kl": (
                self.watch_kl and get("response/token_kl") > 2.0,
                f"the KL divergence runs away: {get('response/token_kl'):.2f} nats a token. The text may no longer be language. "
                "Try a larger --kl-coefficient, a --kl-target, or a smaller --learning-rate",
            ),
            "ratio": (
                get("policy/first_ratio_gap") > 0.01,
                f"the ratio of new to old probabilities is off 1 by {get('policy/first_ratio_gap'):.3f} before any update: acting and learning "
                "do not compute the same. Check the policy's step against its call, its dropout and precision",
            ),
            "entropy": (
                self.collapsed(),
                f"the entropy collapsed to {get('policy/entropy'):.4f} nats before {self.reward} rose: the policy explores no more. "
                "Try a larger --entropy-coefficient or a smaller --learning-rate",
            ),
            "clip": (
                get("policy/clip_fraction") > 0.5,
                f"{get('policy/clip_fraction'):.0%} of the ratios are clipped: the updates are too large. "
                "Try a smaller --learning-rate, fewer --epochs, or a --target-kl",
            ),
            "value": (
                self.watch_value and get("value/explained_variance") < 0.0,
                f"the critic explains less than a constant would (explained variance {get('value/explained_variance'):.2f}). "
                "Try a larger --value-coefficient, --no-shared-trunk, or --normalize-rewards for an agent",
            ),
            "endless": (
                metrics.get("response/ended_share", 1.0) < 0.1,
                f"only {get('response/ended_share'):.0%} of the responses end by themselves. Try a larger --missing-end-penalty or a larger --response-length",
            ),
            "short": (
                self.shrunk(),
                f"{self.reward} rises while responses shrink to {get('response/length'):.1f} tokens, less than half of the start: brevity may be "
                "all that is learned. Read samples.jsonl; try a --short-penalty or a larger --kl-coefficient",
            ),
            "hacking": (
                self.hacked(),
                f"{self.reward} rises while the judge, which takes no part in it, falls: the reward is being gamed. "
                "Try a larger --kl-coefficient, fewer --iterations, or a better reward",
            ),
        }

    def collapsed(self):
        """Entropy below a twentieth of its start, and no more reward than at the start."""
        entropy, reward = self.change("policy/entropy"), self.change(self.reward)
        return entropy is not None and reward is not None and entropy[1] < 0.05 * entropy[0] and reward[1] <= reward[0]

    def shrunk(self):
        """More reward than at the start, from responses of less than half the length."""
        reward, length = self.change(self.reward), self.change("response/length")
        return reward is not None and length is not None and reward[1] > reward[0] and length[1] < 0.5 * length[0]

    def hacked(self):
        """More reward than at the start, and less approval of the judge."""
        reward, judged = self.change(self.reward), self.change("objective/judged")
        return reward is not None and judged is not None and reward[1] > reward[0] and judged[1] < judged[0] - 0.02

    def change(self, name):
        """Means over the first and over the last `patience` iterations; None before they are apart, or where there are no such metrics."""
        if self.seen < 2 * self.patience:
            return None
        means = [[metrics[name] for metrics in part if name in metrics] for part in (self.first, self.recent)]
        return [sum(values) / len(values) for values in means] if all(means) else None
