"""Every error that acereason raises on purpose, so that one `except AceReasonError` catches them all.

    AceReasonError
    ├── ConfigError          a recipe or an option that cannot be meant as written
    ├── DataError            a record, file or data set that is not what its schema says
    ├── CheckpointError      a checkpoint that is missing, damaged or of another architecture
    ├── RunError             a run's folder that is in use, belongs to another recipe, or cannot go on
    ├── SamplingError        a sampler or server that cannot answer
    ├── TrainingError        numbers that make further training pointless (NaN, nothing left to learn)
    └── SandboxUnavailable   this machine cannot isolate model-written programs

A message says what was expected, what was found, and how to mend it. The command line prints it
without a traceback and exits with status 2. `need` is how an optional library is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any


class AceReasonError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(AceReasonError):
    """A recipe or an option that cannot be meant as written."""


class DataError(AceReasonError):
    """A record, file or data set that is not what its schema says."""


class CheckpointError(AceReasonError):
    """A checkpoint that is missing, damaged or of another architecture."""


class RunError(AceReasonError):
    """A run's folder that is in use, belongs to another recipe, or cannot go on."""


class SamplingError(AceReasonError):
    """A sampler or server that cannot answer."""


class TrainingError(AceReasonError):
    """Numbers that make further training pointless."""


class SandboxUnavailable(AceReasonError):
    """This machine cannot isolate model-written programs."""


def need(module: str, extra: str) -> Any:
    """The module; ConfigError that names the extra to install when it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"this needs {module}, which is not installed: pip install 'acereason[{extra}]'"
        ) from error
