# %% [markdown]
# # 10. 参考文献与勘误
#
# [目录](../README.md) · 上一章：[9. 常见问题，每个答案都是一个实验](09_faq.ipynb) · [English](../en/10_references_and_errata.ipynb)
#
# **本章要学会**：知道原文哪些说法是错的，正确的是什么，软件包在哪里做对了，由哪个测试把关；以及各种方法的出处。
# 运行不到1分钟，阅读随意。
#
# ## 原文的段落
#
# > “Proximal Policy Optimization Algorithms” by John Schulman、Pierre-Luc Bacon、Moritz Hardt、Shane Linder、Alex Tamar、Pieter Abbeel……
# > “A Technical Introduction to BERT” by Jacob Devlin、Matthew Chang、Kris Yogatama……
# > [Reinforcement Learning: An Introduction](https://www.reinforcementlearningbook.com/)
#
# PPO论文的作者另有其人（六个名字里只有第一个正确），BERT论文的题目和作者都不对，Sutton与Barto的书也不在这个网址。7.3节还有两条（署名Captain与VanderPlas的“Natural Language Processing with Deep Learning”，署名Reif等十人的“Deep Learning for Natural Language Processing”）在这些作者名下查不到，这里删去。
#
# ## 思路
#
# 只被描述过的错误会再来，写成测试的错误才不会。所以原文*代码*里的每个错误都在`tests/test_errata.py`中重现，旁边是软件包的正确写法；文字上的错误，则在别处有测试检验正确的形式。文字上有几处错误（例如5.1节过旧的Python版本）是测试抓不住的，那里列出与正确形式最接近的测试。
# 列着测试名的表格也会过时：名字会改。下面的代码读取你所看到的这张表，逐一查找其中的名字。
#
# 先看三个只需一两行就能说明的错误。

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
# ## 公式
#
# 原文要让优势最大化（4.2.3），还以平均优势为评估指标（9.3）。然而
#
# $$A^\pi(s,a)=Q^\pi(s,a)-V^\pi(s),\qquad \sum_a\pi(a|s)\,A^\pi(s,a)=0$$
#
# 对任何策略（无论好坏）、任何状态都成立。下面在4.3节的网格世界里，从零写起，用精确值对一个随机的策略验算：

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
# ## 勘误表
#
# 第0节指标题与摘要。位置都在`ppo_keras`之内，测试都在`tests/`之内；没有可运行之处记作`-`。
#
# | 节 | 错误 | 更正 | 软件包中的位置 | 测试 |
# |---|---|---|---|---|
# | 0 | 承诺讲“用PPO训练大语言模型”，但没有文本，没有分词器，没有语言模型，给出的算法也不是PPO。 | 分词器、在文本上训练的语言模型、奖励、参考模型，然后是PPO。 | `tasks.generation.GenerationJob` | `test_generation_task.test_the_summary_holds_every_key` |
# | 1.4 | 把PPO定义为“用于优化大语言模型”的算法。 | PPO是通用算法：同一个学习器既训练语言模型，也训练智能体。 | `environments.ppo.EnvironmentPPO` | `test_environment_ppo.test_the_articles_grid_world_is_solved` |
# | 1.4 | 强化学习的定义里没有序贯决策，也没有回报。 | 决策一个接一个，要最大化的是其后奖励的（折扣）和。 | `advantages.generalized_advantages` | `test_advantages.test_lambda_zero_and_one_by_hand` |
# | 1.4 | 只讲让损失最小的“梯度下降”。 | PPO让目标函数上升；代码里的损失是它的相反数。 | `losses.clipped_policy_loss` | `test_losses.test_golden_policy_loss` |
# | 1.4 | 缩略词列表缺少KL、GAE、TD、RLHF、Transformer。 | 用到时逐一解释；每个指标在术语表里都有条目。 | `runs.glossary.GLOSSARY` | `test_glossary.test_every_metric_is_explained` |
# | 2.1 | 称大语言模型的核心是RNN、LSTM、GRU。 | 核心是解码器Transformer；本软件包把LSTM作为另一种选择。 | `networks.actor_critic.TransformerActorCritic` | `test_networks.test_the_transformer_equals_numpy` |
# | 2.1 | 插图（本节与2.2）存放在别人的服务器上。 | 图由代码根据数据画出。 | `reports.pictures.png` | `test_pictures.test_a_png_is_one_and_of_a_size_to_look_at` |
# | 2.2 | 所述适用于任何演员-评论家算法：没有概率比，没有裁剪。 | PPO的特征是被裁剪的新旧概率之比。 | `losses.clipped_policy_loss` | `test_losses.test_the_clip_cuts_the_gradient_only_where_the_move_went_too_far` |
# | 2.3 | 说按“预测误差”更新参数。 | 按优势更新，优势来自奖励；没有可供对照的正确答案。 | `ppo.PPO.estimate` | `test_ppo.test_advantages_are_computed_once_and_whitened` |
# | 2.3 | 说“通过PPO可以评估模型”。 | PPO只做改进；评估另做，用留出的提示。 | `language.evaluation.Evaluator` | `test_evaluation.test_every_prompt_counts_once` |
# | 2.3 | 说PPO能避免过拟合。 | PPO会过度优化奖励；要靠KL惩罚、不参与奖励的裁判和留出的提示。 | `runs.health.Health.hacked` | `test_language_ppo.test_the_penalty_leads_to_the_known_optimum` |
# | 2.4 | 图中奖励由输入文本算出。 | 奖励是对“提示加回复”打的分。 | `language.rewards.score_responses` | `test_rewards.test_a_response_is_scored_behind_its_prompt` |
# | 2.4 | 说奖励来自与“目标文本”的比较。 | 没有目标文本：对一个回复，只知道一个分数。 | `language.rewards.PythonReward` | `test_rewards.test_the_function_sees_prompt_and_response_without_padding` |
# | 2.4 | 图中没有奖励模型、参考模型和价值网络。 | 共四个网络：策略、价值网络、参考模型、奖励模型；后两个冻结。 | `language.ppo.LanguagePPO` | `test_language_ppo.test_the_reference_and_the_reward_never_follow` |
# | 3.1 | 原理循环论证：“近端”所以“稳定”；没有概率比、裁剪或信赖域。 | L^CLIP = min(r A, clip(r, 1-ε, 1+ε) A)。 | `losses.clipped_policy_loss` | `test_losses.test_policy_loss_equals_a_plain_loop` |
# | 3.2.1 | 类未定义，torch未导入，alpha先使用后赋值。 | 先有经过检查的设置，再建网络，再建优化器。 | `config.OptimizerConfig.build` | `test_errata.test_the_first_block_uses_what_nothing_defines` |
# | 3.2.1 | 优化器只拿到策略网络的参数。 | 策略和价值网络一起更新。 | `ppo.PPO.compile` | `test_errata.test_the_optimizer_forgets_the_critic` |
# | 3.2.1 | 这里用PyTorch，第5节用Keras。 | 只用一个框架。 | `ppo.PPO` | `test_errata.test_two_libraries_for_one_program` |
# | 3.2.2 | 读取了从未赋值的state、next_state、value_state、F。 | 由采样器逐步携带观测和记忆。 | `environments.rollout.Carry` | `test_errata.test_the_loop_reads_names_that_nothing_defines` |
# | 3.2.2 | next_state = next_state：状态从不前进。 | step返回下一状态。 | `environments.gridworld.GridWorld.step` | `test_errata.test_the_state_never_advances` |
# | 3.2.2 | reward_function(action)不看状态。 | 奖励取决于状态和动作。 | `environments.gridworld.GridWorld` | `test_errata.test_the_reward_ignores_the_state` |
# | 3.2.2 | R = V(s') - V(s)：没有奖励，没有折扣；而且R通常指回报。 | δ = r + γ V(s') - V(s)是优势的一个估计。 | `advantages.generalized_advantages` | `test_errata.test_a_difference_of_values_is_no_advantage` |
# | 3.2.2 | 同一个估计既当V(s)又当V(s')。 | 两个状态各有价值。 | `trajectory.Trajectory` | `test_errata.test_one_value_stands_for_two_states` |
# | 3.2.2 | 回合结束处没有掩码。 | 终止之后V为0；因时限截断时用最后观测的V。 | `environments.ppo.EnvironmentPPO.assemble` | `test_errata.test_nothing_ends_an_episode` |
# | 3.2.2 | 只有单步优势：迟来的奖励传不到前面的步。 | GAE：把各步的δ按γλ折扣累加。 | `advantages.generalized_advantages` | `test_errata.test_one_step_sees_no_later_reward` |
# | 3.2.2 | log(log_prob)得NaN。 | 直接用对数概率。 | `losses.log_probability` | `test_errata.test_the_log_of_a_log_probability_is_nan` |
# | 3.2.2 | log_prob(action)没有状态。 | log π(a\|s)，由该状态的logit算出。 | `distributions.Categorical.log_probability` | `test_errata.test_a_log_probability_without_a_state` |
# | 3.2.2 | 不保存旧的对数概率，于是没有概率比，也无从裁剪。 | 旧的对数概率随轨迹保存。 | `trajectory.Trajectory` | `test_errata.test_nothing_holds_the_policy_near_the_old_one` |
# | 3.2.2 | 优势没有切断梯度：策略损失的梯度会传进价值网络，让它靠谎报价值来降低损失。 | stop_gradient。 | `losses.clipped_policy_loss` | `test_errata.test_the_advantage_is_not_detached` |
# | 3.2.2 | 让价值去拟合优势。 | 应拟合回报。 | `losses.clipped_value_loss` | `test_errata.test_the_value_learns_the_advantage` |
# | 3.2.2 | 没有价值损失的系数，没有熵奖励。 | c_v L^V与c_e S（式9）。 | `ppo.PPO.gradients` | `test_errata.test_the_loss_lacks_two_weights` |
# | 3.2.2 | 不限制梯度。 | 限制梯度的整体范数。 | `ppo.PPO.step_optimizer` | `test_errata.test_nothing_limits_a_gradient` |
# | 3.2.2 | 每一步都更新。 | 先采集，再做若干轮小批量更新。 | `ppo.PPO.update` | `test_errata.test_every_step_is_an_update` |
# | 3.2.3 | evaluate_model、model、test_data都未定义。 | 实际玩若干回合，或回答若干提示。 | `environments.evaluation.play` | `test_errata.test_the_evaluation_is_undefined` |
# | 3.2.3 | 打印的只有测试准确率，好像所有任务都是分类。 | 看回报或奖励、KL散度、裁判认可的比例、长度、多样性。 | `language.evaluation.Evaluation` | `test_evaluation.test_kl_and_perplexity_by_hand` |
# | 4.1.1 | 少一个括号；对词表求和处写成积分。 | π(a\|s) = exp z_a / Σ_b exp z_b。 | `losses.log_probability` | `test_losses.test_log_probability_and_entropy_are_float32` |
# | 4.1.1 | θ既是参数又是logit。 | θ是权重，z(s; θ)是logit。 | `networks.actor_critic.ActorCritic.logits` | `test_networks.test_the_mlp_equals_numpy` |
# | 4.1.2 | 求和号后面又把级数展开；r_t与r_(t+1)混用。 | V(s) = E[Σ_k γ^k r_(t+k+1) \| s_t = s]。 | `environments.gridworld.GridWorld.policy_values` | `test_gridworld.test_values_of_a_policy_by_hand` |
# | 4.1.2 | V^π与估计它的网络用同一个符号。 | V^π是精确值，V_θ学习它；两者之差可以测量。 | `tasks.environment.AgentJob.against_the_best` | `test_environment_task.test_the_grid_is_solved_and_compared_with_the_exact_solution` |
# | 4.1.3 | A = V(s') - V(s)。 | A = Q(s, a) - V(s)，先用δ估计，再用GAE。 | `advantages.generalized_advantages` | `test_advantages.test_golden_terminated` |
# | 4.1 | 全文没有概率比、裁剪目标、KL散度和熵。 | 它们正是这个方法本身。 | `kl.estimate_kl` | `test_kl.test_estimators_average_to_the_divergence` |
# | 4.2.1 | 对以单个状态为条件的价值取argmax。 | 期望是对策略产生的轨迹取的，从起始状态开始。 | `environments.gridworld.GridWorld.policy_return` | `test_gridworld.test_returns_are_cut_off_by_the_time_limit` |
# | 4.2.1 | 说策略“选择最优动作”。 | 策略是分布；贪心动作只是它的一种用法。 | `distributions.Categorical.mode` | `test_distributions.test_categorical_draws_follow_the_probabilities` |
# | 4.2.2 | 平方误差只减去级数的第一项。 | (V(s) - R)^2，R是整个回报。 | `losses.clipped_value_loss` | `test_losses.test_value_loss_equals_a_plain_loop` |
# | 4.2.3 | 把优势当作“动作的收益”，并要最大化它。 | 优势是相对量：在策略下的均值为0（上面已验算）。 | `masking.whiten` | `test_masking.test_whiten_by_hand` |
# | 4.3 | 没有说明布局、墙和终止状态。 | 给出地图和每个动作的规则。 | `environments.gridworld.GridWorld.article` | `test_gridworld.test_a_walk` |
# | 4.3 | 四个状态、四个动作，却只有2个logit、1个价值。 | 16个logit，4个价值。 | `networks.actor_critic.MLPActorCritic` | `test_environment_ppo.test_the_articles_grid_world_is_solved` |
# | 4.3 | 在非终止状态得到奖励1。 | 进入终点才有奖励；也可选用原文的数字。 | `environments.gridworld.GridWorld.article` | `test_gridworld.test_the_articles_own_numbers` |
# | 4.3 | A = 1 - 0.5漏掉了γ V(s')。 | γ为0.99、V为0.5时：终止处0.5，r为0时-0.005，r为1时0.995。 | `advantages.generalized_advantages` | `test_gridworld.test_the_articles_first_step` |
# | 4.3 | [0.5 + α·0.5·0.5] = [0.5, 0.75]：长度1与2不等，要求α为1，和为1.25。 | softmax的梯度移动该状态的全部logit，和为0。 | `ppo.PPO.gradients` | `test_ppo.test_loss_and_gradients_equal_numpy` |
# | 4.3 | 价值按α·0.5·0.5更新，第二个0.5没有来由。 | V按学习率乘（R - V）更新。 | `losses.clipped_value_loss` | `test_losses.test_golden_value_loss` |
# | 4.3 | 只有一个样本，没有概率比。 | 一批样本、概率比、裁剪。 | `ppo.PPO.train_step` | `test_environment_ppo.test_the_first_ratio_is_one` |
# | 5.1 | Python 3.6；没有版本要求，没有GPU说明。 | Python 3.11至3.13，依赖有最低版本，GPU有专门的安装选项。 | `commands.main.main` | `test_errata.test_no_version_is_named` |
# | 5.2 | LSTM(input_shape=(10,))：没有时间轴。 | (B, T, ...)。 | `networks.actor_critic.LSTMActorCritic` | `test_errata.test_an_lstm_reads_sequences` |
# | 5.2 | predict(states[i])：单个样本没有批量轴。 | 处处批量在前。 | `trajectory.Trajectory` | `test_errata.test_a_sample_is_no_batch` |
# | 5.2 | float32与float64相加；对模型（不是变量）求梯度；最后没有梯度。 | 统一float32；对变量求梯度；一条tape。 | `ppo.PPO.gradients` | `test_errata.test_what_stops_the_program_next` |
# | 5.2 | predict返回NumPy：没有梯度。 | 在tape里直接调用网络。 | `ppo.PPO.read` | `test_errata.test_predict_has_no_gradient` |
# | 5.2 | 第二条tape覆盖第一条的名字；总损失在两条之外求和。 | 一条tape，损失在它里面。 | `ppo.PPO.gradients` | `test_errata.test_a_loss_formed_outside_of_its_tape_has_no_gradient` |
# | 5.2 | LSTM用relu激活：可能爆炸，也用不了cuDNN。 | tanh。 | `networks.lstm.LSTMTrunk` | `test_errata.test_a_relu_lstm_explodes` |
# | 5.2 | Dense(1, sigmoid)：整个序列只有一个是非概率；价值也不是每步一个。 | 每一步都有词表上的logit和一个价值。 | `networks.actor_critic.ActorCritic.call` | `test_errata.test_one_number_is_no_policy_over_tokens` |
# | 5.2 | alpha从未使用；优化器是全局变量。 | 优化器属于学习器；每个设置都会用到。 | `config.OptimizerConfig` | `test_errata.test_the_learning_rate_is_never_used` |
# | 5.2 | 倒序循环没有递推：是TD(0)，不是GAE。 | A_t = δ_t + γλ A_(t+1)。 | `advantages.generalized_advantages` | `test_errata.test_the_reverse_loop_has_no_recursion` |
# | 5.2 | 没有回合结束标记。 | ended与next_values。 | `trajectory.Trajectory` | `test_errata.test_episodes_run_into_each_other` |
# | 5.2 | next_states除最后一个外都被忽略。 | 每一步都有next_values。 | `environments.ppo.EnvironmentPPO.assemble` | `test_errata.test_next_states_are_ignored` |
# | 5.2 | 每一轮都用变动后的评论家重算优势。 | 每次迭代只估计一次。 | `ppo.PPO.estimate` | `test_errata.test_advantages_move_with_the_critic` |
# | 5.2 | old_action_probs等于新的概率且未使用：没有概率比、裁剪、KL、小批量。 | r = exp(log π - log π_old)。 | `ppo.PPO.read` | `test_errata.test_the_old_policy_is_the_new_one` |
# | 5.2 | action * log p：动作0没有梯度。 | 取实际动作的对数概率。 | `losses.log_probability` | `test_errata.test_action_0_has_no_gradient` |
# | 5.2 | 对sigmoid取对数可能得-∞。 | 对logit用log_softmax。 | `losses.log_probability` | `test_errata.test_the_log_of_a_sigmoid_can_be_minus_infinity` |
# | 5.2 | (N, 1) - (N,)得到(N, N)；循环里每个价值又与全部奖励比较。 | 形状一致。 | `losses.clipped_value_loss` | `test_errata.test_a_perfect_critic_is_punished_by_broadcasting` |
# | 5.2 | 价值损失已在策略损失里，又再算一次。 | 只算一次，带系数。 | `ppo.PPO.gradients` | `test_errata.test_the_value_loss_is_counted_twice` |
# | 5.2 | 价值的目标是即时奖励。 | 目标是回报。 | `ppo.PPO.estimate` | `test_errata.test_the_value_learns_the_immediate_reward` |
# | 5.2 | 成千次predict调用，没有编译。 | 一次迭代是一个编译好的程序。 | `ppo.PPO.compile` | `test_errata.test_the_program_is_slow_on_purpose` |
# | 5.2 | 没有随机种子。 | 种子与计数器决定每一次随机抽取。 | `ppo.PPO.draw_seed` | `test_errata.test_nothing_is_repeatable` |
# | 5.2 | 随机数据：动作不是策略选的，奖励与动作无关，下一状态就是当前状态。 | 策略自己行动，并因其行为得到奖励。 | `ppo.PPO.collect` | `test_errata.test_nothing_can_be_learned_from_these_data` |
# | 5.2 | test_model把概率当动作打印。 | 取mode或采样。 | `distributions.Categorical.sample` | `test_errata.test_a_probability_is_no_action` |
# | 5.2 | 没有main保护：一导入就训练。 | 用命令行启动。 | `commands.main.main` | `test_errata.test_importing_trains_and_training_runs_twice` |
# | 5.3 | “梯度下降和Adam”，仿佛是两回事。 | Adam就是一种梯度方法。 | `config.OptimizerConfig.build` | `test_config.test_the_schedule_spans_the_training` |
# | 5.4 | 再训练一遍；没有给出结果。 | 每次运行以表格和summary.json结束。 | `reports.tables.print_agent` | `test_environment_task.test_the_summary_holds_every_key` |
# | 6 | 四段话大同小异，没有状态、动作、奖励、基线和指标。 | 每个任务都写明这五项。 | `tasks.answering.AnsweringJob` | `test_evaluate.test_questions_are_answered` |
# | 6.1 | 没有提到奖励作弊和多样性。 | 不参与奖励的裁判；distinct-n。 | `language.evaluation.distinct` | `test_evaluation.test_distinct_by_hand` |
# | 6.2 | 没有说明分类有标签：交叉熵是单步多臂老虎机的基线。 | 错误代价不同时PPO才有用；两者一并报告。 | `tasks.classification.ClassificationJob` | `test_texts.test_ppo_prefers_the_cheaper_mistake` |
# | 6.3 | 没有提到可验证的奖励。 | 奖励就是答案是否正确。 | `tasks.question_answering.exact_match` | `test_question_answering.test_the_reward_by_hand` |
# | 6.4 | 没有提到句子级指标和热启动。 | 先有监督训练，再以句子chrF为奖励。 | `tasks.translation.Translation` | `test_translation.test_rewards_by_hand` |
# | 7.1 | “吴恩达在Medium上的官方博客”无法证实。 | 删去。 | - | 本章 |
# | 7.2 | “TFDB”。 | 应为tfdbg；如今是enable_dump_debug_info与Debugger V2页。 | `runs.tracing.DebugDump` | `test_tensorboard.test_the_debugger_needs_graphs` |
# | 7.2 | 把TensorBoard说成“性能分析工具”。 | 标量、文本、图片、直方图、计算图、超参数；性能分析只是附加功能。 | `runs.recording.Recorder` | `test_tensorboard.test_the_first_page_is_an_overview` |
# | 7.3 | 两本书被列为论文。 | 列为书。 | - | 本章 |
# | 7.3 | PPO论文的作者写错。 | Schulman、Wolski、Dhariwal、Radford、Klimov(2017)。 | - | 本章 |
# | 7.3 | “A Technical Introduction to BERT”，七位作者。 | BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding，作者Devlin、Chang、Lee、Toutanova。 | - | 本章 |
# | 7.3 | 两个题目在所署作者名下查不到。 | 删去。 | - | 本章 |
# | 8 | 趋势没有出处；缺少DPO、GRPO、RLOO、可验证奖励、奖励模型的误差。 | 见下面的文献；留一法基线已内置。 | `language.ppo.less_the_others` | `test_language_ppo.test_scores_count_from_the_other_responses_by_hand` |
# | 9.1 | 说梯度裁剪“防止梯度爆炸和消失”。 | 它只能限制爆炸，治不了消失，也不是概率比的裁剪。 | `ppo.PPO.step_optimizer` | `test_ppo.test_the_gradient_norm_limit_is_honoured` |
# | 9.1 | 把剪枝和数据增强当作PPO的提速手段。 | 批量生成、KV缓存、编译、多轮小批量。 | `networks.transformer.TransformerTrunk.step` | `test_networks.test_unrolling_step_equals_one_call` |
# | 9.2 | 说局限在于“策略稀疏”和状态空间大。 | 局限是稀疏奖励、样本代价、非同策略数据和探索。 | `environments.memory.TMaze` | `test_environments.test_without_memory_the_t_maze_pays_one_of_two_sides` |
# | 9.3 | 以“策略优势”为评估指标。 | 它的均值约为0：应看回报、KL、裁剪比例、熵、解释方差，并用多个种子。 | `tasks.seeds.spread` | `test_environment_task.test_means_and_spread_over_seeds_by_hand` |
# | 10 | Sutton与Barto的网址错误；缺少GAE、TRPO、Transformer、Ziegler、Stiennon、InstructGPT。 | 见下。 | - | 本章 |
#
# ## 代码：这张表属实吗？


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
# ## 图

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
# ## 参考文献
#
# 原文应当引用的、软件包引用的、以及其他各章用到的。每组按年代排列。
#
# ### 书
#
# - Goodfellow, I., Bengio, Y., Courville, A. (2016). *Deep Learning*. MIT Press. <https://www.deeplearningbook.org>
# - Sutton, R. S., Barto, A. G. (2018). *Reinforcement Learning: An Introduction*. Second edition (the first: 1998). MIT Press. <http://incompleteideas.net/book/the-book-2nd.html>
#
# ### 策略梯度与PPO
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
# ### 网络、文本及其度量
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
# ### 从偏好中学习，以及PPO之后
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
# ### 统计与隐私
#
# - Chan, T. F., Golub, G. H., LeVeque, R. J. (1979). *Updating formulae and a pairwise algorithm for computing sample variances*. Technical report STAN-CS-79-773, Stanford University.
# - Efron, B. (1979). *Bootstrap methods: Another look at the jackknife*. The Annals of Statistics 7(1), 1-26. <https://doi.org/10.1214/aos/1176344552>
# - Efron, B., Tibshirani, R. J. (1993). *An Introduction to the Bootstrap*. Chapman and Hall.
# - Okabe, M., Ito, K. (2008). *Color universal design: How to make figures and presentations that are friendly to colorblind people*. <https://jfly.uni-koeln.de/color/>
# - Patarasuk, P., Yuan, X. (2009). *Bandwidth optimal all-reduce algorithms for clusters of workstations*. Journal of Parallel and Distributed Computing 69(2). <https://doi.org/10.1016/j.jpdc.2008.09.002>
# - Abadi, M., Chu, A., Goodfellow, I., McMahan, H. B., Mironov, I., Talwar, K., Zhang, L. (2016). *Deep learning with differential privacy*. ACM CCS. <https://arxiv.org/abs/1607.00133>
# - Bun, M., Steinke, T. (2016). *Concentrated differential privacy: Simplifications, extensions, and lower bounds*. Theory of Cryptography Conference. <https://arxiv.org/abs/1605.02065>
#
# 下面读取这份清单，检查每条的格式，再查软件包的文档字符串引用的每部著作是否都在其中。

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
# ## 小结
#
# - 有一个测试会因这个错误而失败，错误才算改正。
# - 策略的平均优势为0，什么也衡量不了。
# - 写满名字的表格需要检查，参考文献也一样。
#
# ## 练习
#
# 1. 四个价值（形状`(4, 1)`）与四个奖励（形状`(4,)`）都是0、1、2、3：按原文的写法，均方差是多少？
# 2. 两个动作的概率是0.25和0.75，Q值是2和1：它们的优势各是多少？
# 3. 三步之后有奖励1，所有价值为0，$\gamma=0.99$，$\lambda=0.95$。按GAE，现在的优势是多少？（按原文的单步形式是0。）
#
# 答案在`tutorials/solutions/10_references_and_errata.py`。


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
