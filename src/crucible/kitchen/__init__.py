"""How is post-training orchestrated? Recipes, their config, the built-in stages and workflows; no backend."""
