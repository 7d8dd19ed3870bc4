"""Which recipes and stages are there? The built-in ones, and those of installed plug-ins.

A plug-in is an installed distribution with entry points in the groups `crucible.recipes` (each a `Recipe`) or
`crucible.stages` (each a `Stage` class). Nothing is ever imported by a name that a config or a file gives.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from crucible.errors import ConfigError, did_you_mean
from crucible.framework import Stage
from crucible.kitchen.recipe import Recipe

ALIASES: Mapping[str, str] = {"sl_basic_v2": "sl_basic"}
"""Names of the seeds for recipes that are one recipe here."""


def gather_recipes(builtin: Iterable[Recipe]) -> dict[str, Recipe]:
    """Name to recipe, built-in ones first.

    Raises:
        ConfigError: if a plug-in's entry point is no recipe, or takes a name that is taken.
    """
    recipes = {recipe.name: recipe for recipe in builtin}
    for entry in entry_points(group="crucible.recipes"):
        recipe = entry.load()
        if not isinstance(recipe, Recipe):
            raise ConfigError.of(
                "is no Recipe", where=f"plug-in {entry.value}", fix="Point the entry point at a Recipe"
            )
        if recipe.name in recipes:
            raise ConfigError.of(f"the recipe name {recipe.name!r} is taken", where=f"plug-in {entry.value}")
        recipes[recipe.name] = recipe
    return recipes


def find_recipe(name: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: if there is none.
    """
    recipe = recipes.get(ALIASES.get(name, name))
    if recipe is None:
        raise ConfigError.of(f"there is no recipe {name!r}", fix=did_you_mean(name, recipes))
    return recipe


def gather_stages(builtin: Iterable[type[Stage]]) -> dict[str, type[Stage]]:
    """Class name to stage class, for reading an `experiment.json`.

    Raises:
        ConfigError: if a plug-in's entry point is no stage, or takes a name that is taken.
    """
    stages = {stage.__name__: stage for stage in builtin}
    for entry in entry_points(group="crucible.stages"):
        stage: Any = entry.load()
        if not (isinstance(stage, type) and issubclass(stage, Stage)):
            raise ConfigError.of("is no Stage", where=f"plug-in {entry.value}", fix="Point the entry point at a Stage")
        if stage.__name__ in stages:
            raise ConfigError.of(f"the stage name {stage.__name__!r} is taken", where=f"plug-in {entry.value}")
        stages[stage.__name__] = stage
    return stages
