"""Which recipes come with the kitchen? `RECIPES` lists them; each is a value, thin and declarative."""

from crucible.cookbook.supervised import CHAT_SL, SL_BASIC

RECIPES = (SL_BASIC, CHAT_SL)

__all__ = ["CHAT_SL", "RECIPES", "SL_BASIC"]
