"""GGUF files to Hugging Face folders: dequantised once, then an ordinary checkpoint for everything else.

    convert("model.gguf", "models/mine")    config.json, model.safetensors, tokenizer.json
    converted("model.gguf")                 the same into the cache, once; what `model.path` of a recipe does

transformers reads the file with the `gguf` package (the extra `base`). Weights are those of the quantised
file, not of the model before it: Q4 costs a little quality, and training goes on from there in full
precision.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from acereason.errors import CheckpointError, ConfigError
from acereason.files import file_hash
from acereason.kinds import near, said
from acereason.native.build import cache_folder


def is_gguf(path: str | Path) -> bool:
    """Whether a path is a GGUF file, by its first bytes."""
    file = Path(path).expanduser()
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(4) == b"GGUF"


def converted(path: str | Path) -> Path:
    """The Hugging Face folder of a GGUF file, in the cache by the file's hash; made when it is not there."""
    file = Path(path).expanduser()
    folder = cache_folder() / "models" / f"{file.stem}-{file_hash(file)[:16]}"
    return folder if (folder / "config.json").exists() else convert(file, folder)


def convert(path: str | Path, out: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write the Hugging Face folder of a GGUF file, whole or not at all.

    Raises CheckpointError (no GGUF file, an architecture that transformers cannot read) and ConfigError
    (`out` is taken)."""
    file, out = Path(path).expanduser(), Path(out)
    if not is_gguf(file):
        kind = "a file of another kind" if file.is_file() else said(file)
        raise CheckpointError(
            f"{path}: a GGUF file was expected (it begins with 'GGUF'), found {kind}{near(file)}"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty; choose another --out")
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise ConfigError(f"reading GGUF files needs {package}: pip install 'acereason[base]'")
    model, tokenizer = _read(file, dtype)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    if out.exists():
        out.rmdir()
    temporary.rename(out)
    return out


def _read(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **where)
        model = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=dtype, **where)
    except Exception as error:  # transformers and gguf raise whatever they meet
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{file} cannot be converted: {first}") from error
    _forget_quantisation(model)
    return model, tokenizer


def _forget_quantisation(model: Any) -> None:
    """transformers refuses to save what it has just dequantised until nothing says that it was quantised."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
