"""The house plan: who may import whom, one way and in no circle, and one name for one thing."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("streaming", "models", "offline", "web")


# The folders of each half, in the order in which data flows through them: each may import itself
# and what stands before it. Commands come last: those in `offline` itself, and each `__main__`.
ORDER = {
    "streaming": [
        "streaming.webrtc",
        "streaming",
        "streaming.cluster",
        "streaming.bench",
        "streaming.bench.rivals",
    ],
    "models": ["models.landmarks", "models.vjepa2", "models", "models.bench"],
    "offline": [
        "offline.data",
        "offline.encoding",
        "offline.scoring",
        "offline.training",
        "offline.evaluation",
        "offline.finetuning",
        "offline.exporting.litert",
        "offline.exporting",
        "offline.posing",
        "offline",
    ],
}
# What `models` and its encoders share lies in `models` itself: types, windows, pictures, files.
SHARED = {
    "models.schema",
    "models.window",
    "models.picture",
    "models.resize",
    "models.files",
    "models.hub",
    "models.faults",
    "models.command_line",
    "models.onnx_file",
}
DEFINED_TWICE = {
    "main": "the entry point of each command",
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_by(file: Path) -> Iterator[str]:
    """Each module that a file names in an import, those for type checking and in functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def imported(package: str) -> Iterator[tuple[Path, str]]:
    return ((file, name) for file in files(package) for name in imported_by(file))


MODULES = {module_of(file): file for package in PACKAGES for file in files(package)}


def folder_of(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_no_file_is_in_a_circle_of_imports() -> None:
    graph = {
        module: {name for name in imported_by(file) if name in MODULES} - {module}
        for module, file in MODULES.items()
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("half", ORDER)
def test_folders_import_what_stands_before_them(half: str) -> None:
    place = {folder: number for number, folder in enumerate(ORDER[half])}
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file, name in imported(half)
        if name in MODULES and name.split(".")[0] == half and name not in SHARED | {half}
        if module_of(file) != f"{half}.__main__"
        if place[folder_of(name)] > place[folder_of(module_of(file))]
    ]
    assert wrong == []


def test_a_public_name_is_defined_once() -> None:
    places: dict[str, list[str]] = {}
    for module, file in MODULES.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                places.setdefault(node.name, []).append(module)
    twice = {
        name: where
        for name, where in places.items()
        if len(where) > 1 and not name.startswith("_") and name not in DEFINED_TWICE
    }
    assert twice == {}


def test_only_webrtc_knows_aiortc() -> None:
    """But the other peers of the bench, which call the server."""
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file, name in imported("streaming")
        if name.split(".")[0] in ("aiortc", "aioice")
        if not module_of(file).startswith(("streaming.webrtc", "streaming.bench"))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("streaming", {"offline", "tests", "torch", "transformers", "streamlit"}),
        ("offline", {"streaming", "tests", "web"}),
        ("models", {"streaming", "offline", "tests", "web"}),
        ("web", {"tests", "torch", "transformers"}),
    ],
)
def test_imports_point_one_way(package: str, forbidden: set[str]) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file, name in imported(package)
        if name.split(".")[0] in forbidden
    ]
    assert wrong == []


def test_the_server_takes_files_from_web_and_no_code() -> None:
    """Only web may join both halves, and it is a guest of neither."""
    wrong = [str(file) for file, name in imported("streaming") if name.startswith("web.")]
    assert wrong == []


def test_the_live_path_on_a_cpu_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, streaming.app, models.classifier, models.recognizer; "
        "import models.landmarks.encoder, models.vjepa2.encoder; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_vjepa2_runs_on_a_cpu_without_torch(way: Path) -> None:
    """By its graph, although torch is installed and the bundle holds the weights too."""
    code = (
        "import sys\n"
        "from models.encoders import graph_variants\n"
        "from models.recognizer import Recognizer\n"
        "recognizer = Recognizer.open(sys.argv[1], 'cpu')\n"
        "recognizer.warm()\n"
        "assert recognizer.spec.kind == 'vjepa2' and graph_variants(recognizer.bundle)\n"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(way / "bundle")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_openvino_does_not_call_home() -> None:
    """It would post events to Google Analytics by a package that is installed with it."""
    code = (
        "import importlib.util, sys\n"
        "assert importlib.util.find_spec('openvino_telemetry'), 'it is not even here'\n"
        "import models.landmarks.networks\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    stub, sent = done.stdout.splitlines()
    assert stub == "openvino.tools.ovc.telemetry_stub"
    assert sent == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_keeps_libraries_from_calling_home_before_it_imports_any(package: str) -> None:
    """Also where nothing else of ours was imported before it, and for child processes."""
    code = f"import {package}, subprocess; subprocess.run(['printenv', 'ORT_DISABLE_TELEMETRY'])"
    names = set(os.environ) - {"ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={name: os.environ[name] for name in names},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_foreign_package_has_our_name(package: str) -> None:
    owners = importlib.metadata.packages_distributions()
    assert set(owners.get(package, ())) <= {"livegloss"}
