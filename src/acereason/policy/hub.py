"""Which names are folders here and which are models of the hub, before anything is asked for or tried again.

A name that can only be a folder (it begins like a path, has more than one slash, or its first part is a
folder here) and is none is a mistake of spelling; the hub is not asked for it. Another one is looked for on
the hub only when the hub can be reached, or its cache has it.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from acereason.errors import CheckpointError
from acereason.kinds import near, said

PATIENCE = 5.0  # seconds for the hub to answer a connection
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")
EXPECTED = "Expected a Hugging Face folder with config.json and *.safetensors"


def check(path: str | Path) -> None:
    """CheckpointError for a name that is no folder here, and no model of the hub that could be had now."""
    name, folder = str(path), Path(path).expanduser()
    if folder.is_dir():
        return
    if folder.is_file():
        raise CheckpointError(f"{name} is {said(folder)}. {EXPECTED}, or a GGUF file")
    if looks_local(name):
        raise CheckpointError(f"there is no folder {name}{near(folder)}. {EXPECTED}")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise CheckpointError(f"there is no folder {name}, and no model of the hub is called so") from None
    if _cached(name) is None and not _reachable():
        raise CheckpointError(
            f"there is no folder {name} here{near(folder)}, and {constants.ENDPOINT} cannot be reached "
            f"to look for a model of that name. {EXPECTED}"
        )


def looks_local(name: str) -> bool:
    """Whether a name can only mean a folder or a file here."""
    first = name.partition("/")
    return (
        name.startswith(("/", ".", "~"))
        or name.count("/") > 1
        or name.endswith((".gguf", "/"))
        or (bool(first[1]) and Path(first[0]).is_dir())
    )


def revision(path: str | Path) -> str | None:
    """The commit of a hub's model that lies in the cache; None for a folder here."""
    found = None if Path(path).expanduser().exists() else _cached(str(path))
    return Path(found).parent.name if found else None


def _cached(name: str) -> str | None:
    with suppress(HFValidationError, OSError):
        found = try_to_load_from_cache(name, "config.json")
        return found if isinstance(found, str) else None
    return None


def _reachable() -> bool:
    """Whether the hub takes a connection; behind a proxy that is left to the hub's own library."""
    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in PROXIES):
        return True
    address = urlparse(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True
