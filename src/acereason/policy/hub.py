"""Which names are folders here and which are models of the hub, before anything is asked for or tried again.

A name that can only be a folder (it begins like a path, has more than one slash, or its first part is a
folder here) and is none is a mistake of spelling; the hub is not asked for it. Another one is looked for on
the hub only when the hub can be reached, or its cache has it.

    folder("you/tiny@v1", TEXT)    a hub's model as a folder of its cache, ID or ID@REVISION
    commit("you/tiny")             which commit that is

Which commit a name means is asked once a process, so weights, tokenizer and configuration are of the same one
though somebody pushes meanwhile.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlparse

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from acereason.errors import CheckpointError
from acereason.kinds import near, said

PATIENCE = 5.0  # seconds for the hub to answer a connection
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")
TEXT = ["*.json", "*.jinja", "*.model", "*.txt"]  # configuration, tokenizer, prompt format
WEIGHTS = [*TEXT, "model*.safetensors"]
_COMMIT = re.compile("[0-9a-f]{40}")
EXPECTED = "Expected a Hugging Face folder with config.json and *.safetensors"


def check(path: str | Path) -> None:
    """CheckpointError for a name that is no folder here, and no model of the hub that could be had now."""
    name, folder = str(path), Path(path).expanduser()
    if folder.is_dir():
        return
    name = split(name)[0]
    if folder.is_file():
        raise CheckpointError(f"{name} is {said(folder)}. {EXPECTED}, or a GGUF file")
    if looks_local(name):
        raise CheckpointError(f"there is no folder {name}{near(folder)}. {EXPECTED}")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise CheckpointError(f"there is no folder {name}, and no model of the hub is called so") from None
    if _cached(str(path)) is None and not _reachable():
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


def split(name: str) -> tuple[str, str | None]:
    """A hub id and its revision; a folder or file here, whatever it is called, has none."""
    if Path(name).expanduser().exists():
        return name, None
    model, _, revision = name.partition("@")
    return model, revision or None


@lru_cache
def commit(name: str) -> str | None:
    """The commit of a hub's model, ID or ID@REVISION: the hub's word where it can be reached, else the
    cache's. None for what is here. CheckpointError: the hub knows no such model or revision."""
    model, revision = split(name)
    if Path(name).expanduser().exists() or looks_local(model) or not model or ":" in model:
        return None
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    if _reachable():
        try:
            return str(HfApi().model_info(model, revision=revision).sha)
        except (
            Exception
        ) as error:  # the HTTP library under the hub's differs by version, and so do its errors
            if not cached(name):
                raise CheckpointError(f"{name} cannot be had from the hub: {_first(error)}") from error
    here = cached(name)
    return here.name if here else None


def folder(name: str, patterns: Sequence[str]) -> Path:
    """The files of a hub's model at its commit, fetched where they are not in the cache. CheckpointError:
    they cannot be had."""
    model, _ = split(name)
    try:
        return Path(snapshot_download(model, revision=commit(name), allow_patterns=list(patterns)))
    except CheckpointError:
        raise
    except Exception as error:  # as above
        raise CheckpointError(f"{name} cannot be had from the hub: {_first(error)}") from error


def cached(name: str) -> Path | None:
    """The folder of a hub's model in the cache, whole or not; nothing is asked for."""
    file = _cached(name)
    return Path(file).parent if file else None


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _cached(name: str) -> str | None:
    model, revision = split(name)
    with suppress(HFValidationError, OSError):
        file = try_to_load_from_cache(model, "config.json", revision=revision)
        return file if isinstance(file, str) else None
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
