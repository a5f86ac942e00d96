"""A hub id, a folder, a short name or "demo" -> the files of a Gemma 3 checkpoint, checked before they are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from medgemma_app.errors import ModelError

# Weights, tokenizer and settings, but never a checkpoint's own Python files.
FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
LICENCE = "https://developers.google.com/health-ai-developer-foundations/terms"
# The default of Gemma 3's configuration in transformers; mlx-vlm's is 4096.
DEFAULT_CONTEXT = 131_072
_NAMES = {short: f"mlx-community/medgemma-{short}-it" for short in ("1.5-4b", "4b", "27b", "27b-text")}
ALIASES = {short: f"{name}-4bit" for short, name in _NAMES.items()}
_KNOWN = ["demo", *ALIASES, *(f"{name}-{kind}" for name in _NAMES.values() for kind in ("4bit", "8bit", "bf16"))]
# Entries of text_config that a model would load with even if they made no sense; other bad entries make loading fail.
_COUNTS = ("max_position_embeddings", "sliding_window", "sliding_window_pattern")


@dataclass(frozen=True)
class Checkpoint:
    """A folder with all files of a Gemma 3 checkpoint. ``revision`` is the commit that was downloaded.

    ``config`` always has a ``text_config``, and a ``vision_config`` if there are weights of a vision tower.
    """

    folder: Path
    revision: str | None
    config: Mapping[str, Any]
    shards: tuple[str, ...]

    @property
    def context(self) -> int:
        """The number of tokens that the model can attend to, prompt and answer together."""
        return int(self.config["text_config"].get("max_position_embeddings", DEFAULT_CONTEXT))


def find_checkpoint(model: str, *, revision: str | None = None, progress: bool = False) -> Checkpoint:
    """Finds a checkpoint, downloads it if necessary, and checks it. Raises ModelError, which says what is missing and what to do."""
    folder = local_folder(model)
    commit = None
    if folder is None:
        folder = _fetch(ALIASES.get(model, model), revision, progress)
        commit = folder.name
    config = _config(folder)
    if missing := _missing(folder):
        raise ModelError(f"{folder.name} lacks {', '.join(missing[:5])}; download the checkpoint again")
    shards = tuple(_shards(folder))
    names = {name for shard in shards for name in _tensors(folder / shard)}
    if not any("vision_tower." in name for name in names):
        config.pop("vision_config", None)
    elif not config.get("vision_config"):
        raise ModelError(f"{folder.name} lacks a vision_config in config.json; download the checkpoint again")
    elif not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise ModelError(f"{folder.name} lacks preprocessor_config.json; download the checkpoint again")
    return Checkpoint(folder, commit, config, shards)


def local_folder(model: str) -> Path | None:
    """The local folder that ``model`` names, or None for a hub id or a short name. Raises ModelError for anything else."""
    if model == "demo":
        from medgemma_app.demo import CHECKPOINT

        return CHECKPOINT
    path = Path(model).expanduser()
    if model and path.is_dir():
        return path.resolve()
    if model in ALIASES:
        return None
    looks_local = path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1 or path.exists()
    if looks_local:
        advice = f"give a folder, a hub id such as {ALIASES['1.5-4b']}, one of {', '.join(ALIASES)}, or demo"
        raise ModelError(f"there is no checkpoint folder {model!r}; {_suggestion(model) or advice}")
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError as error:
        raise ModelError(f"{model!r} is neither a folder nor a hub id; a hub id looks like owner/name") from error
    return None


def _suggestion(model: str) -> str:
    """ "did you mean ...?" for a likely typo, else ""."""
    close = get_close_matches(model.lower(), _KNOWN, n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close and close[0] != model else ""


def _fetch(model: str, revision: str | None, progress: bool) -> Path:
    """The folder with the hub's files. A complete copy on this machine is used without any request to the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=FILES, local_files_only=True))
        if not _missing(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    return _download(model, revision, progress)


def _download(model: str, revision: str | None, progress: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if silenced := not progress and not are_progress_bars_disabled():
        disable_progress_bars()
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=FILES))
    except GatedRepoError as error:
        message = f"{model} is gated: accept its licence at https://huggingface.co/{model} ({LICENCE}), then run: hf auth login"
        raise ModelError(message) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{model} has no revision {revision!r}") from error
    except (LocalEntryNotFoundError, *HfHubHTTPError.__bases__) as error:  # the bases are what the hub's HTTP client raises, and OSError
        if isinstance(error, RepositoryNotFoundError) or _status(error) in {401, 403, 404}:
            advice = _suggestion(model) or "check the name, or run: hf auth login"
            raise ModelError(f"{model} is not on the hub, or it is gated and you are not logged in; {advice}") from error
        message = f"cannot download {model}, which is not complete on this machine; check the network and the disk, or use --model demo"
        raise ModelError(message) from error
    finally:
        if silenced:
            enable_progress_bars()


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error of the hub's library, or of its cause."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return getattr(response, "status_code", None)


def _config(folder: Path) -> dict[str, Any]:
    """The config.json of a Gemma 3; a text-only one is changed to have its entries in ``text_config``, as multimodal ones do."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        adapter = (folder / "adapter_config.json").is_file()
        advice = "it is an adapter: load the model it was trained on, and give this folder as the adapter"
        raise ModelError(f"{folder.name} has no readable config.json; {advice if adapter else 'it is not a checkpoint folder'}") from error
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"{folder.name}/config.json is not a JSON object; download the checkpoint again")
    kind, quantised = config.get("model_type"), config.get("quantization_config")
    if kind == "gemma3_text":
        config = {
            "model_type": "gemma3",
            "text_config": config,
            **{name: config[name] for name in ("quantization", "eos_token_id") if name in config},
        }
    elif kind != "gemma3":
        raise ModelError(f"{folder.name} is not a Gemma 3 checkpoint: it is of type {kind!r}")
    if not isinstance(config.get("text_config"), dict) or not isinstance(config.get("vision_config") or {}, dict):
        raise ModelError(f"{folder.name}/config.json lacks text_config or vision_config; download the checkpoint again")
    if "model_file" in config:
        raise ModelError(f"{folder.name} comes with Python code of its own, which is not run; use a checkpoint without it")
    if isinstance(quantised, dict) and "quant_method" in quantised:
        raise ModelError(f"{folder.name} is quantised by {quantised['quant_method']!r}; use the original weights, or an MLX conversion")
    for name in _COUNTS:
        value = config["text_config"].get(name, 1)
        if type(value) is not int or value < 1:
            raise ModelError(f"{folder.name}/config.json: {name} must be a whole number above 0; download the checkpoint again")
    return config


def _missing(folder: Path) -> list[str]:
    """The names of required files that are missing."""
    wanted = ["config.json", *_shards(folder)]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        missing.append("tokenizer.json")
    return missing


def _shards(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return sorted({str(name) for name in weight_map.values()})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{folder.name}/{index.name} is damaged; download the checkpoint again") from error
    return sorted(path.name for path in folder.glob("*.safetensors")) or ["model.safetensors"]


def _tensors(path: Path) -> set[str]:
    """The names of the weights in a file. Raises ModelError if it is not as long as its header says, as after an interrupted copy."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path.parent.name}/{path.name} is damaged or cut short; download the checkpoint again") from error
