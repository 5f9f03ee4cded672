"""The training loop on made-up rows: what is chosen, when it ends, and what a cut changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.heads import make_head
from models.schema import EncoderSpec
from offline.data.examples import Vocabulary, read_examples
from offline.data.index import StoredRows
from offline.training.batches import TrainClips, batches_of, pad
from offline.training.config import TrainSettings
from offline.training.selection import hold_back
from offline.training.trainer import CandidateHead, FittedHead, Resume, Validation, fit
from tests.offline.indexes import GLOSSES, example, write_index

_SETTINGS = TrainSettings(
    head="attentive", batch=8, epochs=3, lr=(1e-3,), seed=5, dropout=0.1, device="cpu"
)
_MUON = replace(_SETTINGS, optimizer="muon")  # AdamW has its part in it too
_KILLED = """
import os, signal, sys
from pathlib import Path
from offline.training.trainer import Resume, fit
from tests.offline.training.test_trainer import _MUON, clips
def at(step, steps, loss, score):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
fit(clips(), _MUON, resume=Resume(Path(sys.argv[1]), every_s=0), progress=at)
"""


def clips() -> TrainClips:
    draw = np.random.default_rng(0)
    labels = [n % 2 for n in range(24)]
    return TrainClips(
        rows=[draw.normal(label, 1, (2 + n % 3, 16)).astype(np.float32)
              for n, label in enumerate(labels)],
        labels=labels,
        weights=[1.0] * 24,
        classes=2,
        idle=None,
        frames=16,
        fps=8.0,
    )  # fmt: skip


@torch.inference_mode()
def _accuracy(head: nn.Module) -> tuple[float, float]:
    some = clips()
    logits = head(*pad(some.rows)).logits
    labels = torch.tensor(some.labels)
    right = float((logits.argmax(1) == labels).float().mean())
    return right, -float(nn.functional.cross_entropy(logits, labels))


def _same(one: FittedHead, other: FittedHead) -> bool:
    a, b = one.head.state_dict(), other.head.state_dict()
    return all(torch.equal(a[key], b[key]) for key in a)


def test_a_training_killed_with_9_ends_with_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    undisturbed = fit(clips(), _MUON)
    state = tmp_path / "state"
    root = Path(__file__).resolve().parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(state)],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -9
    resumed = fit(clips(), _MUON, resume=Resume(state))
    assert resumed.losses == undisturbed.losses
    assert _same(resumed, undisturbed)


def test_muon_takes_the_matrices_between_layers() -> None:
    start = make_head({"kind": "landmarks", "classes": 3, "width": 8, "blocks": 1})
    candidate = CandidateHead.of(start, 1e-3, 0.05, "muon")
    adamw, muon = (
        {id(p) for group in optimizer.param_groups for p in group["params"]}
        for optimizer in candidate.optimizers
    )
    names = {id(p): name for name, p in candidate.head.named_parameters()}
    assert adamw | muon == names.keys() and not adamw & muon
    taken = {names[weight] for weight in muon}
    assert {"project.weight", "blocks.0.inner.weight", "attend.ask.weight"} <= taken
    assert not taken & {"out.3.weight", "blocks.0.depth", "project.bias", "norm.weight"}
    assert len(CandidateHead.of(start, 1e-3, 0.05).optimizers) == 1


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_compiled_a_head_learns_the_same_and_goes_on_from_a_cut(tmp_path: Path) -> None:
    equal = replace(clips(), rows=[np.asarray(one, np.float32)[:2] for one in clips().rows])
    plain = replace(_SETTINGS, head="gloss", dropout=0.0)
    compiled = replace(plain, compile=True)
    learnt = fit(equal, compiled)
    assert learnt.losses == pytest.approx(fit(equal, plain).losses, rel=1e-3)

    random, state = replace(compiled, dropout=0.3), Resume(tmp_path / "state", every_s=0)

    def cut(step: int, *_: object) -> None:
        if step == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(equal, random, resume=state, progress=cut)
    resumed, whole = fit(equal, random, resume=state), fit(equal, random)
    assert resumed.losses == whole.losses != learnt.losses
    assert _same(resumed, whole)


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    fit(clips(), _SETTINGS, resume=Resume(tmp_path / "state", every_s=0))
    with pytest.raises(ValueError, match="another training"):
        fit(clips(), replace(_SETTINGS, seed=6), resume=Resume(tmp_path / "state"))
    (tmp_path / "state").write_bytes(b"no state")
    with pytest.raises(ValueError, match="delete it"):
        fit(clips(), _SETTINGS, resume=Resume(tmp_path / "state"))


def test_the_best_of_several_rates_and_decays_is_kept() -> None:
    several = replace(_SETTINGS, epochs=20, lr=(1e-9, 3e-3), weight_decay=(0.0, 0.1))
    fitted = fit(clips(), several, validation=Validation(score=_accuracy))
    assert [(one["lr"], one["weight_decay"]) for one in fitted.candidates] == [
        (1e-9, 0.0), (1e-9, 0.1), (3e-3, 0.0), (3e-3, 0.1)]  # fmt: skip
    best = max(one["held_back_top1"] for one in fitted.candidates[2:])
    assert best > max(one["held_back_top1"] for one in fitted.candidates[:2])
    assert _accuracy(fitted.head)[0] == pytest.approx(best, abs=1e-4)


def test_it_ends_early_when_nothing_gets_better() -> None:
    patient = replace(_SETTINGS, epochs=50, patience=2)
    fitted = fit(clips(), patient, validation=Validation(score=lambda head: (0.5, -1.0)))
    assert len(fitted.losses) == 3 * 3  # the first epoch was the best, two more were waited for


def test_the_best_epoch_is_kept_and_the_curve_has_all() -> None:
    scores = iter([(0.2, -1.0), (0.6, -0.8), (0.6, -0.9), (0.4, -0.1)])
    fitted = fit(
        clips(), replace(_SETTINGS, epochs=4), validation=Validation(score=lambda _: next(scores))
    )
    assert (fitted.epoch, fitted.epochs) == (2, 4)
    assert [(p.step, p.epoch, p.top1, p.loss) for p in fitted.curve] == [
        (3, 1, 0.2, 1.0), (6, 2, 0.6, 0.8), (9, 3, 0.6, 0.9), (12, 4, 0.4, 0.1)]  # fmt: skip
    two = fit(clips(), replace(_SETTINGS, epochs=4))
    assert (two.epoch, two.curve) == (4, []) and not _same(fitted, two)


def test_scoring_is_rarer_where_it_would_take_long() -> None:
    """An epoch is three batches of 8 windows: 7.2 windows a third epoch are a tenth."""
    validation = Validation(score=lambda _: (0.5, -1.0), windows=7.2)
    fitted = fit(clips(), replace(_SETTINGS, epochs=7), validation=validation)
    assert [point.epoch for point in fitted.curve] == [3, 6, 7]


def test_heads_of_an_ensemble_keep_their_states_in_one_file(tmp_path: Path) -> None:
    second = replace(_SETTINGS, seed=6)
    fitted = fit(clips(), _SETTINGS, resume=Resume(tmp_path / "state"))
    other = fit(clips(), second, resume=Resume(tmp_path / "state", part=1))
    assert [file.name for file in tmp_path.iterdir()] == ["state"]

    def never(*_: object) -> None:
        raise AssertionError("both were done")

    for part, (settings, want) in enumerate([(_SETTINGS, fitted), (second, other)]):
        again = fit(clips(), settings, resume=Resume(tmp_path / "state", part=part), progress=never)
        assert _same(again, want)


def test_choosing_needs_clips_held_back() -> None:
    with pytest.raises(ValueError, match="held back"):
        fit(clips(), replace(_SETTINGS, lr=(1e-3, 1e-4)))


def test_clips_held_back_share_no_signer_with_the_rest(tmp_path: Path) -> None:
    examples = read_examples(write_index(tmp_path))
    train, held = hold_back(examples, GLOSSES, 0)
    assert held and not {e.group for e in train} & {e.group for e in held}


def test_a_gloss_of_one_signer_is_learnt_and_too_few_clips_are_not_held_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips = [example(f"{n}", f"signer {n % 6}", GLOSSES[n % 2]) for n in range(30)]
    rare = [example(f"rare {n}", f"signer {n}", f"rare {n}") for n in range(6)]
    glosses = (*GLOSSES, *(e.gloss for e in rare))
    train, held = hold_back([*clips, *rare], glosses, 0, needed=False)
    assert (len(train), held) == (36, [])
    assert "no clips are held back" in capsys.readouterr().out
    train, held = hold_back([*clips, *rare[:4]], (*GLOSSES, *glosses[2:6]), 0, needed=False)
    assert held and {e.gloss for e in train} == set(glosses[:6])


@pytest.mark.parametrize("numbers", [(1.5, -2.25), (3e38, 1e-3)])
def test_bfloat16_rows_are_read(tmp_path: Path, numbers: tuple[float, float]) -> None:
    want = torch.tensor([numbers], dtype=torch.bfloat16)
    np.save(tmp_path / "a.npy", want.view(torch.int16).numpy().view("V2"))
    rows = np.asarray(StoredRows.of(tmp_path / "a.npy"), np.float32)
    assert torch.equal(torch.from_numpy(rows), want.float())


@pytest.mark.parametrize("content", [b"", b"no rows", b"PK\x03\x04 no zip"])
def test_a_file_without_rows_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy: no rows of numbers"):
        StoredRows.of(tmp_path / "a.npy")


def test_memory_does_not_grow_with_the_index(tmp_path: Path) -> None:
    """300 clips of 0.1 MB in float32: an epoch holds a few batches of them, not all."""
    rows = np.random.default_rng(0).normal(size=(8, 3200)).astype(np.float16)
    lines = ["video_id,gloss,path_to_npy_file"]
    for number in range(300):
        np.save(tmp_path / f"{number}.npy", rows)
        lines.append(f"{number},{GLOSSES[number % 2]},{number}.npy")
    (tmp_path / "index.csv").write_text("\n".join(lines), encoding="utf-8")
    spec = EncoderSpec(kind="vjepa2", source="made up", revision="1", dim=3200, frames=16, fps=8.0,
                       short_side=292)  # fmt: skip
    tracemalloc.start()  # of NumPy's rows; torch's tensors are not counted
    try:
        examples = read_examples(tmp_path / "index.csv")
        some = batches_of(examples, Vocabulary(glosses=GLOSSES), spec, TrainSettings())
        for stored in some.rows:
            assert np.asarray(stored, np.float32).nbytes == 8 * 3200 * 4
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.1 * 300 * 8 * 3200 * 4
