from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.bench import engines as bench_engines
from models.bench.__main__ import TimeBudget, main
from models.bench.cases import PLANS, SIZES, Case, clip_flops
from models.bench.engines import ENGINES, Call, Setup
from models.bench.measure import Figures, measure_case, table
from models.vjepa2.model import Shape, VideoTransformer

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Case:
    """A size that runs in milliseconds, in place of S."""
    monkeypatch.setitem(SIZES, "S", (48, 2, 2, 2.0, 32))
    bench_engines._weights.cache_clear()
    return Case(size="S", frames=4, batch=2, dtype="float32")


def test_counts_what_torch_counts() -> None:
    shape = Shape(width=48, depth=3, heads=4, hidden=100)
    counter = FlopCounterMode(display=False)  # it knows no fused attention of CPUs
    with sdpa_kernel(SDPBackend.MATH), counter, torch.inference_mode():
        VideoTransformer(shape, (2, 3, 5))(torch.zeros(1, 4, 3, 48, 80))
    assert clip_flops(48, 3, 100, 30) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("size", "frames", "want"),
    [("L", 16, 1.66e12), ("H", 16, 3.27e12), ("g", 16, 5.09e12), ("g", 64, 31.7e12)],
)
def test_facts_known_of_published_sizes(size: str, frames: int, want: float) -> None:
    """../shared/design/facts.md, at 256 px."""
    assert Case(size=size, frames=frames, batch=1, dtype="").flops == pytest.approx(want, rel=0.01)


def test_engines_compute_the_same_of_the_same_weights(tiny: Case) -> None:
    setup = Setup(tiny, CPU)
    with torch.inference_mode():
        want, ours = ENGINES["transformers"](setup)()[0], ENGINES["lean"](setup)()
        torch.testing.assert_close(ours, want, atol=1e-5, rtol=0)
        steps = ENGINES["torch"](setup)()
    assert ours.shape == (2, 8, 48) and steps.shape == (2, 2, 48)
    tops = ENGINES["pipeline"](setup)()
    assert [len(set(top)) for top in tops] == [5, 5]


def test_engines_that_fail_are_reported_and_the_others_measured(
    tiny: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(setup: Setup) -> Call:
        raise ModuleNotFoundError("No module named 'openvino'")

    def full(setup: Setup) -> Call:
        calls = iter(range(3))  # made and run twice, then there is no room

        def call() -> Tensor:
            if next(calls, None) is None:
                raise torch.OutOfMemoryError("no room for it\nand a long explanation")
            return torch.zeros(1)

        return call

    failing = {"missing": missing, "full": full}
    monkeypatch.setattr("models.bench.measure.ENGINES", {**ENGINES, **failing})
    good, gone, bad = measure_case(tiny, ["lean", "missing", "full"], CPU, 3, 1e12)
    assert gone.ms is None and gone.error == "No module named 'openvino'"
    assert bad.ms is None and bad.error == "no room for it"
    about = {"device": "d", "threads": 1, "versions": {}, "commit": "", "rounds": 3}
    text = table({**about, "matmul_tflops": {}}, [good, gone, bad])
    assert text.count("\n") == 7 and "| no room for it |" in text


def test_exported_graphs_compute_the_same_as_torch(tiny: Case) -> None:
    setup = Setup(tiny, CPU)
    with torch.inference_mode():
        want = ENGINES["torch"](setup)()
    for name in ("openvino-float32", "onnxruntime-float32"):
        torch.testing.assert_close(ENGINES[name](setup)(), want, atol=1e-4, rtol=0)
    for name in ("openvino-int8", "onnxruntime-int8"):
        got = ENGINES[name](setup)()
        assert not torch.equal(got, want)
        torch.testing.assert_close(got, want, atol=0.1, rtol=0)


def test_the_floor_is_the_time_of_matrix_products() -> None:
    case = Case(size="g", frames=16, batch=2, dtype="bfloat16")
    row = Figures.of(case, "torch", 0.04, 500e12)
    assert row.floor_ms == pytest.approx(2 * 5.09e12 / 500e12 * 1000, rel=0.01)
    assert row.floor_ms and row.ms and row.of_matmul == round(row.floor_ms / row.ms, 3)


def test_no_case_is_begun_that_would_not_end() -> None:
    small = Case(size="L", frames=16, batch=1, dtype="bfloat16")
    large = Case(size="g", frames=64, batch=4, dtype="bfloat16")
    budget = TimeBudget(minutes=2, rounds=10)
    rate = 100e12
    assert budget.fits(small, ["torch"], rate)
    assert budget.fits(large, ["torch"], rate)
    assert not budget.fits(large, ["torch", "transformers-compiled"], rate)
    budget.learn(small, ["torch"], rate, 4 * budget.expected_s(small, ["torch"], rate))
    assert not budget.fits(large, ["torch"], rate)  # the machine is slower than was thought


def test_the_gpu_plan_begins_with_what_is_asked_of_it() -> None:
    first = PLANS["gpu"][:6]
    asked = {(size, batch) for size in ("g", "L") for batch in (1, 8, 16)}
    assert {(case.size, case.batch) for case, _ in first} == asked
    assert all("torch" in engines and "pipeline" in engines for _, engines in first)
    assert sum("transformers-compiled" in engines for _, engines in first) == 2
    assert all(engine in ENGINES for plan in PLANS.values() for _, e in plan for engine in e)


def test_the_command_ends_with_one_json_object(
    tiny: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "report.json"
    monkeypatch.setitem(PLANS, "cpu", [(tiny, ["transformers", "lean", "pipeline"])])
    flags = ["--device", "cpu"]
    assert main([*flags, "--rounds", "1", "--report", str(file)]) == 0
    out = capsys.readouterr().out
    report = json.loads(out.splitlines()[-1])
    assert [row["engine"] for row in report["figures"]] == ["transformers", "lean", "pipeline"]
    assert all(row["ms"] > 0 and row["error"] is None for row in report["figures"])
    assert report["skipped"] == [] and report["versions"]["torch"] == torch.__version__
    assert out.count("| lean |") == 1 and json.loads(file.read_text()) == report
    assert main([*flags, "--minutes", "0", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["skipped"]) == 1


def test_the_report_is_written_before_the_next_case(
    tiny: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "report.json"

    def killed(setup: Setup) -> Call:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.bench.measure.ENGINES", {**ENGINES, "torch": killed})
    monkeypatch.setitem(PLANS, "quick", [(tiny, ["lean"]), (tiny, ["torch"])])
    with pytest.raises(KeyboardInterrupt):
        main(["--quick", "--device", "cpu", "--report", str(file)])
    assert [row["engine"] for row in json.loads(file.read_text())["figures"]] == ["lean"]


def test_it_imports_what_a_gpu_machine_has() -> None:
    missing = ("onnx", "onnxscript", "openvino", "cv2", "av", "aiohttp", "aiortc")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); import models.bench.measure"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rounds", "0"], "at least 1"),
        (["--threads", "0"], "at least 1"),
        (["--device", "cuda:7"], "--device cuda:7"),
        (["--device", "tpu"], "--device tpu"),
        (["--plan", "none"], "--plan"),
    ],
)
def test_flags_that_are_refused(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(flags))
    assert end.value.code == 2
    assert words in capsys.readouterr().err
