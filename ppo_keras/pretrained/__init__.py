"""Other people's checkpoints: where they lie, what their weights are called, their tokenizers and chat templates."""
