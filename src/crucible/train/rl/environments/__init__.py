"""Which environments are there? Problems, prompts and games to train on, each found by its name."""
