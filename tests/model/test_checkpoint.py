"""Finding, checking and loading a checkpoint: every way it can be wrong has one clear line."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import sys

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from medgemma_app import MedGemma, ModelError
from medgemma_app.model.checkpoint import FILES, find_checkpoint


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def edit(folder, name, **entries):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "~/nowhere", "nowhere", "a/b/c", ""])
def test_a_folder_that_is_not_there_is_no_hub_lookup(model):
    with pytest.raises(ModelError, match="no checkpoint folder"):
        find_checkpoint(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "chat_template.jinja", "model.safetensors"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    (copy / "processor_config.json").unlink()
    with pytest.raises(ModelError, match=name.split(".")[0].replace("_", "[_ ]")):
        find_checkpoint(str(copy))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama"}, "not a Gemma 3 checkpoint"),
        ({"model_type": "gemma3_text"}, "cannot see pictures"),
        ({"vision_config": None}, "vision_config"),
        ({"model_file": "evil.py"}, "Python code of its own"),
    ],
)
def test_a_checkpoint_that_is_something_else_is_refused(copy, config, message):
    edit(copy, "config.json", **config)
    with pytest.raises(ModelError, match=message):
        find_checkpoint(str(copy))


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_config_that_is_no_json_object_is_refused(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        find_checkpoint(str(copy))


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-7], lambda raw: raw[:4], lambda raw: b"", lambda raw: b"\xff" * len(raw), lambda raw: raw + b"x"],
    ids=["cut", "short", "empty", "noise", "longer"],
)
def test_damaged_weights_are_noticed_before_they_are_loaded(copy, damage):
    weights = copy / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(ModelError, match="damaged or cut short"):
        find_checkpoint(str(copy))


def test_a_shard_that_the_index_names_must_be_there(copy):
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(ModelError, match="model-00001-of-00002"):
        find_checkpoint(str(copy))


def test_weights_of_another_shape_do_not_load(copy):
    config = json.loads((copy / "config.json").read_text())
    edit(copy, "config.json", text_config=config["text_config"] | {"intermediate_size": 128})
    with pytest.raises(ModelError, match="does not load as Gemma 3"):
        MedGemma.load(str(copy))


def test_python_files_of_a_checkpoint_are_never_fetched_or_run(copy):
    assert not any(pattern.endswith(".py") for pattern in FILES)
    edit(copy, "processor_config.json", auto_map={"AutoProcessor": "evil.Processor"})
    edit(copy, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    (copy / "evil.py").write_text("import sys\nsys.evil_was_here = True\n")
    with contextlib.suppress(ModelError):
        MedGemma.load(str(copy))
    assert not hasattr(sys, "evil_was_here")


# The client the hub library speaks HTTP with: its name has changed from one version to the next.
http = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.split(".")[0])


def hub_error(kind, status):
    return kind("x", response=http.Response(status, request=http.Request("GET", "https://hub.example/a/b")))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (lambda: hub_error(GatedRepoError, 403), "accept its licence at .*hf auth login"),
        (lambda: hub_error(RepositoryNotFoundError, 401), "hf auth login"),
        (lambda: hub_error(RevisionNotFoundError, 404), "no revision 'main2'"),
        (lambda: LocalEntryNotFoundError("x"), "cannot fetch"),
        (lambda: hub_error(HfHubHTTPError, 503), "cannot fetch"),
        (lambda: ConnectionResetError("x"), "cannot fetch"),
        (lambda: http.ReadTimeout("x"), "cannot fetch"),
    ],
    ids=["gated", "unknown", "revision", "offline", "server", "socket", "timeout"],
)
def test_what_the_hub_answers_becomes_one_clear_line(monkeypatch, error, message):
    def download(*_, local_files_only=False, **__):
        raise LocalEntryNotFoundError("not here") if local_files_only else error()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=message) as caught:
        find_checkpoint("owner/name", revision="main2")
    assert "\n" not in str(caught.value)


def test_a_hub_id_without_network_says_so(monkeypatch, tmp_path):
    """The real hub client, kept offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="cannot fetch owner/name"):
        find_checkpoint("owner/name")


@pytest.mark.parametrize("name", ["owner/na me", "owner/..", "-x/--"])
def test_a_name_no_hub_id_can_have_is_refused(name):
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        find_checkpoint(name)


def test_a_complete_copy_is_used_without_asking_the_network(monkeypatch, tiny_folder):
    asked = []

    def download(name, *, local_files_only=False, **_):
        asked.append(local_files_only)
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_checkpoint("owner/name").revision == tiny_folder.name
    assert asked == [True]


def test_an_incomplete_copy_is_completed(monkeypatch, tiny_folder, copy):
    (copy / "model.safetensors").unlink()

    def download(name, *, local_files_only=False, **_):
        return str(copy if local_files_only else tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_checkpoint("owner/name").folder == tiny_folder


def test_the_context_is_that_of_the_config_and_gemmas_own_where_it_says_nothing(copy):
    config = json.loads((copy / "config.json").read_text())
    assert find_checkpoint(str(copy)).context == 8192
    del config["text_config"]["max_position_embeddings"]
    (copy / "config.json").write_text(json.dumps(config))
    assert find_checkpoint(str(copy)).context == 131_072


def test_end_of_turn_stops_even_where_the_config_forgets_it(copy):
    for name in ("config.json", "generation_config.json"):
        edit(copy, name, eos_token_id=1)
    assert 5 in MedGemma.load(str(copy))._loaded.processor.tokenizer.stopping_criteria.eos_token_ids
