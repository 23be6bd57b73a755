"""Other people's checkpoints: reading them, their tokenizers and chat templates, adapters."""
