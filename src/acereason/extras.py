"""Libraries that only some steps need, asked for when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from acereason.errors import ConfigError


def need(module: str, extra: str) -> Any:
    """The module; ConfigError that names the extra to install when it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"this needs {module}, which is not installed: pip install 'acereason[{extra}]'"
        ) from error
