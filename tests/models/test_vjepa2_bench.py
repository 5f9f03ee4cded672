from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import bench
from models.bench import flops, main, measure
from models.bench_report import Case, table
from models.video_transformer import Shape, VideoTransformer


def test_counts_what_torch_counts() -> None:
    shape = Shape(width=48, depth=3, heads=4, hidden=100)
    counter = FlopCounterMode(display=False)  # it knows no fused attention of CPUs
    with sdpa_kernel(SDPBackend.MATH), counter, torch.inference_mode():
        VideoTransformer(shape, (2, 3, 5))(torch.zeros(1, 4, 3, 48, 80))
    assert flops(shape, (2, 3, 5)) == counter.get_total_flops()


def test_facts_known_of_published_sizes() -> None:
    # ../shared/design/facts.md: 16 frames at 256 px are 1.66 T for L.
    assert flops(Shape(width=1024, depth=24, heads=16, hidden=4096), (8, 16, 16)) == pytest.approx(
        1.66e12, rel=0.01
    )


def test_engines_that_fail_are_told_and_the_others_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(video: Tensor) -> None:
        raise torch.OutOfMemoryError("no room for it\nand a long explanation")

    def engines(*given: Any) -> dict[str, Callable[[Tensor], Any]]:
        return {**made(*given), "full": full}

    made = bench._engines
    monkeypatch.setattr(bench, "_engines", engines)
    case = Case(size="S", frames=2, batch=1, dtype="float32")
    good, bad = measure(case, ["lean", "full"], torch.device("cpu"), 1, 1e12)
    assert good.ms and good.tflops and good.error is None
    assert bad.ms is None and bad.error == "no room for it"
    text = table([good, bad])
    assert text.count("\n") == 4 and bad.error in text


def test_the_command_ends_with_one_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table.md"
    asked = ["--sizes", "S", "--frames", "2", "--batches", "1", "--dtypes", "float32"]
    engines = ["--engines", "transformers", "lean"]
    assert main([*asked, *engines, "--rounds", "1", "--device", "cpu", "--table", str(file)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["engine"] for one in report["figures"]] == ["transformers", "lean"]
    assert all(0 < one["of_matmul"] < 2 for one in report["figures"])
    assert report["skipped"] == [] and report["versions"]["torch"] == torch.__version__
    assert "| lean |" in file.read_text()
    assert main([*asked, "--minutes", "0", "--device", "cpu", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["skipped"]) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--frames", "3"], "must be even"),
        (["--batches", "0"], "at least 1"),
        (["--device", "cuda:7"], "--device cuda:7"),
        (["--device", "tpu"], "--device tpu"),
    ],
)
def test_flags_that_make_no_sense(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(flags)
    assert end.value.code == 2
    assert words in capsys.readouterr().err
