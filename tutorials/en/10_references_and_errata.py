# %% [markdown]
# # 10. References and errata
#
# [Overview](../README.md) · before: [9. Questions and answers, each an experiment](09_faq.ipynb) · [中文](../zh/10_references_and_errata.ipynb)
#
# **You will learn** which statements of the article are wrong, what is right, where the package does it right, and which test
# stands guard over it; and where the methods come from. Minutes: less than 1 to run, as long as you like to read.
#
# ## The article's passage
#
# > “Proximal Policy Optimization Algorithms” by John Schulman、Pierre-Luc Bacon、Moritz Hardt、Shane Linder、Alex Tamar、Pieter Abbeel……
# > “A Technical Introduction to BERT” by Jacob Devlin、Matthew Chang、Kris Yogatama……
# > [Reinforcement Learning: An Introduction](https://www.reinforcementlearningbook.com/)
#
# The authors of the PPO paper are others (only the first of the six names is right), the BERT paper has another title and other
# authors, and Sutton and Barto's book is at another address. Two more entries of section 7.3 ("Natural Language Processing with Deep Learning"
# by Captain and VanderPlas, "Deep Learning for Natural Language Processing" by Reif and nine others) could not be found under
# these authors: they are left out here.
#
# ## The idea
#
# A mistake that is only described comes back. A mistake that is a test stays away. So each mistake in the article's *code* is
# reproduced in `tests/test_errata.py`, beside the package's form; those in its text have a test of the right form elsewhere.
# A few mistakes of the text, such as the old version of Python in 5.1, no test can catch: there the test nearest to the right form is
# named. And a table of tests can rot: names change. The cells below read the table that you see and look up every name in it.
#
# First, three mistakes that need a line or two each.

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import ast
import importlib
import re
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import GridWorld
from ppo_keras.advantages import generalized_advantages
from ppo_keras.losses import clipped_value_loss, log_probability

from chapter import Chapter

chapter = Chapter("10_references_and_errata")
rewards = np.array([1.0, 0.0, 2.0], np.float32)  # and a critic that is right about all of them
articles = np.mean((rewards[:, np.newaxis] - rewards) ** 2)  # what predict returns is (N, 1)
ours = float(tf.reduce_mean(clipped_value_loss(rewards, rewards, rewards)))
print(chapter.text("value loss of a perfect critic: the article's", "完美评论家的价值损失:原文"), articles.round(4), chapter.text("ours", "我们"), ours)
assert articles > 0 and ours == 0

log_prob = float(log_probability(tf.zeros([1, 4]), tf.constant([2]))[0])
with np.errstate(invalid="ignore"):
    print("log(log p) =", np.log(log_prob), " log p =", round(log_prob, 4))
    assert np.isnan(np.log(log_prob))

one = lambda x: tf.constant([[x]], tf.float32)  # a step into the goal: reward 1, V(s) = 0.5, nothing behind it
delta = float(generalized_advantages(one(1), one(0.5), one(0), one(1), one(1), 0.99, 0.95)[0][0, 0])
print("V(s') - V(s) =", 0.0 - 0.5, " r + gamma V(s') - V(s) =", delta)
assert delta == 0.5

# %% [markdown]
# ## The equation
#
# The article wants the advantage maximised (4.2.3) and the mean advantage reported as a measure (9.3). But
#
# $$A^\pi(s,a)=Q^\pi(s,a)-V^\pi(s),\qquad \sum_a\pi(a|s)\,A^\pi(s,a)=0$$
#
# in every state, for every policy, good or bad. Here for a random policy in the grid world of section 4.3, from scratch, with
# exact values:

# %%
world, discount = GridWorld.article(), 0.99
policy = np.random.default_rng(0).dirichlet(np.ones(4), size=4)  # (cells, 4), rows sum to 1
transitions = np.zeros([4, 4])
np.add.at(transitions, (np.arange(4)[:, np.newaxis], world.next_cells), policy)
values = np.linalg.solve(np.eye(4) - discount * transitions, (policy * world.rewards).sum(axis=1))
np.testing.assert_allclose(values, world.policy_values(policy, discount), rtol=1e-12)
advantages = world.rewards + discount * values[world.next_cells] - values[:, np.newaxis]
means = (policy * advantages).sum(axis=1)
print(chapter.text("largest advantage of an action:", "单个动作的最大优势:"), advantages.max().round(4))
print(chapter.text("mean advantage in each state:", "各状态的平均优势:"), np.abs(means).round(12))
np.testing.assert_allclose(means, 0, atol=1e-12)

# %% [markdown]
# ## The errata
#
# The section 0 is the title with the abstract. Places are inside `ppo_keras`, tests inside `tests/`; `-` stands where there is
# nothing to run.
#
# | § | mistake | correction | in the package | test |
# |---|---|---|---|---|
# | 0 | Promises PPO for language models; there is no text, no tokenizer, no language model, and what is shown is not PPO. | A tokenizer, a writer trained on texts, a reward, a reference, and PPO. | `tasks.generation.GenerationJob` | `test_generation_task.test_the_summary_holds_every_key` |
# | 1.4 | PPO is "for language models". | It is general: the same learner serves a language model and an agent. | `environments.ppo.EnvironmentPPO` | `test_environment_ppo.test_the_articles_grid_world_is_solved` |
# | 1.4 | Reinforcement learning without sequential decisions and without the return. | Decisions in sequence; what counts is the (discounted) sum of later rewards. | `advantages.generalized_advantages` | `test_advantages.test_lambda_zero_and_one_by_hand` |
# | 1.4 | "Gradient descent" on a loss, as in supervised training. | PPO ascends an objective; the loss is its negative. | `losses.clipped_policy_loss` | `test_losses.test_golden_policy_loss` |
# | 1.4 | The list of abbreviations lacks KL, GAE, TD, RLHF and Transformer. | Each is explained where it is used; each metric has an entry in the glossary. | `runs.glossary.GLOSSARY` | `test_glossary.test_every_metric_is_explained` |
# | 2.1 | The core of language models is "RNN, LSTM, GRU". | It is the decoder Transformer; an LSTM is the alternative here. | `networks.actor_critic.TransformerActorCritic` | `test_networks.test_the_transformer_equals_numpy` |
# | 2.1 | The figures (here and in 2.2) are images on somebody else's server. | Figures are drawn by the code, from numbers. | `reports.pictures.png` | `test_pictures.test_a_png_is_one_and_of_a_size_to_look_at` |
# | 2.2 | Describes any actor-critic: no ratio, no clip. | PPO is the clipped ratio of new and old probability. | `losses.clipped_policy_loss` | `test_losses.test_the_clip_cuts_the_gradient_only_where_the_move_went_too_far` |
# | 2.3 | Parameters are updated by the "prediction error". | By advantages, which come from rewards; nothing is predicted that could be looked up. | `ppo.PPO.estimate` | `test_ppo.test_advantages_are_computed_once_and_whitened` |
# | 2.3 | "PPO evaluates the model." | PPO improves; evaluation is apart, on prompts that were held out. | `language.evaluation.Evaluator` | `test_evaluation.test_every_prompt_counts_once` |
# | 2.3 | "PPO avoids overfitting." | It overfits the reward. A KL penalty, a judge and held-out prompts are the remedies. | `runs.health.Health.hacked` | `test_language_ppo.test_the_penalty_leads_to_the_known_optimum` |
# | 2.4 | The reward is drawn as computed from the input. | It is a number for a prompt and its response. | `language.rewards.score_responses` | `test_rewards.test_a_response_is_scored_behind_its_prompt` |
# | 2.4 | The reward compares with a "target text". | There is none: a score is all that is known of a response. | `language.rewards.PythonReward` | `test_rewards.test_the_function_sees_prompt_and_response_without_padding` |
# | 2.4 | Reward model, reference model and critic are missing in the diagram. | Four networks: policy, critic, reference, reward model; the last two are frozen. | `language.ppo.LanguagePPO` | `test_language_ppo.test_the_reference_and_the_reward_never_follow` |
# | 3.1 | The principle is circular: "proximal" updates are "stable"; no ratio, clip or trust region. | L^CLIP = min(r A, clip(r, 1-ε, 1+ε) A). | `losses.clipped_policy_loss` | `test_losses.test_policy_loss_equals_a_plain_loop` |
# | 3.2.1 | Classes undefined, torch not imported, alpha used before it is set. | Settings first, checked; then networks, then the optimizer. | `config.OptimizerConfig.build` | `test_errata.test_the_first_block_uses_what_nothing_defines` |
# | 3.2.1 | The optimizer gets the policy's parameters only. | Policy and critic are updated together. | `ppo.PPO.compile` | `test_errata.test_the_optimizer_forgets_the_critic` |
# | 3.2.1 | PyTorch here, Keras in section 5. | One library. | `ppo.PPO` | `test_errata.test_two_libraries_for_one_program` |
# | 3.2.2 | `state`, `next_state`, `value_state`, `F` are read and never set. | A collector carries observation and memory from step to step. | `environments.rollout.Carry` | `test_errata.test_the_loop_reads_names_that_nothing_defines` |
# | 3.2.2 | `next_state = next_state`: the state never advances. | `step` returns the next state. | `environments.gridworld.GridWorld.step` | `test_errata.test_the_state_never_advances` |
# | 3.2.2 | `reward_function(action)` ignores the state. | The reward depends on state and action. | `environments.gridworld.GridWorld` | `test_errata.test_the_reward_ignores_the_state` |
# | 3.2.2 | R = V(s') - V(s): no reward, no discount; and R means return. | δ = r + γ V(s') - V(s) is an estimate of the advantage. | `advantages.generalized_advantages` | `test_errata.test_a_difference_of_values_is_no_advantage` |
# | 3.2.2 | One estimate stands for V(s) and for V(s'). | Values of two states. | `trajectory.Trajectory` | `test_errata.test_one_value_stands_for_two_states` |
# | 3.2.2 | No mask at the end of an episode. | Behind the end V is 0; behind a time limit it is V of the final observation. | `environments.ppo.EnvironmentPPO.assemble` | `test_errata.test_nothing_ends_an_episode` |
# | 3.2.2 | One-step advantages only: a late reward reaches no earlier step. | GAE: δ, discounted by γλ a step. | `advantages.generalized_advantages` | `test_errata.test_one_step_sees_no_later_reward` |
# | 3.2.2 | `log(log_prob)` is NaN. | The log-probability itself. | `losses.log_probability` | `test_errata.test_the_log_of_a_log_probability_is_nan` |
# | 3.2.2 | `log_prob(action)` without the state. | log π(a\|s), from the logits of that state. | `distributions.Categorical.log_probability` | `test_errata.test_a_log_probability_without_a_state` |
# | 3.2.2 | No old log-probability, so no ratio and no clip. | Old log-probabilities are kept with the trajectory. | `trajectory.Trajectory` | `test_errata.test_nothing_holds_the_policy_near_the_old_one` |
# | 3.2.2 | The advantage is not detached: the policy loss has a gradient into the critic, which lowers the loss by lying. | `stop_gradient`. | `losses.clipped_policy_loss` | `test_errata.test_the_advantage_is_not_detached` |
# | 3.2.2 | The value is regressed on the advantage. | On the return. | `losses.clipped_value_loss` | `test_errata.test_the_value_learns_the_advantage` |
# | 3.2.2 | No value coefficient, no entropy bonus. | c_v L^V and c_e S, eq. 9. | `ppo.PPO.gradients` | `test_errata.test_the_loss_lacks_two_weights` |
# | 3.2.2 | Nothing limits a gradient. | Its global norm is limited. | `ppo.PPO.step_optimizer` | `test_errata.test_nothing_limits_a_gradient` |
# | 3.2.2 | An update at every step. | Collect, then several epochs of minibatches. | `ppo.PPO.update` | `test_errata.test_every_step_is_an_update` |
# | 3.2.3 | `evaluate_model`, `model`, `test_data` are undefined. | Episodes are played, prompts are answered. | `environments.evaluation.play` | `test_errata.test_the_evaluation_is_undefined` |
# | 3.2.3 | Test accuracy is the only number printed, as if every task were a classification. | Return or reward, KL divergence, a judge's share, length, diversity. | `language.evaluation.Evaluation` | `test_evaluation.test_kl_and_perplexity_by_hand` |
# | 4.1.1 | A bracket is missing, and an integral stands where a vocabulary is summed over. | π(a\|s) = exp z_a / Σ_b exp z_b. | `losses.log_probability` | `test_losses.test_log_probability_and_entropy_are_float32` |
# | 4.1.1 | θ is both the parameters and the logit. | θ are the weights, z(s; θ) the logits. | `networks.actor_critic.ActorCritic.logits` | `test_networks.test_the_mlp_equals_numpy` |
# | 4.1.2 | A sum sign before a series that is written out; r_t and r_(t+1) mixed. | V(s) = E[Σ_k γ^k r_(t+k+1) \| s_t = s]. | `environments.gridworld.GridWorld.policy_values` | `test_gridworld.test_values_of_a_policy_by_hand` |
# | 4.1.2 | V^π and the network that estimates it are one symbol. | V^π is exact, V_θ learns it; their difference can be measured. | `tasks.environment.AgentJob.against_the_best` | `test_environment_task.test_the_grid_is_solved_and_compared_with_the_exact_solution` |
# | 4.1.3 | A = V(s') - V(s). | A = Q(s, a) - V(s), estimated by δ, then by GAE. | `advantages.generalized_advantages` | `test_advantages.test_golden_terminated` |
# | 4.1 | Ratio, clipped objective, KL divergence and entropy are nowhere. | They are the method. | `kl.estimate_kl` | `test_kl.test_estimators_average_to_the_divergence` |
# | 4.2.1 | argmax of a value conditioned on one state. | The expectation is over trajectories of the policy, from the start on. | `environments.gridworld.GridWorld.policy_return` | `test_gridworld.test_returns_are_cut_off_by_the_time_limit` |
# | 4.2.1 | The policy "chooses the optimal action". | It is a distribution; the greedy action is one use of it. | `distributions.Categorical.mode` | `test_distributions.test_categorical_draws_follow_the_probabilities` |
# | 4.2.2 | The squared error subtracts the first term only. | (V(s) - R)^2 with the whole return R. | `losses.clipped_value_loss` | `test_losses.test_value_loss_equals_a_plain_loop` |
# | 4.2.3 | The advantage is "the gain of an action", and is to be maximised. | It is relative: its mean under the policy is 0 (computed above). | `masking.whiten` | `test_masking.test_whiten_by_hand` |
# | 4.3 | Layout, walls and the final state are undefined. | A map, and a rule for every move. | `environments.gridworld.GridWorld.article` | `test_gridworld.test_a_walk` |
# | 4.3 | Four states with four actions: 2 logits, 1 value. | 16 logits, 4 values. | `networks.actor_critic.MLPActorCritic` | `test_environment_ppo.test_the_articles_grid_world_is_solved` |
# | 4.3 | Reward 1 in a state that is not final. | It pays for entering the goal; the article's numbers can be asked for. | `environments.gridworld.GridWorld.article` | `test_gridworld.test_the_articles_own_numbers` |
# | 4.3 | A = 1 - 0.5 drops γ V(s'). | With γ 0.99 and V 0.5: 0.5 at the end, -0.005 for r 0, 0.995 for r 1. | `advantages.generalized_advantages` | `test_gridworld.test_the_articles_first_step` |
# | 4.3 | [0.5 + α·0.5·0.5] = [0.5, 0.75]: lengths 1 and 2, α 1, sum 1.25. | A softmax gradient moves all logits of a state, and sums to 0. | `ppo.PPO.gradients` | `test_ppo.test_loss_and_gradients_equal_numpy` |
# | 4.3 | The value moves by α·0.5·0.5: the second 0.5 has no reason. | V moves by the learning rate times (R - V). | `losses.clipped_value_loss` | `test_losses.test_golden_value_loss` |
# | 4.3 | One sample and no ratio. | A batch, a ratio, a clip. | `ppo.PPO.train_step` | `test_environment_ppo.test_the_first_ratio_is_one` |
# | 5.1 | Python 3.6; no versions, no word on GPUs. | Python 3.11 to 3.13, versions pinned from below, an extra for GPUs. | `commands.main.main` | `test_errata.test_no_version_is_named` |
# | 5.2 | `LSTM(input_shape=(10,))`: no axis of time. | `(B, T, ...)`. | `networks.actor_critic.LSTMActorCritic` | `test_errata.test_an_lstm_reads_sequences` |
# | 5.2 | `predict(states[i])`: one sample without an axis for the batch. | Batch first, everywhere. | `trajectory.Trajectory` | `test_errata.test_a_sample_is_no_batch` |
# | 5.2 | float32 + float64; a gradient asked of models; then no gradient. | float32; variables; one tape. | `ppo.PPO.gradients` | `test_errata.test_what_stops_the_program_next` |
# | 5.2 | `predict` returns NumPy: no gradient. | The network is called inside the tape. | `ppo.PPO.read` | `test_errata.test_predict_has_no_gradient` |
# | 5.2 | The second tape takes the first one's name; the sum is formed outside of both. | One tape, one loss inside it. | `ppo.PPO.gradients` | `test_errata.test_a_loss_formed_outside_of_its_tape_has_no_gradient` |
# | 5.2 | `activation='relu'` in an LSTM: it can explode, and loses cuDNN. | tanh. | `networks.lstm.LSTMTrunk` | `test_errata.test_a_relu_lstm_explodes` |
# | 5.2 | `Dense(1, sigmoid)`: one yes-or-no a sequence; the value is not one a step. | Logits over the vocabulary and a value at each step. | `networks.actor_critic.ActorCritic.call` | `test_errata.test_one_number_is_no_policy_over_tokens` |
# | 5.2 | `alpha` is never read; the optimizer is a global. | The optimizer belongs to the learner; every setting is read. | `config.OptimizerConfig` | `test_errata.test_the_learning_rate_is_never_used` |
# | 5.2 | The reverse loop has no recursion: TD(0), not GAE. | A_t = δ_t + γλ A_(t+1). | `advantages.generalized_advantages` | `test_errata.test_the_reverse_loop_has_no_recursion` |
# | 5.2 | No mark of an episode's end. | `ended` and `next_values`. | `trajectory.Trajectory` | `test_errata.test_episodes_run_into_each_other` |
# | 5.2 | `next_states` is ignored but for the last. | `next_values` of every step. | `environments.ppo.EnvironmentPPO.assemble` | `test_errata.test_next_states_are_ignored` |
# | 5.2 | Each epoch recomputes advantages with a critic that moved. | Estimated once an iteration. | `ppo.PPO.estimate` | `test_errata.test_advantages_move_with_the_critic` |
# | 5.2 | `old_action_probs` is the new one, and unused: no ratio, clip, KL, minibatch. | r = exp(log π - log π_old). | `ppo.PPO.read` | `test_errata.test_the_old_policy_is_the_new_one` |
# | 5.2 | `action * log p`: the action 0 has no gradient. | The log-probability of the action taken. | `losses.log_probability` | `test_errata.test_action_0_has_no_gradient` |
# | 5.2 | The log of a sigmoid can be -∞. | log_softmax of logits. | `losses.log_probability` | `test_errata.test_the_log_of_a_sigmoid_can_be_minus_infinity` |
# | 5.2 | (N, 1) - (N,) is (N, N), and the loop compares each value with all rewards. | Equal shapes. | `losses.clipped_value_loss` | `test_errata.test_a_perfect_critic_is_punished_by_broadcasting` |
# | 5.2 | The value loss is inside the policy loss, and counted again. | Once, with its coefficient. | `ppo.PPO.gradients` | `test_errata.test_the_value_loss_is_counted_twice` |
# | 5.2 | The value's target is the immediate reward. | The return. | `ppo.PPO.estimate` | `test_errata.test_the_value_learns_the_immediate_reward` |
# | 5.2 | Thousands of `predict` calls; nothing is compiled. | One compiled program for an iteration. | `ppo.PPO.compile` | `test_errata.test_the_program_is_slow_on_purpose` |
# | 5.2 | No seed. | A seed and a counter name every draw. | `ppo.PPO.draw_seed` | `test_errata.test_nothing_is_repeatable` |
# | 5.2 | Random data: no policy chose the actions, the rewards do not depend on them, the next states are the states. | The policy acts, and is paid for what it does. | `ppo.PPO.collect` | `test_errata.test_nothing_can_be_learned_from_these_data` |
# | 5.2 | `test_model` prints a probability as an action. | `mode` or a sample. | `distributions.Categorical.sample` | `test_errata.test_a_probability_is_no_action` |
# | 5.2 | No main guard: importing trains. | A command. | `commands.main.main` | `test_errata.test_importing_trains_and_training_runs_twice` |
# | 5.3 | "Gradient descent and Adam", as if they were two things. | Adam is a gradient method. | `config.OptimizerConfig.build` | `test_config.test_the_schedule_spans_the_training` |
# | 5.4 | Training runs a second time; no result is shown. | A run ends with a table and `summary.json`. | `reports.tables.print_agent` | `test_environment_task.test_the_summary_holds_every_key` |
# | 6 | Four paragraphs that say the same, without state, action, reward, baseline or measure. | Each task names all five. | `tasks.answering.AnsweringJob` | `test_evaluate.test_questions_are_answered` |
# | 6.1 | Nothing on reward hacking and diversity. | A judge that takes no part in the reward; distinct-n. | `language.evaluation.distinct` | `test_evaluation.test_distinct_by_hand` |
# | 6.2 | Not said that a classifier has labels: cross-entropy is the baseline of a one-step bandit. | PPO pays off where mistakes have prices; both are reported. | `tasks.classification.ClassificationJob` | `test_texts.test_ppo_prefers_the_cheaper_mistake` |
# | 6.3 | Nothing on rewards that can be verified. | The reward is that the answer is right. | `tasks.question_answering.exact_match` | `test_question_answering.test_the_reward_by_hand` |
# | 6.4 | Nothing on sentence measures and the warm start. | Sentence chrF as the reward, after supervised training. | `tasks.translation.Translation` | `test_translation.test_rewards_by_hand` |
# | 7.1 | A "Deep Learning" blog of Ng's on Medium cannot be confirmed. | Left out. | - | this chapter |
# | 7.2 | "TFDB". | tfdbg, whose form today is `enable_dump_debug_info` and the Debugger V2 tab. | `runs.tracing.DebugDump` | `test_tensorboard.test_the_debugger_needs_graphs` |
# | 7.2 | TensorBoard is "a tool for performance analysis". | Scalars, text, images, histograms, graphs, settings; the profiler is an add-on. | `runs.recording.Recorder` | `test_tensorboard.test_the_first_page_is_an_overview` |
# | 7.3 | Two books are listed as papers. | Books. | - | this chapter |
# | 7.3 | The authors of the PPO paper are wrong. | Schulman, Wolski, Dhariwal, Radford, Klimov (2017). | - | this chapter |
# | 7.3 | "A Technical Introduction to BERT", with seven authors. | BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding; Devlin, Chang, Lee, Toutanova. | - | this chapter |
# | 7.3 | Two titles that could not be found under the authors given. | Left out. | - | this chapter |
# | 8 | Trends without sources; DPO, GRPO, RLOO, verifiable rewards and errors of reward models are missing. | Cited below; leave-one-out is built in. | `language.ppo.less_the_others` | `test_language_ppo.test_scores_count_from_the_other_responses_by_hand` |
# | 9.1 | Gradient clipping "prevents exploding and vanishing gradients". | It bounds explosion; it cures no vanishing, and it is not the clip of the ratio. | `ppo.PPO.step_optimizer` | `test_ppo.test_the_gradient_norm_limit_is_honoured` |
# | 9.1 | Pruning and data augmentation as ways to speed PPO up. | Batched generation, a cache of keys and values, compilation, epochs of minibatches. | `networks.transformer.TransformerTrunk.step` | `test_networks.test_unrolling_step_equals_one_call` |
# | 9.2 | "Sparse policies" and large state spaces are the limits. | Sparse rewards, the price of samples, data of other policies, exploration. | `environments.memory.TMaze` | `test_environments.test_without_memory_the_t_maze_pays_one_of_two_sides` |
# | 9.3 | The "policy advantage" as a measure. | Its mean is about 0: look at return, KL, clip fraction, entropy, explained variance, and at several seeds. | `tasks.seeds.spread` | `test_environment_task.test_means_and_spread_over_seeds_by_hand` |
# | 10 | A wrong address of Sutton and Barto; GAE, TRPO, Transformer, Ziegler, Stiennon, InstructGPT are missing. | Below. | - | this chapter |
#
# ## The code: is the table true?


# %%
class Erratum(NamedTuple):
    section: str
    mistake: str
    correction: str
    place: str  # inside ppo_keras, or -
    test: str  # file.function, or the words for "this chapter"


def errata(language):
    """The table as it stands in the chapter of a language."""
    text = (chapter.root / "tutorials" / language / f"{chapter.name}.py").read_text(encoding="utf-8")
    rows = [line.removeprefix("# ") for line in text.splitlines() if re.match(r"# \| \d", line)]
    return [Erratum(*[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]) for row in rows]


def find(path):
    """What a dotted path inside ppo_keras names; raises where there is no such thing."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["ppo_keras", *parts[:cut]]))
        except ModuleNotFoundError:
            continue  # not a module: an attribute of one
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


def tests_of(file):
    """The names of the tests in a file of tests/."""
    (path,) = (chapter.root / "tests").rglob(f"{file}.py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


table = errata(chapter.language)
places = {row.place for row in table} - {"-"}
tests = {row.test for row in table if row.test.startswith("test_")}
for place in places:
    find(place)
for test in tests:
    file, name = test.split(".")
    assert name in tests_of(file), test
print(chapter.text("mistakes:", "错误数:"), len(table))
print(chapter.text("places in the package, all found:", "软件包中的位置,全部存在:"), len(places))
print(chapter.text("tests, all found:", "测试,全部存在:"), len(tests))

of_errata = {f"test_errata.{name}" for name in tests_of("test_errata")}
assert of_errata <= tests, of_errata - tests  # and no test of an article's mistake is left out of the table
both = [[(row.section, row.place, row.test.startswith("test_") and row.test) for row in errata(one)] for one in ("en", "zh")]
assert both[0] == both[1]  # the two languages say the same

# %% [markdown]
# ## The picture

# %%
sections = list(dict.fromkeys(row.section.split(".")[0] for row in table))
kinds = {
    chapter.label("reproduced in test_errata.py", "在test_errata.py中重现"): lambda row: row.test in of_errata,
    chapter.label("the right form is tested", "正确形式有测试"): lambda row: row.test in tests - of_errata,
    chapter.label("about the references", "关于参考文献"): lambda row: row.test not in tests,
}
figure = Figure(figsize=(7, 3.6), layout="constrained")
axes = figure.add_subplot(
    xlabel=chapter.label("section of the article (0: title and abstract)", "原文的节(0:标题与摘要)"), ylabel=chapter.label("mistakes", "错误数")
)
below = np.zeros(len(sections))
for (label, holds), hatch in zip(kinds.items(), ("", "///", "...")):
    counts = [sum(row.section.split(".")[0] == section and holds(row) for row in table) for section in sections]
    axes.bar(sections, counts, bottom=below, label=label, hatch=hatch, edgecolor="white")
    below += counts
axes.set_ylim(top=1.1 * below.max())
axes.legend()
axes.grid(axis="y", alpha=0.3)
chapter.show(figure, "mistakes")
assert below.sum() == len(table)

# %% [markdown]
# ## References
#
# What the article should have cited, what the package cites, and what the other chapters use. In each group the oldest comes first.
#
# ### Books
#
# - Goodfellow, I., Bengio, Y., Courville, A. (2016). *Deep Learning*. MIT Press. <https://www.deeplearningbook.org>
# - Sutton, R. S., Barto, A. G. (2018). *Reinforcement Learning: An Introduction*. Second edition (the first: 1998). MIT Press. <http://incompleteideas.net/book/the-book-2nd.html>
#
# ### Policy gradients and PPO
#
# - Barto, A. G., Sutton, R. S., Anderson, C. W. (1983). *Neuronlike adaptive elements that can solve difficult learning control problems*. IEEE Transactions on Systems, Man, and Cybernetics SMC-13(5), 834-846. <https://doi.org/10.1109/TSMC.1983.6313077>
# - Williams, R. J. (1992). *Simple statistical gradient-following algorithms for connectionist reinforcement learning*. Machine Learning 8, 229-256. <https://doi.org/10.1007/BF00992696>
# - Sutton, R. S. (1996). *Generalization in reinforcement learning: Successful examples using sparse coarse coding*. Advances in Neural Information Processing Systems 8.
# - Sutton, R. S., McAllester, D., Singh, S., Mansour, Y. (1999). *Policy gradient methods for reinforcement learning with function approximation*. Advances in Neural Information Processing Systems 12 (printed in 2000).
# - Bakker, B. (2001). *Reinforcement learning with long short-term memory*. Advances in Neural Information Processing Systems 14.
# - Schulman, J., Levine, S., Moritz, P., Jordan, M. I., Abbeel, P. (2015). *Trust region policy optimization*. ICML. <https://arxiv.org/abs/1502.05477>
# - Schulman, J., Moritz, P., Levine, S., Jordan, M. I., Abbeel, P. (2016). *High-dimensional continuous control using generalized advantage estimation*. ICLR. <https://arxiv.org/abs/1506.02438>
# - Schulman, J., Wolski, F., Dhariwal, P., Radford, A., Klimov, O. (2017). *Proximal policy optimization algorithms*. <https://arxiv.org/abs/1707.06347>
# - Henderson, P., Islam, R., Bachman, P., Pineau, J., Precup, D., Meger, D. (2018). *Deep reinforcement learning that matters*. AAAI. <https://arxiv.org/abs/1709.06560>
# - Engstrom, L., Ilyas, A., Santurkar, S., Tsipras, D., Janoos, F., Rudolph, L., Madry, A. (2020). *Implementation matters in deep policy gradients: A case study on PPO and TRPO*. ICLR. <https://arxiv.org/abs/2005.12729>
# - Ye, D., et al. (2020). *Mastering complex control in MOBA games with deep reinforcement learning*. AAAI. <https://arxiv.org/abs/1912.09729>
# - Agarwal, R., Schwarzer, M., Castro, P. S., Courville, A., Bellemare, M. G. (2021). *Deep reinforcement learning at the edge of the statistical precipice*. NeurIPS. <https://arxiv.org/abs/2108.13264>
# - Huang, S., Dossa, R. F. J., Raffin, A., Kanervisto, A., Wang, W. (2022). *The 37 implementation details of proximal policy optimization*. ICLR Blog Track. <https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/>
# - Morad, S., Kortvelesy, R., Bettini, M., Liwicki, S., Prorok, A. (2023). *POPGym: Benchmarking partially observable reinforcement learning*. ICLR. <https://arxiv.org/abs/2303.01859>
#
# ### Networks, texts and their measures
#
# - Hochreiter, S., Schmidhuber, J. (1997). *Long short-term memory*. Neural Computation 9(8), 1735-1780. <https://doi.org/10.1162/neco.1997.9.8.1735>
# - Gers, F. A., Schmidhuber, J., Cummins, F. (2000). *Learning to forget: Continual prediction with LSTM*. Neural Computation 12(10), 2451-2471. <https://doi.org/10.1162/089976600300015015>
# - Salmon, J. K., Moraes, M. A., Dror, R. O., Shaw, D. E. (2011). *Parallel random numbers: As easy as 1, 2, 3*. SC '11. <https://doi.org/10.1145/2063384.2063405>
# - Kingma, D. P., Ba, J. (2015). *Adam: A method for stochastic optimization*. ICLR. <https://arxiv.org/abs/1412.6980>
# - Popović, M. (2015). *chrF: character n-gram F-score for automatic MT evaluation*. Tenth Workshop on Statistical Machine Translation. <https://aclanthology.org/W15-3049>
# - Li, J., Galley, M., Brockett, C., Gao, J., Dolan, B. (2016). *A diversity-promoting objective function for neural conversation models*. NAACL-HLT. <https://arxiv.org/abs/1510.03055>
# - Rajpurkar, P., Zhang, J., Lopyrev, K., Liang, P. (2016). *SQuAD: 100,000+ questions for machine comprehension of text*. EMNLP. <https://arxiv.org/abs/1606.05250>
# - Sennrich, R., Haddow, B., Birch, A. (2016). *Neural machine translation of rare words with subword units*. ACL. <https://arxiv.org/abs/1508.07909>
# - Vaswani, A., Shazeer, N., Parmar, N., Uszkoreit, J., Jones, L., Gomez, A. N., Kaiser, Ł., Polosukhin, I. (2017). *Attention is all you need*. Advances in Neural Information Processing Systems 30. <https://arxiv.org/abs/1706.03762>
# - Kudo, T., Richardson, J. (2018). *SentencePiece: A simple and language independent subword tokenizer and detokenizer for neural text processing*. EMNLP, system demonstrations. <https://arxiv.org/abs/1808.06226>
# - Devlin, J., Chang, M.-W., Lee, K., Toutanova, K. (2019). *BERT: Pre-training of deep bidirectional transformers for language understanding*. NAACL-HLT. <https://arxiv.org/abs/1810.04805>
# - Keskar, N. S., McCann, B., Varshney, L. R., Xiong, C., Socher, R. (2019). *CTRL: A conditional transformer language model for controllable generation*. <https://arxiv.org/abs/1909.05858>
# - Loshchilov, I., Hutter, F. (2019). *Decoupled weight decay regularization*. ICLR. <https://arxiv.org/abs/1711.05101>
# - Radford, A., Wu, J., Child, R., Luan, D., Amodei, D., Sutskever, I. (2019). *Language models are unsupervised multitask learners*. OpenAI.
# - Zhang, B., Sennrich, R. (2019). *Root mean square layer normalization*. Advances in Neural Information Processing Systems 32. <https://arxiv.org/abs/1910.07467>
# - Henry, A., Dachapally, P. R., Pawar, S., Chen, Y. (2020). *Query-key normalization for Transformers*. Findings of EMNLP. <https://arxiv.org/abs/2010.04245>
# - Shazeer, N. (2020). *GLU variants improve Transformer*. <https://arxiv.org/abs/2002.05202>
# - Holtzman, A., Buys, J., Du, L., Forbes, M., Choi, Y. (2020). *The curious case of neural text degeneration*. ICLR. <https://arxiv.org/abs/1904.09751>
# - Su, J., Lu, Y., Pan, S., Murtadha, A., Wen, B., Liu, Y. (2021). *RoFormer: Enhanced transformer with rotary position embedding*. <https://arxiv.org/abs/2104.09864>
# - Hu, E. J., Shen, Y., Wallis, P., Allen-Zhu, Z., Li, Y., Wang, S., Wang, L., Chen, W. (2022). *LoRA: Low-rank adaptation of large language models*. ICLR. <https://arxiv.org/abs/2106.09685>
# - Chen, T., Xu, B., Zhang, C., Guestrin, C. (2016). *Training deep nets with sublinear memory cost*. <https://arxiv.org/abs/1604.06174>
# - Black, S., Biderman, S., Hallahan, E., et al. (2022). *GPT-NeoX-20B: An open-source autoregressive language model*. BigScience Workshop on Challenges and Perspectives in Creating Large Language Models. <https://arxiv.org/abs/2204.06745>
# - Ainslie, J., Lee-Thorp, J., de Jong, M., Zemlyanskiy, Y., Lebrón, F., Sanghai, S. (2023). *GQA: Training generalized multi-query Transformer models from multi-head checkpoints*. EMNLP. <https://arxiv.org/abs/2305.13245>
# - Jiang, A. Q., et al. (2023). *Mistral 7B*. <https://arxiv.org/abs/2310.06825>
# - Touvron, H., et al. (2023). *LLaMA: Open and efficient foundation language models*. <https://arxiv.org/abs/2302.13971>
# - Dubey, A., et al. (2024). *The Llama 3 herd of models*. <https://arxiv.org/abs/2407.21783>
# - Yang, A., et al. (2024). *Qwen2 technical report*. <https://arxiv.org/abs/2407.10671>
# - Ben Allal, L., et al. (2025). *SmolLM2: When Smol goes big. Data-centric training of a small language model*. <https://arxiv.org/abs/2502.02737>
# - Gemma Team (2025). *Gemma 3 technical report*. <https://arxiv.org/abs/2503.19786>
# - Yang, A., et al. (2025). *Qwen3 technical report*. <https://arxiv.org/abs/2505.09388>
#
# ### Learning from preferences, and after PPO
#
# - Bradley, R. A., Terry, M. E. (1952). *Rank analysis of incomplete block designs: I. The method of paired comparisons*. Biometrika 39(3/4), 324-345. <https://doi.org/10.2307/2334029>
# - Christiano, P. F., Leike, J., Brown, T. B., Martic, M., Legg, S., Amodei, D. (2017). *Deep reinforcement learning from human preferences*. Advances in Neural Information Processing Systems 30. <https://arxiv.org/abs/1706.03741>
# - Kool, W., van Hoof, H., Welling, M. (2019). *Buy 4 REINFORCE samples, get a baseline for free!* ICLR workshop Deep Reinforcement Learning Meets Structured Prediction. <https://wouterkool.github.io/publication/buy-4-samples-free-baseline/>
# - Ziegler, D. M., Stiennon, N., Wu, J., Brown, T. B., Radford, A., Amodei, D., Christiano, P., Irving, G. (2019). *Fine-tuning language models from human preferences*. <https://arxiv.org/abs/1909.08593>
# - Schulman, J. (2020). *Approximating KL divergence*. <http://joschu.net/blog/kl-approx.html>
# - Stiennon, N., Ouyang, L., Wu, J., Ziegler, D. M., Lowe, R., Voss, C., Radford, A., Amodei, D., Christiano, P. (2020). *Learning to summarize from human feedback*. Advances in Neural Information Processing Systems 33. <https://arxiv.org/abs/2009.01325>
# - Ouyang, L., et al. (2022). *Training language models to follow instructions with human feedback* (InstructGPT). Advances in Neural Information Processing Systems 35. <https://arxiv.org/abs/2203.02155>
# - Gao, L., Schulman, J., Hilton, J. (2023). *Scaling laws for reward model overoptimization*. ICML. <https://arxiv.org/abs/2210.10760>
# - Rafailov, R., Sharma, A., Mitchell, E., Ermon, S., Manning, C. D., Finn, C. (2023). *Direct preference optimization: Your language model is secretly a reward model* (DPO). Advances in Neural Information Processing Systems 36. <https://arxiv.org/abs/2305.18290>
# - Singhal, P., Goyal, T., Xu, J., Durrett, G. (2023). *A long way to go: Investigating length correlations in RLHF*. <https://arxiv.org/abs/2310.03716>
# - Ahmadian, A., Cremer, C., Gallé, M., Fadaee, M., Kreutzer, J., Pietquin, O., Üstün, A., Hooker, S. (2024). *Back to basics: Revisiting REINFORCE style optimization for learning from human feedback in LLMs* (RLOO). ACL. <https://arxiv.org/abs/2402.14740>
# - Shao, Z., et al. (2024). *DeepSeekMath: Pushing the limits of mathematical reasoning in open language models* (GRPO). <https://arxiv.org/abs/2402.03300>
#
# ### Statistics and privacy
#
# - Chan, T. F., Golub, G. H., LeVeque, R. J. (1979). *Updating formulae and a pairwise algorithm for computing sample variances*. Technical report STAN-CS-79-773, Stanford University.
# - Efron, B. (1979). *Bootstrap methods: Another look at the jackknife*. The Annals of Statistics 7(1), 1-26. <https://doi.org/10.1214/aos/1176344552>
# - Efron, B., Tibshirani, R. J. (1993). *An Introduction to the Bootstrap*. Chapman and Hall.
# - Okabe, M., Ito, K. (2008). *Color universal design: How to make figures and presentations that are friendly to colorblind people*. <https://jfly.uni-koeln.de/color/>
# - Patarasuk, P., Yuan, X. (2009). *Bandwidth optimal all-reduce algorithms for clusters of workstations*. Journal of Parallel and Distributed Computing 69(2). <https://doi.org/10.1016/j.jpdc.2008.09.002>
# - Abadi, M., Chu, A., Goodfellow, I., McMahan, H. B., Mironov, I., Talwar, K., Zhang, L. (2016). *Deep learning with differential privacy*. ACM CCS. <https://arxiv.org/abs/1607.00133>
# - Bun, M., Steinke, T. (2016). *Concentrated differential privacy: Simplifications, extensions, and lower bounds*. Theory of Cryptography Conference. <https://arxiv.org/abs/1605.02065>
#
# The next cell reads the list, checks the form of each entry, and then looks for every work that a docstring of the package cites.

# %%
text = (chapter.root / "tutorials" / chapter.language / f"{chapter.name}.py").read_text(encoding="utf-8")
entries = re.findall(r"^# - (.+?) \((\d{4})\)\. \*(.+?)\*(.*)$", text, flags=re.MULTILINE)
assert len(entries) == len(re.findall(r"^# - .*\(\d{4}\)\. ", text, flags=re.MULTILINE))
for authors, year, title, rest in entries:
    address = re.search(r"arxiv\.org/abs/(\d\d)(\d\d)\.\d{4,5}>$", rest)
    assert address is None or (2000 + int(address[1]) <= int(year) and 1 <= int(address[2]) <= 12), title  # printed after it was put there
assert len({title for _, _, title, _ in entries}) == len(entries)  # none twice

package = "\n".join(path.read_text(encoding="utf-8") for path in (chapter.root / "ppo_keras").rglob("*.py"))
cited = set(re.findall(r"([A-Z][a-zü]+)(?: et al\.| and [A-Z][a-z]+)?,? \(?((?:19|20)\d\d)\b", package))
known = lambda name, year: any(re.search(rf"\b{name}\b", authors) and year in (when, *re.findall(r"\d{4}", rest)) for authors, when, _, rest in entries)
missing = [f"{name} {year}" for name, year in sorted(cited) if not known(name, year)]
print(chapter.text("entries:", "条目数:"), len(entries), chapter.text(" works cited in the package:", " 软件包引用的著作:"), len(cited))
assert not missing, missing

# %% [markdown]
# ## Summary
#
# - A mistake is corrected when a test fails with it.
# - The mean advantage of a policy is 0: it measures nothing.
# - A table of names belongs under a check, and so does a list of references.
#
# ## Exercises
#
# 1. Four values `(4, 1)` and four rewards `(4,)`, both 0, 1, 2, 3: what is the article's mean square?
# 2. Two actions with probabilities 0.25 and 0.75 and Q-values 2 and 1: what are their advantages?
# 3. A reward of 1 comes three steps later, all values are 0, $\gamma=0.99$, $\lambda=0.95$. What is the advantage now, by GAE? (By the
#    article's one-step form it is 0.)
#
# The solutions are in `tutorials/solutions/10_references_and_errata.py`.


# %%
@chapter.exercise
def articles_mean_square():
    return None  # your number


@chapter.exercise
def two_advantages():
    return None  # your two numbers, such as [0.0, 0.0]


@chapter.exercise
def three_steps_earlier():
    return None  # your number


four = np.arange(4.0)
chapter.check(articles_mean_square(), np.mean((four[:, np.newaxis] - four) ** 2))
probabilities, q_values = np.array([0.25, 0.75]), np.array([2.0, 1.0])
chapter.check(two_advantages(), q_values - probabilities @ q_values)
zeros, late = tf.zeros([1, 4]), tf.constant([[0.0, 0.0, 0.0, 1.0]])
chapter.check(three_steps_earlier(), float(generalized_advantages(late, zeros, zeros, late, zeros + 1, 0.99, 0.95)[0][0, 0]))
