"""A recipe as typed data: TOML → frozen structs, every key known, every value checked.

    load("recipes/demo.toml", ["sft.epochs=3", "stage.math-short.budget=64"])

A file is a recipe unless its `kind` says otherwise. An unknown key is an error that names the nearest known
one. `--set` paths name a stage by its `name`; `--set model.path=` takes a key out again.
`resolved(recipe)` is the whole recipe with its defaults as JSON, and `digest(recipe)` its hash; both go
into the run's folder. Numbers of the paper stand in `recipes/*.toml`, not here: the defaults here are
what the paper says where it says it, and ours where it is silent (recipe comments tell which).
"""

from acereason.config.data import Curate, Files, Tasks
from acereason.config.evaluation import Dev, Evaluation, Health, HealthRule
from acereason.config.model import Lora, Model, NewModel
from acereason.config.reading import check_stage, digest, kind_of, load, parse, resolved, stage_names
from acereason.config.recipe import SCHEMA, Recipe
from acereason.config.rl import Kl, Rl
from acereason.config.running import Keep, Placement, Sampling, Servers
from acereason.config.sft import Fault, Sft
from acereason.config.stage import Filter, Readmit, Stage, Stop, Temperature, Thinking
from acereason.config.struct import Struct

__all__ = [
    "SCHEMA",
    "Curate",
    "Dev",
    "Evaluation",
    "Fault",
    "Files",
    "Filter",
    "Health",
    "HealthRule",
    "Keep",
    "Kl",
    "Lora",
    "Model",
    "NewModel",
    "Placement",
    "Readmit",
    "Recipe",
    "Rl",
    "Sampling",
    "Servers",
    "Sft",
    "Stage",
    "Stop",
    "Struct",
    "Tasks",
    "Temperature",
    "Thinking",
    "check_stage",
    "digest",
    "kind_of",
    "load",
    "parse",
    "resolved",
    "stage_names",
]
