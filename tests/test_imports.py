"""The house plan: who may import whom, and that the folders are ours."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("streaming", "models", "offline", "web")


def imported(package: str) -> Iterator[tuple[Path, str]]:
    """Each file of a package with each module that it names in an import."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: a relative import"
                yield file, node.module or ""


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("streaming", {"offline", "tests", "torch", "transformers", "streamlit", "benchmarks"}),
        ("offline", {"streaming", "tests", "web", "benchmarks"}),
        ("models", {"streaming", "offline", "tests", "web", "benchmarks"}),
        ("web", {"tests", "torch", "transformers", "benchmarks"}),
        ("benchmarks", {"offline", "tests", "web", "torch", "transformers"}),
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
def test_no_foreign_package_has_our_name(package: str) -> None:
    owners = importlib.metadata.packages_distributions()
    assert set(owners[package]) == {"livegloss"}
