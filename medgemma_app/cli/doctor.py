"""``medgemma doctor``: a row for each check, with advice where it is not ok, and a line that can be pasted into an issue."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_app.errors import MedGemmaError, ModelError
from medgemma_app.model import selftest
from medgemma_app.model.selftest import GB, CheckResult, memory_bytes
from medgemma_app.notices import printable
from medgemma_app.tasks import package_version

if TYPE_CHECKING:
    from medgemma_app.model.local import MedGemma
    from medgemma_app.remote.endpoint import Endpoint

PACKAGES = ("medgemma-app", "mlx", "mlx-vlm", "transformers", "huggingface-hub", "pillow", "numpy")
PUBLISHERS = ("mlx-community", "google", "unsloth", "lmstudio-community")  # any other owner's name may be the user's
ENOUGH_MEMORY, ENOUGH_DISK = 8 * GB, 6 * GB
WIDTH, NAME = 80, 13


class Doctor:
    """Runs the checks one by one and prints each result at once, or all of them as one JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self.checks, self.about = as_json, list[CheckResult](), list[str]()

    def run(self, rows: Iterator[CheckResult]) -> None:
        for check in rows:
            self.checks.append(check)
            if not self._as_json:
                print(row(check), flush=True)

    def end(self) -> int:
        """Prints the summary line, and returns the exit code: 1 if a check failed."""
        failed = any(check.verdict == "failed" for check in self.checks)
        if self._as_json:
            record = {"ok": not failed, "checks": [asdict(check) for check in self.checks], "line": self.line()}
            print(printable(json.dumps(record)))
        else:
            print("\nTo report a problem, paste this line (it names no user, path or patient):\n" + printable(self.line()))
        return int(failed)

    def line(self) -> str:
        """All figures, without anything about the user. Messages are left out, since they may name folders."""
        counts = [f"{sum(check.verdict == verdict for check in self.checks)} {verdict}" for verdict in ("ok", "look", "failed")]
        bad = [f"{check.name} {check.verdict}" for check in self.checks if check.verdict != "ok"]
        figures = [f"{check.name} {name}={value:.3g}" for check in self.checks for name, value in check.figures.items()]
        return "; ".join(["medgemma doctor", *self.about, ", ".join(counts), *bad, *figures])


def doctor(model: str, *, revision: str | None, endpoint: Endpoint | None, server_model: str | None, full: bool, as_json: bool) -> int:
    """Checks this machine and ``model``, or the server at ``endpoint``; returns the exit code."""
    run = Doctor(as_json=as_json)
    packages = [f"{name} {package_version(name)}" for name in PACKAGES[:4]]
    run.about += [platform.platform(terse=True), _chip(), f"Python {platform.python_version()}", *packages]
    run.run(machine_checks())
    if endpoint is not None:
        run.run(_server(endpoint, server_model))
    else:
        run.run(_model(run, model, revision, full))
    return run.end()


def row(check: CheckResult) -> str:
    """A check in at most 80 columns, with the advice below. URLs are never broken, so that they can be copied."""
    width, indent = WIDTH - NAME - 8, " " * (NAME + 8)
    found, advice = (
        textwrap.wrap(printable(text).replace("\n", " "), room, break_on_hyphens=False, break_long_words=False)
        for text, room in ((check.found, width), (check.advice, width - 3))
    )
    below = [*found[1:], *((" " * 3 if at else "-> ") + line for at, line in enumerate(advice))]
    head = f"{check.name:{NAME}} {check.verdict:6} {found[0] if found else ''}"
    return "\n".join([head, *(line if len(line) > width else indent + line for line in below)])


def machine_checks() -> Iterator[CheckResult]:
    """The checks that do not load anything."""
    yield CheckResult(
        "machine", "ok", f"{_chip()}, {os.cpu_count()} cores, {platform.platform(terse=True)}, Python {platform.python_version()}"
    )
    memory = memory_bytes()
    small = "a 4-bit 4B model alone needs about 3.4 GB; close other programs" if memory < ENOUGH_MEMORY else ""
    yield CheckResult("memory", "look" if small else "ok", f"{memory / GB:.1f} GB", small, {"bytes": memory})
    versions = {name: package_version(name) for name in PACKAGES}
    missing = [name for name, found in versions.items() if found is None]
    advice = f"pip install {' '.join(missing)}" if missing else ""
    yield CheckResult(
        "packages", "failed" if missing else "ok", ", ".join(f"{name} {found or 'missing'}" for name, found in versions.items()), advice
    )


def _chip() -> str:
    if platform.system() == "Darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        if asked.stdout.strip():
            return asked.stdout.strip()
    return platform.machine()


def _server(endpoint: Endpoint, name: str | None) -> Iterator[CheckResult]:
    from medgemma_app.remote import connect_to

    try:
        model = connect_to(endpoint, name)
        yield CheckResult("server", "ok", f"{endpoint.host} answers; its model is {model.id}")
        from medgemma_app.remote.selftest import endpoint_checks

        yield from endpoint_checks(model)
    except MedGemmaError as error:
        yield CheckResult("server", "failed", str(error), "check that the server is running, has the model loaded, and accepts the key")


def _model(run: Doctor, name: str, revision: str | None, full: bool) -> Iterator[CheckResult]:
    from medgemma_app.model.checkpoint import ALIASES
    from medgemma_app.model.local import MedGemma

    name = name if Path(name).is_dir() else ALIASES.get(name, name)
    run.about.append(f"{selftest.backend()}, {memory_bytes() / GB:.0f} GB")
    if selftest.backend() == "cpu":
        yield CheckResult("backend", "look", "mlx computes on the CPU", "fine for the demo; a 4B model needs Apple silicon or CUDA")
    else:
        yield CheckResult("backend", "ok", selftest.backend())
    here = yield from _files(name, revision)
    yield from _hub(name, full)
    loaded = (yield from _load(run, name, revision)) if here else None
    if loaded is None:
        run.about.append("model not loaded, demo checked")
    demo = loaded if loaded is not None and name == "demo" else MedGemma.load("demo")
    yield from _checked("reference", lambda: [selftest.reference_check(demo)])
    if full:
        yield from _checked("transformers", lambda: [selftest.transformers_check(demo)])
    subject = loaded or demo
    if subject is not demo and not full and selftest.takes_hours():
        found = "a model of this size takes hours on the CPU, so the demo is checked instead"
        yield CheckResult("left out", "look", found, "give --full to check it anyway")
        subject = demo
    for title, checks in (
        ("picture", lambda: [selftest.picture_check(subject)]),
        ("repeatable", lambda: [selftest.repeat_check(subject)]),
        ("batch", lambda: [selftest.batch_check(subject)]),
        ("speed", lambda: selftest.speed_checks(subject)),
    ):
        made = _checked(title, checks)
        yield from made if name == "demo" or subject is not demo else map(_of_the_demo, made)


def _load(run: Doctor, name: str, revision: str | None) -> Generator[CheckResult, None, MedGemma | None]:
    """Loads the model; returns None where that fails."""
    from medgemma_app.model.local import MedGemma

    start = time.perf_counter()
    try:
        loaded = MedGemma.load(name, revision=revision)
    except ModelError as error:
        yield CheckResult("load", "failed", str(error), "the other checks use the demo model")
        return None
    seconds, description = time.perf_counter() - start, selftest.describe_weights(loaded)
    run.about.append(f"model {_public(name)}: {description}")
    yield CheckResult("load", "ok", f"{seconds:.1f} s, {description}", figures={"seconds": seconds})
    return loaded


def _of_the_demo(check: CheckResult) -> CheckResult:
    """Marks a check of the demo, so that its figures are not taken for those of the requested model."""
    return replace(check, found=f"demo: {check.found}", figures={f"demo_{name}": value for name, value in check.figures.items()})


def _checked(name: str, checks: Callable[[], list[CheckResult]]) -> Iterator[CheckResult]:
    """Runs a check; an error that it raises becomes a failed check."""
    try:
        yield from checks()
    except (MedGemmaError, RuntimeError, ValueError) as error:  # mlx reports everything as RuntimeError or ValueError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        yield CheckResult(name, "failed", reason[:200], "report the line below as an issue")


def _files(name: str, revision: str | None) -> Generator[CheckResult, None, bool]:
    """Checks for the model's files and for free disk space, without the network; returns whether the files are there."""
    from huggingface_hub import constants, try_to_load_from_cache

    from medgemma_app.model.checkpoint import local_folder

    try:
        local = local_folder(name) is not None
    except ModelError as error:
        found, _, advice = str(error).partition("; ")
        yield CheckResult("model files", "failed", found, advice)
        return False
    cache = Path(constants.HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    here = local or isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
    shown = str(cache).replace(str(Path.home()), "~")
    advice = "" if here else f"download it with: hf download {name} (or run findings once); the demo is checked instead"
    place = "" if local else f" (cache: {shown})"
    yield CheckResult("model files", "ok" if here else "look", f"{name} is {'' if here else 'not '}on this machine{place}", advice)
    scarce = "delete models that you no longer use: hf cache prune" if free < ENOUGH_DISK and not here else ""
    yield CheckResult("disk", "look" if scarce else "ok", f"{free / GB:.0f} GB free", scarce, {"free_bytes": free})
    return here


def _hub(name: str, full: bool) -> Iterator[CheckResult]:
    """The licence, and whether a login is stored; only with ``full`` the hub is asked whether it accepts that login."""
    from huggingface_hub import auth_check, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from medgemma_app.model.checkpoint import LICENCE

    login = "a login token is stored" if get_token() else "no login token is stored (only google/* needs one: hf auth login)"
    yield CheckResult("licence", "ok", f"terms of use: {LICENCE}; {login}")
    if full and name.count("/") == 1 and not Path(name).expanduser().is_dir():
        try:
            auth_check(name)
            yield CheckResult("hub", "ok", f"{name} may be downloaded")
        except (HFValidationError, HfHubHTTPError, *HfHubHTTPError.__bases__) as error:
            advice = f"accept the licence at https://huggingface.co/{name}, then: hf auth login; or check the network"
            yield CheckResult("hub", "look", f"{name} cannot be downloaded: {type(error).__name__}", advice)


def _public(name: str) -> str:
    """The model's name if it may be shown to others."""
    return name if name == "demo" or name.split("/")[0] in PUBLISHERS else "(name left out)"
