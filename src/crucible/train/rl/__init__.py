"""How does a policy learn from what it did? Environments, rollouts, advantages and training data, without a backend."""
