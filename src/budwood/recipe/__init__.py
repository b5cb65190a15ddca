"""The user's one file, typed.

A recipe is TOML; each section is a frozen pydantic model in a module of its own, every key has a default or is required,
and an unknown key is refused with the nearest known one. `load_recipe` is the only way in. Stages receive the sections that
they read and nothing else: what a stage does not read cannot make it run again.

    recipe = load_recipe(Path("support.toml"))
    recipe.train.rank
"""

from budwood.recipe.base import BaseSection
from budwood.recipe.benchmark import BenchmarkSection
from budwood.recipe.canary import CanarySection
from budwood.recipe.evaluate import EvaluateSection, PolicyRules, StyleRules
from budwood.recipe.gate import GateSection
from budwood.recipe.load import load_recipe, recipe_from_mapping
from budwood.recipe.prepare import PrepareSection
from budwood.recipe.recipe import Recipe
from budwood.recipe.release import ReleaseSection
from budwood.recipe.semantic import SemanticSection
from budwood.recipe.serve import ServeSection
from budwood.recipe.source import SourceSection
from budwood.recipe.train import TrainSection

__all__ = [
    "BaseSection",
    "BenchmarkSection",
    "CanarySection",
    "EvaluateSection",
    "GateSection",
    "PolicyRules",
    "PrepareSection",
    "Recipe",
    "ReleaseSection",
    "SemanticSection",
    "ServeSection",
    "SourceSection",
    "StyleRules",
    "TrainSection",
    "load_recipe",
    "recipe_from_mapping",
]
