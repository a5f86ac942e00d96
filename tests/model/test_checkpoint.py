"""Finding, checking and loading a checkpoint: every way it can be wrong has one clear line."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
import sys

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from tiny import picture

from medgemma_app import MedGemma, ModelError, Prompt
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


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    (copy / "processor_config.json").unlink()
    with pytest.raises(ModelError, match=name.split(".")[0].replace("_", "[_ ]")):
        find_checkpoint(str(copy))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama"}, "not a Gemma 3 checkpoint"),
        ({"vision_config": None}, "vision_config"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised by 'gptq'"),
        ({"model_file": "evil.py"}, "Python code of its own"),
    ],
)
def test_a_checkpoint_that_is_something_else_is_refused(copy, config, message):
    edit(copy, "config.json", **config)
    with pytest.raises(ModelError, match=message):
        find_checkpoint(str(copy))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_position_embeddings", None),
        ("max_position_embeddings", [8192]),
        ("max_position_embeddings", -35),
        ("sliding_window", 0),
        ("sliding_window_pattern", 1.5),
        ("sliding_window_pattern", True),
    ],
)
def test_a_config_value_of_the_wrong_kind_is_named(copy, name, value):
    config = json.loads((copy / "config.json").read_text())
    edit(copy, "config.json", text_config=config["text_config"] | {name: value})
    with pytest.raises(ModelError, match=f"{name} must be a whole number above 0"):
        find_checkpoint(str(copy))


@pytest.mark.parametrize(
    "entries",
    [
        {"head_dim": "16"},
        {"num_hidden_layers": True},
        {"vocab_size": -3},
        {"num_attention_heads": 0},
        {"rope_scaling": 3},
        {"rope_scaling": {"factor": "x", "rope_type": "linear"}},
        {"rope_parameters": {"full_attention": 3}},
        {"rms_norm_eps": {}},
    ],
    ids=str,
)
def test_whatever_else_a_config_holds_is_an_error_in_one_line(copy, entries):
    config = json.loads((copy / "config.json").read_text())
    edit(copy, "config.json", text_config=config["text_config"] | entries)
    with pytest.raises(ModelError, match=r"does not load as Gemma 3.*; download it again"):
        MedGemma.load(str(copy))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "has no chat template"),
        ("{{ bos_token }}{{ nothing.at.all }}", "fails"),
        ("{{ raise_exception('no') }}", "fails"),
        ("{% for", "fails"),
        ("{% for message in messages %}{{ message['content'][0]['text'] | replace('x', 'yy') }}{{ 1 / 0 }}{% endfor %}", "fails"),
    ],
)
def test_a_chat_template_that_fails_is_noticed_when_the_model_is_loaded(copy, template, message):
    (copy / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=message) as caught:
        MedGemma.load(str(copy))
    assert "\n" not in str(caught.value)


def test_a_chat_template_that_leaves_out_pictures_is_noticed(copy):
    (copy / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0]['content'][-1]['text'] }}")
    model = MedGemma.load(str(copy))
    with pytest.raises(ModelError, match="leaves out pictures"):
        model.tokenize(Prompt((picture(1), "look")))


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_config_that_is_not_a_json_object_is_refused(copy, text):
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


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", 3, ["a"]], ids=str)
def test_a_shard_that_the_index_names_must_be_there(copy, name):
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match=f"lacks {re.escape(str(name))}"):
        find_checkpoint(str(copy))


def test_weights_of_another_shape_do_not_load(copy):
    config = json.loads((copy / "config.json").read_text())
    edit(copy, "config.json", text_config=config["text_config"] | {"intermediate_size": 128})
    with pytest.raises(ModelError, match="does not load as Gemma 3"):
        MedGemma.load(str(copy))


def test_python_files_of_a_checkpoint_are_never_downloaded_or_run(copy):
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
        (lambda: LocalEntryNotFoundError("x"), "cannot download"),
        (lambda: hub_error(HfHubHTTPError, 401), "check the name, or run: hf auth login"),
        (lambda: hub_error(HfHubHTTPError, 503), "cannot download"),
        (lambda: ConnectionResetError("x"), "cannot download"),
        (lambda: http.ReadTimeout("x"), "cannot download"),
    ],
    ids=["gated", "unknown", "revision", "offline", "refused", "server", "socket", "timeout"],
)
def test_what_the_hub_answers_becomes_one_clear_line(monkeypatch, error, message):
    def download(*_, local_files_only=False, **__):
        raise LocalEntryNotFoundError("not here") if local_files_only else error()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=message) as caught:
        find_checkpoint("owner/name", revision="main2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("1.5-4B", "did you mean 1.5-4b?"),
        ("dmeo", "did you mean demo?"),
        ("medgemma-1.5-4b-it-4bit", "did you mean mlx-community/medgemma-1.5-4b-it-4bit?"),
        ("mlx-community/medgema-27b-it-8bit", "did you mean mlx-community/medgemma-27b-it-8bit?"),
        ("llama", "give a folder, a hub id"),
    ],
)
def test_a_typo_gets_a_suggestion(monkeypatch, model, advice):
    def download(*_, local_files_only=False, **__):
        raise LocalEntryNotFoundError("not here") if local_files_only else hub_error(RepositoryNotFoundError, 401)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=re.escape(advice)):
        find_checkpoint(model)


def test_a_short_name_stands_for_a_hub_id(monkeypatch, tiny_folder):
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(tiny_folder))
    assert MedGemma.load("4b").id == "mlx-community/medgemma-4b-it-4bit" == asked[0]


def test_an_adapter_in_the_place_of_a_checkpoint_is_recognised(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="it is an adapter"):
        find_checkpoint(str(tmp_path))


def test_a_hub_id_without_network_says_so(monkeypatch, tmp_path):
    """The real hub client, kept offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="cannot download owner/name"):
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
    assert 5 in MedGemma.load(str(copy)).processor.tokenizer.stopping_criteria.eos_token_ids
