"""A hub id, a folder or "demo" -> the files of a Gemma 3 checkpoint, looked through before mlx-vlm loads them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgemma_app.errors import ModelError

# Weights and words, never the checkpoint's own Python files.
FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
LICENCE = "https://developers.google.com/health-ai-developer-foundations/terms"
# What Gemma 3's configuration in transformers stands for when the file does not say; mlx-vlm would take 4096.
DEFAULT_CONTEXT = 131_072


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds everything a Gemma 3 checkpoint needs. ``revision`` is the commit it was fetched at."""

    folder: Path
    revision: str | None
    config: Mapping[str, Any]

    @property
    def context(self) -> int:
        """Tokens the model can see, prompt and answer together."""
        return int(self.config["text_config"].get("max_position_embeddings", DEFAULT_CONTEXT))


def find_checkpoint(model: str, *, revision: str | None = None, progress: bool = False) -> Checkpoint:
    """Finds, fetches where it must, and checks. Raises ModelError with what is missing and what to do."""
    folder = _folder(model)
    commit = None
    if folder is None:
        folder = _fetch(model, revision, progress)
        commit = folder.name
    config = _config(folder)
    _check_files(folder)
    return Checkpoint(folder, commit, config)


def _folder(model: str) -> Path | None:
    """The local folder that ``model`` names, or None for a hub id."""
    if model == "demo":
        from medgemma_app.demo import CHECKPOINT

        return CHECKPOINT
    path = Path(model).expanduser()
    if model and path.is_dir():
        return path.resolve()
    looks_local = path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1 or path.exists()
    if looks_local:
        raise ModelError(f"no checkpoint folder {model!r}; give a folder, a hub id such as mlx-community/medgemma-1.5-4b-it-4bit, or demo")
    return None


def _fetch(model: str, revision: str | None, progress: bool) -> Path:
    """The hub's files on this disk. A complete copy that is there already is used without asking the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=FILES, local_files_only=True))
        if not _missing(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise ModelError(f"{model!r} is neither a folder nor a hub id; a hub id looks like owner/name") from error
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
    except RepositoryNotFoundError as error:
        message = f"the hub has no {model}, or it is gated and you are not logged in; check the name, or run: hf auth login"
        raise ModelError(message) from error
    except (LocalEntryNotFoundError, *HfHubHTTPError.__bases__) as error:  # the bases are what the hub's HTTP client raises, and OSError
        message = f"cannot fetch {model}, which is not complete on this machine; check the network and the disk, or use --model demo"
        raise ModelError(message) from error
    finally:
        if silenced:
            enable_progress_bars()


def _config(folder: Path) -> dict[str, Any]:
    """config.json, if it is that of a Gemma 3 with a vision tower."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{folder.name} has no readable config.json; it is not a checkpoint folder") from error
    except ValueError as error:
        raise ModelError(f"{folder.name}/config.json is not JSON; fetch the checkpoint again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder.name}/config.json is no JSON object; fetch the checkpoint again")
    if (kind := config.get("model_type")) != "gemma3":
        hint = "a text-only Gemma 3, which cannot see pictures" if kind == "gemma3_text" else f"of type {kind!r}"
        raise ModelError(f"{folder.name} is not a Gemma 3 checkpoint with a vision tower: it is {hint}")
    if not isinstance(config.get("text_config"), dict) or not isinstance(config.get("vision_config"), dict):
        raise ModelError(f"{folder.name}/config.json lacks text_config or vision_config; fetch the checkpoint again")
    if "model_file" in config:
        raise ModelError(f"{folder.name} wants to run Python code of its own; this program loads weights only")
    return config


def _missing(folder: Path) -> list[str]:
    """The names of files without which nothing can be loaded."""
    wanted = ["config.json", *_shards(folder)]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        missing.append("tokenizer.json")
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        missing.append("preprocessor_config.json")
    return missing


def _shards(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{folder.name}/{index.name} is damaged; fetch the checkpoint again") from error
    return sorted(path.name for path in folder.glob("*.safetensors")) or ["model.safetensors"]


def _check_files(folder: Path) -> None:
    if missing := _missing(folder):
        raise ModelError(f"{folder.name} lacks {', '.join(missing[:5])}; fetch the checkpoint again")
    if not _has_chat_template(folder):
        raise ModelError(f"{folder.name} has no chat template; use an instruction-tuned checkpoint (its name ends in -it)")
    for name in _shards(folder):
        _check_safetensors(folder / name)


def _has_chat_template(folder: Path) -> bool:
    """mlx-vlm would go on without one, with a prompt Gemma was never trained on."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    tokenizer = folder / "tokenizer_config.json"
    try:
        return bool(json.loads(tokenizer.read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _check_safetensors(path: Path) -> None:
    """The header must be JSON and the file exactly as long as it says: an interrupted copy is the usual damage."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < 100_000_000 else {}
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        whole = path.stat().st_size == 8 + size + max(ends)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise ModelError(f"{path.parent.name}/{path.name} is damaged or cut short; fetch the checkpoint again")


@contextmanager
def _hushed(name: str) -> Iterator[None]:
    """No warnings from a library about arguments that another library passes to it."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def load_checkpoint(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """mlx-vlm's model and processor, with every token that ends Gemma's turn as a stop token."""
    import mlx_vlm

    folder = checkpoint.folder
    try:
        with _hushed("transformers"):
            model, processor = mlx_vlm.load(str(folder), trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder.name} does not load as Gemma 3: {reason[:200]}") from error
    tokenizer = processor.tokenizer
    turn_end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    if isinstance(turn_end, int) and turn_end not in tokenizer.stopping_criteria.eos_token_ids:
        tokenizer.stopping_criteria.add_eos_token_ids(turn_end)
    return model, processor
