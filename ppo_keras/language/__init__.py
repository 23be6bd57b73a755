"""Text: tokenizer, generation, supervised training, rewards, and the PPO collector for language models."""
