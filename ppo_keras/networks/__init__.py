"""Networks that act step by step (`step`) and read whole sequences (`call`) with the same numbers. They know nothing of PPO."""
