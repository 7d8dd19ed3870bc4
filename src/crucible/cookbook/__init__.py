"""Which recipes come with the kitchen? `RECIPES` lists them; each is a value, thin and declarative."""

from crucible.cookbook.rl import CODE_RL, GUESS_NUMBER, MATH_RL, RL_BASIC, RL_GRPO
from crucible.cookbook.supervised import CHAT_SL, SL_BASIC

RECIPES = (SL_BASIC, CHAT_SL, RL_BASIC, RL_GRPO, MATH_RL, CODE_RL, GUESS_NUMBER)

__all__ = ["CHAT_SL", "CODE_RL", "GUESS_NUMBER", "MATH_RL", "RECIPES", "RL_BASIC", "RL_GRPO", "SL_BASIC"]
