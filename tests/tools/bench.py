"""Speed and memory, side by side in one run (``make bench``): ratios with their spread, and the same as JSON.

    python tests/tools/bench.py [--json FILE] [PART ...]

Parts: startup, process, overhead, many, serve, fairness, repeated, eye, growth, steady. The two sides of a comparison take
turns, so that a busy machine slows both; what is printed is the median of the ratios of the turns, and their lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
from bench_memory import eye, growth, steady
from bench_serve import fairness, serve
from mlx_vlm import load, stream_generate

from medgemma_app import MedGemma, Options
from medgemma_app.demo import CHECKPOINT, draw_phantom, write_notes
from medgemma_app.inputs.notes import read_notes
from medgemma_app.prompts import Prompt, findings_prompt, soap_prompt

TOKENS = 30
BIN = Path(sys.executable).parent
Results = dict[str, Any]


def main() -> None:
    """Runs the parts asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    asked = parser.parse_args()
    results: Results = {"machine": machine()}
    print(results["machine"])
    for name in asked.parts or PARTS:
        print(f"\n{name}: {PARTS[name].__doc__}")
        results[name] = PARTS[name]()
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1))


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("mlx", "mlx-vlm", "transformers"))
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {mx.default_device()}, {packages}"


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, ours: Callable[[], float], theirs: Callable[[], float], turns: int) -> Results:
    """Ratio of two measurements that take turns; the first turn warms up and does not count."""
    pairs = [(ours(), theirs()) for _ in range(turns + 1)][1:]
    ratios = sorted(one / other for one, other in pairs)
    row = {"ratio": median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
    row |= {"ours": median(pair[0] for pair in pairs), "theirs": median(pair[1] for pair in pairs), "turns": turns}
    spread = f"{row['lowest']:.3f} to {row['highest']:.3f}; {row['ours']:.4f} against {row['theirs']:.4f}, {turns} turns"
    print(f"  {name}: {row['ratio']:.3f} ({spread})")
    return row


def command(*words: str, codes: tuple[int, ...] = (0,)) -> Callable[[], float]:
    """Seconds of a whole process."""

    def run() -> float:
        start = time.perf_counter()
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if done.returncode not in codes:
            raise SystemExit(f"{words} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
        return time.perf_counter() - start

    return run


def startup() -> Results:
    """Seconds until the command has answered, against `import typer`, and against a typer command that does nothing."""
    tiny = "import typer\napp = typer.Typer()\n@app.command()\ndef main(word: str): pass\napp(['word'], standalone_mode=False)"
    bare, least = command(sys.executable, "-c", "import typer"), command(sys.executable, "-c", tiny)
    medgemma = str(BIN / "medgemma")
    with tempfile.TemporaryDirectory() as folder:
        damaged, broken = Path(folder) / "scan.png", Path(folder) / "notes.json"
        damaged.write_text("no picture")
        broken.write_text("{no json")
        asked = {
            "--help": command(medgemma, "--help"),
            "--version": command(medgemma, "--version"),
            "a misspelled option": command(medgemma, "findings", "--temprature", "1", codes=(2,)),
            "a missing scan": command(medgemma, "findings", "none.png", codes=(2,)),
            "a damaged scan": command(medgemma, "findings", str(damaged), codes=(2,)),
            "broken notes": command(medgemma, "soap", str(broken), codes=(2,)),
        }
        rows = {name: compare(f"{name} / import typer", run, bare, 9) for name, run in asked.items()}
        rows |= {f"{name}, least": compare(f"{name} / a typer command", run, least, 9) for name, run in list(asked.items())[2:]}
    return rows | {"a typer command": compare("a typer command / import typer", least, bare, 9)}


def process() -> Results:
    """Seconds of the whole process, against `python -m mlx_vlm.generate`, for one picture and as many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        scan = str(Path(folder) / "scan.png")
        draw_phantom(3)[0].save(scan)
        ours = command(str(BIN / "medgemma"), "findings", scan, "--model", "demo", "--max-tokens", str(TOKENS), codes=(0, 3))
        words = ["--model", str(CHECKPOINT), "--image", scan, "--prompt", "Describe this X-ray.", "--temperature", "0"]
        theirs = command(sys.executable, "-m", "mlx_vlm.generate", *words, "--max-tokens", str(TOKENS))
        return compare("one report", ours, theirs, 7)


def timed_tokens(tokens: Iterator[Any]) -> tuple[float, float]:
    """Seconds to the first token, and for each token after it."""
    start = time.perf_counter()
    next(tokens)
    first = time.perf_counter()
    number = sum(1 for _ in islice(tokens, TOKENS - 1))
    return first - start, (time.perf_counter() - first) / number


def overhead() -> Results:
    """Seconds to the first token and per token, against a bare stream_generate loop over the same ids, picture and number of tokens."""
    ours, (raw, processor) = MedGemma.load("demo"), load(str(CHECKPOINT))
    prompt = findings_prompt(draw_phantom(3)[0])[0]
    ids, options = ours.tokenize(prompt), Options(max_tokens=TOKENS)

    def adapter() -> Iterator[Any]:
        ours._embeddings.clear()
        return ours.stream(prompt, options)

    def bare() -> Iterator[Any]:
        pixels = processor.image_processor(images=list(prompt.images), return_tensors="np")["pixel_values"]
        fed = {"input_ids": mx.array([ids]), "pixel_values": mx.array(pixels), "mask": mx.ones((1, len(ids)))}
        return stream_generate(raw, processor, "", **fed, max_tokens=TOKENS, temperature=0.0, top_p=1.0, top_k=0)

    rows = {}
    for at, name in enumerate(("first token", "each token after it")):
        rows[name] = compare(name, lambda at=at: timed_tokens(adapter())[at], lambda at=at: timed_tokens(bare())[at], 25)
    return rows


def many() -> Results:
    """Studies a minute, decoded together, against a loop over `generate`; and how many of them are the same, token for token."""
    demo, rows = MedGemma.load("demo"), {}
    kinds = {
        "findings": [findings_prompt(draw_phantom(seed)[0])[0] for seed in range(32)],
        "SOAP notes": [soap_prompt(read_notes(write_notes(seed)[0]).text)[0] for seed in range(32)],
    }
    for kind, prompts in kinds.items():
        wanted = [demo.generate(prompt).token_ids for prompt in prompts]
        for size in (4, 16):
            rows[f"{kind}, {size}"] = compare_many(f"{kind}, {size} together", demo, prompts, wanted, size)
    return rows


def compare_many(name: str, demo: MedGemma, prompts: list[Prompt], wanted: list[tuple[int, ...]], size: int) -> Results:
    got: list[Any] = []

    def together() -> float:
        demo._embeddings.clear()
        start = time.perf_counter()
        got[:] = demo.generate_many(prompts, batch_size=size)
        return len(prompts) / (time.perf_counter() - start) * 60

    def alone() -> float:
        demo._embeddings.clear()
        return len(prompts) / seconds(lambda: [demo.generate(prompt) for prompt in prompts]) * 60

    row = compare(name, together, alone, 3)
    row["same"] = sum(answer.token_ids == ids for answer, ids in zip(got, wanted, strict=True))
    print(f"    {row['same']} of {len(prompts)} the same")
    return row


def repeated() -> Results:
    """Seconds to the first token of a second question about a picture, against the first; and what prompts share at their start."""
    demo, image = MedGemma.load("demo"), draw_phantom(3)[0]
    first, second = (Prompt((image, text)) for text in ("Describe this X-ray.", "Is the heart large?"))

    def asked(*, known: bool) -> float:
        demo._embeddings.clear()
        if known:
            demo.encode_image(image)
        return timed_tokens(demo.stream(second, Options(max_tokens=2)))[0]

    row = compare("second question", lambda: asked(known=True), lambda: asked(known=False), 15)
    demo._embeddings.clear()
    cold = list(demo.stream(second))
    demo.generate(first)
    row["same"] = list(demo.stream(second)) == cold  # log-probabilities included
    print(f"    tokens and log-probabilities are the same: {row['same']}")
    picture = demo.tokenize(findings_prompt(image)[0])
    notes, others = (demo.tokenize(soap_prompt(read_notes(write_notes(seed)[0]).text)[0]) for seed in (1, 2))
    begin = {"findings": (picture.index(demo.model.config.image_token_index), len(picture)), "SOAP": (shared(notes, others), len(notes))}
    for kind, (common, whole) in begin.items():
        print(f"    {kind}: the first {common} of {whole} prompt tokens are those of every study")
    return row | begin


def shared(one: list[int], other: list[int]) -> int:
    return next(at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)


PARTS: dict[str, Callable[[], Results]] = {
    part.__name__: part for part in (startup, process, overhead, many, serve, fairness, repeated, eye, growth, steady)
}

if __name__ == "__main__":
    main()
