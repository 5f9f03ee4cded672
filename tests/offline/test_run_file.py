"""Run files: options in YAML, which the command line overrides and whose mistakes are named."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from models.files import sha256
from offline.run_file import read_run, write_run
from offline.training.config import DataSettings, TrainChoices


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command does."""

    data: DataSettings
    training: TrainChoices = field(default_factory=TrainChoices)
    report: str | None = None  # what to write
    config: str | None = None  # YAML file of options


def read(*argv: str) -> Options:
    return read_run(Options, argv, prog="python -m test", description=None)


def test_the_file_gives_what_the_command_line_does_not(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "index: a.csv\nopen_set: true\nlr: [1e-4, 3.0e-4]\nepochs: 3\nreport: null\n"
        "min-clips: 4\nhop-s: 0.2\n"
    )
    found = read("--config", str(file), "--epochs", "5", "--min_clips=7")
    assert found.data == DataSettings(index="a.csv", open_set=True, min_clips=7, hop_s=0.2)
    assert found.training == TrainChoices(lr=(1e-4, 3e-4), epochs=5)
    assert (found.report, found.config) == (None, str(file))


def test_what_was_written_is_read_as_the_same(tmp_path: Path) -> None:
    index, file = tmp_path / "index.csv", tmp_path / "a_run.yaml"
    index.write_text("x")
    want = Options(
        data=DataSettings(index=str(index), open_set=True),
        training=TrainChoices(lr=(1e-5, 0.1), head="gloss", batch=3, precision="bfloat16"),
        report="Ünïcode: #1",
    )
    write_run(file, want, {"index": str(index), "glosses": None})
    found = read(f"--config={file}")
    assert (found.data, found.training, found.report) == (want.data, want.training, want.report)
    made = yaml.safe_load(file.read_text(encoding="utf-8"))["made"]
    assert made["sha256"] == {"index": sha256(index)}
    assert {"python", "torch", "numpy"} <= made["versions"].keys()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("index: a\nreport: no\n", "YAML reads the value of 'report' as False"),
        ("index: a\nepoch: 3\n", "no option is called 'epoch'"),
        ("index: a\nconfig: b.yaml\n", "no option is called 'config'"),
        ("index: a\nshares: [1, 2, 3, 4]\n", "no option is called 'shares'"),
        ("- index\n", "not options and values"),
        ("index: {a: 1}\n", "'index' is not a value"),
        ("index: [a\n", "no YAML to read"),
        ("\x00", "no YAML to read"),
        ("!!python/object/apply:os.system ['true']\n", "no YAML to read"),
        ("index: a\nepochs: many\n", "--epochs"),
        ("index: a\nepochs: -1\n", "--epochs must be above 0"),
        (None, "no YAML to read"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, says: str
) -> None:
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as refused:
        read("--config", str(file))
    assert refused.value.code == 2
    assert says in capsys.readouterr().err
