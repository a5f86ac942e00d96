"""Checks of a loaded model that users can run on their own machine: pictures, exactness, speed and memory.

Each check takes a model and returns a ``CheckResult``. The checks use drawings and invented notes only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medgemma_app.model.generation import Generation, Options, Token
from medgemma_app.prompts import Prompt, findings_prompt, soap_prompt

if TYPE_CHECKING:
    import numpy as np

    from medgemma_app.model.local import MedGemma
    from medgemma_app.tasks import Report

Verdict = Literal["ok", "look", "failed"]
REFERENCE_FILE = Path(__file__).parent.parent / "demo" / "reference.json"
SAMPLED = 97  # the reference holds every 97th number of an embedding
EXACT = 2e-4  # tolerance for log-probabilities, and for embeddings relative to their largest number, between float32 backends
COARSE = 2e-2  # the tolerance with TF32 and other reduced precision
SEEN = 1e-2  # the least difference that another picture must make to the embeddings (relative) and to the log-probabilities
STEPS, REPORT_TOKENS = 24, 1024
SLOW_TOKENS, SLOW_PICTURE = 5.0, 10.0  # tokens a second; seconds to the first token
GB = 1e9


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: what was found and, unless the verdict is "ok", what to do. ``figures`` are for programs."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


def reference_prompts() -> dict[str, Prompt]:
    """The prompts for which reference.json holds the figures of transformers."""
    from medgemma_app.demo import draw_phantom, write_notes
    from medgemma_app.inputs.notes import load_notes

    pictures = [draw_phantom(seed)[0] for seed in range(2)]
    prompts = {f"findings-{seed}": findings_prompt(picture)[0] for seed, picture in enumerate(pictures)}
    prompts["findings-prior"] = findings_prompt(pictures[0], prior=pictures[1])[0]
    # The demo is almost certain of its answers to its own prompts. It is not for this one, so small differences show.
    words = "Mrs. Brown came on Tuesday, quite upset: her knee gave way twice, she says, and nobody had told her why."
    prompts["unsure"] = Prompt((words, pictures[0]))
    return prompts | {"soap-0": soap_prompt(load_notes(write_notes(0)[0]))[0]}


def sees(model: MedGemma) -> bool:
    """Whether the model has a vision tower."""
    return model.model.vision_tower is not None


def _readable(model: MedGemma) -> dict[str, Prompt]:
    """The reference prompts that the model supports: a text-only one takes no pictures."""
    return {name: prompt for name, prompt in reference_prompts().items() if sees(model) or not prompt.images}


def memory_bytes() -> int:
    """The memory of the machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def backend() -> str:
    """The device that mlx computes on: "metal", "cuda" or "cpu"."""
    import mlx.core as mx

    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def takes_hours() -> bool:
    """Whether the loaded model is so large, and the device so slow (a CPU), that the checks would take hours."""
    import mlx.core as mx

    return backend() == "cpu" and mx.get_active_memory() > GB


def describe_weights(model: MedGemma) -> str:
    """The model's size and precision, read from the weights; its name is left out, since users may have chosen it."""
    config, layer = model.model.config, model.model.language_model.layers[0].mlp.up_proj
    bits = getattr(layer, "bits", None)
    precision = f"{bits}-bit" if bits else str(layer.weight.dtype).removeprefix("mlx.core.")
    return f"{config.text_config.num_hidden_layers} layers of width {config.text_config.hidden_size}, {precision}"


def picture_check(model: MedGemma) -> CheckResult:
    """Checks that two drawings and a black picture differ in their embeddings and in the log-probabilities of the first token."""
    import numpy as np
    from PIL import Image

    from medgemma_app.demo import draw_phantom

    if not sees(model):
        found = "a text-only model: soap works, findings does not"
        return CheckResult("picture", "look", found, "for pictures, use a 4B or a multimodal 27B model")
    drawn = [draw_phantom(seed)[0] for seed in range(2)]
    pictures = [*drawn, Image.new("RGB", drawn[0].size)]
    embedded = [_in_numpy(model.encode_image(picture)) for picture in pictures]
    logprobs = [_first_logprobs(model, findings_prompt(picture)[0]) for picture in pictures]
    if not all(np.isfinite(array).all() for array in (*embedded, *logprobs)):
        advice = "use a bfloat16, float32, 8-bit or 4-bit checkpoint"
        return CheckResult("picture", "failed", "NaN or infinity in the answer to a picture", advice)
    largest = max(float(np.abs(array).max()) for array in embedded)
    figures = {"embeddings": _least_difference(embedded) / (largest or 1.0), "logprobs": _least_difference(logprobs)}
    differ = f"{figures['embeddings']:.2g} (embeddings), {figures['logprobs']:.2g} (log-probabilities)"
    found = f"two drawings and a black picture differ by {differ}"
    if min(figures.values()) > SEEN:
        return CheckResult("picture", "ok", found, figures=figures)
    where = "the vision tower" if figures["embeddings"] <= SEEN else "the language model"
    advice = f"{where} ignores the picture: do not use findings; download the checkpoint again, or use another conversion"
    return CheckResult("picture", "failed", found, advice, figures)


def _first_logprobs(model: MedGemma, prompt: Prompt) -> np.ndarray:
    """The log-probabilities of all tokens at the first position of the answer."""
    with closing(model._results(prompt, model.start(model.tokenize(prompt), Options(max_tokens=1)))) as results:
        return _in_numpy(next(results).logprobs)


def _in_numpy(array: Any) -> np.ndarray:
    """An array of mlx in float32; numpy does not have bfloat16."""
    import mlx.core as mx
    import numpy as np

    return np.array(array.astype(mx.float32))


def _least_difference(arrays: Sequence[np.ndarray]) -> float:
    """The largest difference between the two arrays that are most alike."""
    return min(float(abs(one - other).max()) for one, other in combinations(arrays, 2))


def reference_check(demo: MedGemma) -> CheckResult:
    """Compares the demo with the figures of transformers: prompt ids, greedy tokens, log-probabilities, embeddings."""
    import numpy as np

    known = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))
    wrong, gap = [], 0.0
    for name, prompt in reference_prompts().items():
        wanted, tokens = known["prompts"][name], _greedy(demo, prompt)
        if demo.tokenize(prompt) != wanted["prompt"] or [token.id for token in tokens] != wanted["ids"]:
            wrong.append(name)
            continue
        gap = max(gap, *(abs((token.logprob or 0) - value) for token, value in zip(tokens, wanted["logprobs"], strict=True)))
    sample = _in_numpy(demo.encode_image(reference_prompts()["findings-0"].images[0])).reshape(-1)[::SAMPLED]
    wanted = np.array(known["embedding"])
    embedding = float(np.abs(sample - wanted).max() / np.abs(wanted).max())
    near = f"log-probabilities within {gap:.1e}, embeddings {embedding:.1e} (tolerance {EXACT:g})"
    found = f"{len(known['prompts'])} prompts: same ids and tokens as transformers, {near}"
    figures = {"logprobs": gap, "embeddings": embedding, "tolerance": EXACT}
    if not wrong and max(gap, embedding) <= EXACT:
        return CheckResult("reference", "ok", found, figures=figures)
    if not wrong and max(gap, embedding) <= COARSE:
        return CheckResult("reference", "look", found, "this backend rounds more coarsely; with CUDA, try MLX_ENABLE_TF32=0", figures)
    found = f"tokens differ from the reference for {', '.join(wrong)}" if wrong else found
    advice = "answers on this machine are not MedGemma's: report the line below as an issue"
    return CheckResult("reference", "failed", found, advice, figures)


def _greedy(model: MedGemma, prompt: Prompt) -> list[Token]:
    return [token for token in model.stream(prompt, Options(max_tokens=STEPS)) if token.id is not None]


def repeat_check(model: MedGemma) -> CheckResult:
    """Checks that greedy decoding and the encoding of a picture give the same result twice."""
    prompt = next(iter(_readable(model).values()))
    embedded = [_in_numpy(model.encode_image(image, fresh=True)) for image in prompt.images[:1] for _ in range(2)]
    ids = [[token.id for token in _greedy(model, prompt)] for _ in range(2)]
    if ids[0] != ids[1]:
        return CheckResult("repeatable", "failed", "two greedy answers to the same prompt differ", "reports cannot be repeated here")
    if embedded and _least_difference(embedded) > 0:
        found = "encoding a picture twice gives different embeddings, but the same tokens"
        return CheckResult("repeatable", "look", found, "reports may occasionally differ between runs")
    return CheckResult("repeatable", "ok", f"the same {'embeddings and ' if embedded else ''}{len(ids[0])} tokens both times")


def batch_check(model: MedGemma) -> CheckResult:
    """Checks that prompts get the same answers in a batch as alone."""
    import mlx.core as mx

    prompts = list(_readable(model).values())
    together = list(model.generate_many(prompts, Options(max_tokens=STEPS), batch_size=len(prompts)))
    pairs = [
        (one.token_ids, model.generate(prompt, Options(max_tokens=STEPS)).token_ids)
        for one, prompt in zip(together, prompts, strict=True)
        if isinstance(one, Generation)
    ]
    same = sum(one == alone for one, alone in pairs)
    found = f"{same} of {len(prompts)} prompts have the same tokens in a batch as alone"
    figures = {"same": same, "prompts": len(prompts)}
    if same == len(prompts):
        return CheckResult("batch", "ok", found, figures=figures)
    exact = model.model.language_model.model.norm.weight.dtype == mx.float32
    advice = "use --batch-size 1" + ("" if exact else ", if answers must not depend on it: this checkpoint's precision rounds differently")
    return CheckResult("batch", "failed" if exact or len(pairs) < len(prompts) else "look", found, advice, figures)


def speed_checks(model: MedGemma) -> list[CheckResult]:
    """Times a full findings report and a full SOAP note, and measures their peak memory."""
    from medgemma_app.demo import draw_phantom, write_notes
    from medgemma_app.reports import findings, soap

    tasks: dict[str, Callable[..., Report]] = {"soap": partial(soap, model, write_notes(5)[0])}
    if sees(model):
        tasks = {"findings": partial(findings, model, draw_phantom(5)[0]), **tasks}
    rows, peak = [], 0
    for name, task in tasks.items():
        times = [time.perf_counter()]
        report = task(options=Options(max_tokens=REPORT_TOKENS), on_token=lambda _, times=times: times.append(time.perf_counter()))
        rows.append(_speed(name, times, report.generation, report.validation.ok))
        peak = max(peak, report.generation.peak_memory_bytes or 0)
    return [*rows, _memory(peak)]


def _speed(name: str, times: Sequence[float], made: Generation, valid: bool) -> CheckResult:
    """``times`` are those of the start and of every token, in seconds."""
    first, last, tokens = times[1] - times[0], times[-1] - times[0], made.generated_tokens or 0
    rate = (tokens - 1) / (last - first) if last > first else 0.0
    figures = {
        "first_token_seconds": first,
        "tokens_per_second": rate,
        "tokens": tokens,
        "prompt_tokens": made.prompt_tokens or 0,
        "seconds": last,
    }
    found = f"{tokens} tokens in {last:.1f} s: first after {first:.2f} s ({made.prompt_tokens} prompt tokens), then {rate:.0f} a second"
    if made.finish_reason != "stop" or not valid:
        cause = f"ended with {made.finish_reason!r}" if made.finish_reason != "stop" else "the checks found an error in it"
        return CheckResult(name, "look", f"{found}; {cause}", "the input was a drawing or invented: try a real study too", figures)
    if rate < SLOW_TOKENS or first > SLOW_PICTURE:
        return CheckResult(name, "look", found, "slow: use a 4-bit checkpoint on Apple silicon or CUDA, and close other programs", figures)
    return CheckResult(name, "ok", found, figures=figures)


def _memory(peak: int) -> CheckResult:
    import mlx.core as mx

    allowed = int(mx.device_info().get("max_recommended_working_set_size", memory_bytes()))
    found = f"peak {peak / GB:.2f} GB of {allowed / GB:.1f} GB that mlx may use"
    figures = {"peak_bytes": peak, "allowed_bytes": allowed}
    tight = peak > 0.8 * allowed
    advice = "close other programs, or use a checkpoint with fewer bits; long series will not fit" if tight else ""
    return CheckResult("peak memory", "look" if tight else "ok", found, advice, figures)


def transformers_check(demo: MedGemma) -> CheckResult:
    """Compares the demo's greedy answers with transformers on this machine, in one forward pass each."""
    try:
        torch: Any = import_module("torch")  # not a dependency: users who want this comparison install it
    except ImportError:
        found = "not compared: torch is not installed"
        return CheckResult("transformers", "look", found, "pip install torch, then run this again with --full")
    import numpy as np
    from transformers import Gemma3ForConditionalGeneration

    from medgemma_app.demo import CHECKPOINT

    theirs = Gemma3ForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    gap = 0.0
    for prompt in reference_prompts().values():
        tokens, asked = _greedy(demo, prompt), demo.tokenize(prompt)
        ids = torch.tensor([[*asked, *(token.id or 0 for token in tokens)]])
        fed: dict[str, Any] = {"input_ids": ids, "token_type_ids": (ids == theirs.config.image_token_id).long()}
        if prompt.images:
            fed["pixel_values"] = torch.tensor(np.array(demo._pixels(list(prompt.images))))
        with torch.no_grad():
            logprobs = torch.log_softmax(theirs(**fed).logits[0, len(asked) - 1 : -1].float(), -1)
        chosen = logprobs.max(-1).values
        gap = max(gap, *(abs(float(value) - (token.logprob or 0)) for value, token in zip(chosen, tokens, strict=True)))
    verdict: Verdict = "ok" if gap <= EXACT else "look" if gap <= COARSE else "failed"
    advice = "" if verdict == "ok" else 'see the row "reference"'
    return CheckResult("transformers", verdict, f"log-probabilities within {gap:.1e} of transformers", advice, {"logprobs": gap})
