"""The package as a whole: its public names, who imports what, and what the command line does not load."""

from __future__ import annotations

import ast
import functools
import importlib
import pickle
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import medgemma_app

PACKAGE = Path(medgemma_app.__file__).parent
HEAVY = {"mlx", "mlx_vlm", "transformers"}
MLX_PARTS = {"serve/engine.py"}
# What the design promises; more may be added.
PROMISED = {
    "MedGemma", "Options", "Prompt", "Token", "Generation", "findings", "soap", "load_image", "load_notes", "validate_findings",
    "validate_soap", "Issue", "Validation", "FindingsReport", "SoapReport", "MedGemmaError",
}  # fmt: skip


def test_public_names_are_sorted_complete_and_there():
    assert medgemma_app.__all__ == sorted(medgemma_app.__all__)
    assert set(medgemma_app.__all__) >= PROMISED
    assert set(medgemma_app.__all__) == set(medgemma_app._HOME)
    assert all(getattr(medgemma_app, name) is not None for name in medgemma_app.__all__)


def test_a_name_that_is_not_public_fails():
    with pytest.raises(AttributeError, match="Medgemma"):
        medgemma_app.Medgemma  # noqa: B018


@functools.cache
def nodes(path):
    """The import statements of a file, also those inside functions."""
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(path):
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield node.module or ""


def rooms():
    """Every file of the package that may not import the model's libraries."""
    parts = {path: path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    return [path for path, part in parts.items() if part.parts[0] not in {"model", "demo"} and part.as_posix() not in MLX_PARTS]


def test_only_the_model_folder_imports_mlx_and_transformers():
    assert len(rooms()) > 10
    assert [(path.name, name) for path in rooms() for name in imports(path) if name.split(".")[0] in HEAVY] == []


def test_nothing_imports_the_command_line():
    others = [path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py" and path.parent.name != "cli"]
    assert [path.name for path in others if "medgemma_app.cli" in imports(path)] == []


def test_validators_import_little_of_ours_but_themselves():
    """Errors, prompts, the header of a picture, word lists and marks of lines, why an answer ended, and singular and plural."""
    names = {name for path in (PACKAGE / "validate").glob("*.py") for name in imports(path) if name.startswith("medgemma_app")}
    others = {name for name in names if name.split(".")[1] not in {"validate", "errors", "notices"}}
    assert others <= {"medgemma_app.inputs.header", "medgemma_app.inputs.lines", "medgemma_app.model.generation", "medgemma_app.prompts"}


def loaded_by(*arguments):
    """The modules a command has loaded when it ends, and its exit code."""
    code = (
        "import sys, medgemma_app.cli\n"
        "try: medgemma_app.cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "print('\\n@', code, *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    status, *modules = ran.stdout.rsplit("@", 1)[1].split()
    return int(status), set(modules), ran.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["findings", "--help"], 0),
        (["serve", "--host", "0.0.0.0"], 2),
        (["findings", "no-such-file.png"], 2),
        (["findings", __file__], 2),
        (["soap", __file__, "--endpoint", "https://example.org/v1"], 2),
        (["soap", "-"], 2),
        pytest.param(["--version"], 0, marks=pytest.mark.slow),
        pytest.param(["serve", "--help"], 0, marks=pytest.mark.slow),
        pytest.param(["doctor", "--help"], 0, marks=pytest.mark.slow),
        pytest.param(["findngs"], 2, marks=pytest.mark.slow),
        pytest.param(["findings", "https://example.org/scan.png"], 2, marks=pytest.mark.slow),
        pytest.param(["findings", PACKAGE / "remote"], 2, marks=pytest.mark.slow),
        pytest.param(["findings", __file__, "--top-p", "7"], 2, marks=pytest.mark.slow),
        pytest.param(["findings", __file__, "--output", "/no/such/folder/report.txt"], 2, marks=pytest.mark.slow),
        pytest.param(["soap", "no-such-file.json"], 2, marks=pytest.mark.slow),
        pytest.param(["soap", PACKAGE / "demo" / "checkpoint" / "model.safetensors"], 2, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_help_and_input_errors_answer_without_loading_the_model_library(arguments, status):
    code, modules, stderr = loaded_by(*arguments)
    assert code == status
    assert not modules & {"mlx", "mlx_vlm", "transformers", "torch", "openai", "httpx2"}
    assert "Traceback" not in stderr


def test_help_loads_neither_pictures_nor_numbers():
    code, modules, _ = loaded_by("--help")
    assert code == 0
    assert not modules & {"mlx", "mlx_vlm", "transformers", "PIL", "numpy", "json5", "pydicom"}


def test_everything_imported_is_declared():
    """In pyproject.toml, as a dependency or an extra; pip alone must be able to make every import work."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    declared = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in wanted}
    files = [path for path in PACKAGE.rglob("*.py") if "training" not in path.parts]
    imported = {name.split(".")[0] for path in files for name in imports(path)} - {"", "medgemma_app", *sys.stdlib_module_names}
    distributions = packages_distributions()
    assert {name for name in imported if declared.isdisjoint(found.lower().replace("_", "-") for found in distributions[name])} == set()


def test_the_version_is_the_one_of_the_package():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert medgemma_app.__version__ == project["version"]


def subclasses(kind):
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_every_error_crosses_processes_with_its_message_and_its_values():
    """Whatever its constructor takes. Otherwise the server fails while it receives the error of a process that reads inputs."""
    for path in PACKAGE.rglob("*.py"):
        if re.search(r"^class \w+\(\w+Error\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    kinds = {kind for kind in subclasses(medgemma_app.MedGemmaError) if kind.__module__.startswith("medgemma_app")}
    assert len(kinds) > 15
    for kind in kinds:
        error = kind.__new__(kind, "what to do")
        error.partial = 7
        received = pickle.loads(pickle.dumps(error))
        assert (type(received), str(received), vars(received)) == (kind, "what to do", {"partial": 7})


def used_modules(path, modules):
    """The modules of the package that a file imports; ``from medgemma_app.export import pdf`` is medgemma_app.export.pdf."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner & modules or {node.module} & modules


def test_no_import_goes_in_a_circle():
    """Not even between types: what is imported for annotations, or inside a function, counts too."""
    names = {
        path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in PACKAGE.rglob("*.py")
    }
    used = {name: set(used_modules(path, set(names.values()))) - {name} for path, name in names.items()}
    while free := {name for name in used if not used[name] or not any(name in others for others in used.values())}:
        used = {name: others - free for name, others in used.items() if name not in free}
    assert used == {}
