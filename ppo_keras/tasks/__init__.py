"""What `ppo-keras train` can train: one file a task, each a short recipe of the other parts."""
