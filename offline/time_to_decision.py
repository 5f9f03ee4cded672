"""How soon after its end a sign is decided, how often rightly, and how many signs are false.

    python -m offline.time_to_decision --data ../shared/data tests/bundles/heldout [BUNDLE ...]

    held-out clips of each bundle -> predictions, as live -> sign updates + ends -> figures

Each bundle reads the clips that its card lists as held out, and the idle videos of the held-out
groups: a sign decoded from those is false. Clips are cut close to their sign, so the first frame is
held before a clip and the last one after it, as if the camera had gone on. The last line of stdout
is one JSON object.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from models.command_line import read_command_line

if TYPE_CHECKING:  # scipy and the recogniser come when the command line is right
    from models.bundle import Bundle
    from models.schema import Prediction
    from offline.evaluation.time_to_decision import SignEnd, SignLog

BEFORE_S, AFTER_S = 1.0, 3.0  # how long the first and the last frame are held


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeToDecisionOptions:
    """What is read."""

    bundles: tyro.conf.Positional[tuple[str, ...]]  # those whose held-out clips are read
    data: str  # folder with manifest.csv, clips, landmarks and negatives
    hop_s: float | None = None  # seconds between windows, as on a busy server; None: the bundle's
    max_new_frames: int | None = None  # encoded for a window at most; None: all
    jobs: int = 1  # bundles read at the same time
    report: str | None = None  # JSON file to write, with every clip

    def __post_init__(self) -> None:
        if not self.bundles or self.jobs < 1:
            raise ValueError("give a bundle; --jobs must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLog:
    """The signs that one bundle decoded."""

    logs: list[SignLog]  # of its held-out clips
    idle_signs: int
    idle_s: float
    window_ms: list[float]  # encoder and head, a window


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when a bundle or the data cannot be read."""
    options = read_command_line(
        TimeToDecisionOptions, argv, prog="python -m offline.time_to_decision", description=__doc__
    )
    from offline.evaluation.crossval import in_workers
    from offline.evaluation.report import write_report
    from offline.evaluation.time_to_decision import decision_figures, decision_row, quantiles

    work = [
        (bundle, Path(options.data), options.hop_s, options.max_new_frames)
        for bundle in options.bundles
    ]
    try:
        found = list(in_workers(read_bundle, work, options.jobs))
        logs = [log for one in found for log in one.logs]
        idle_s = sum(one.idle_s for one in found)
        idle_signs = sum(one.idle_signs for one in found)
        report = {
            **decision_figures(logs),
            "idle_s": round(idle_s, 1),
            "false_signs_per_min": round(60 * idle_signs / idle_s, 2) if idle_s else None,
            "window_ms": quantiles([ms for one in found for ms in one.window_ms]),
        }
        if options.report:
            write_report(options.report, {**report, "clips": [decision_row(log) for log in logs]})
    except (ValueError, OSError) as exc:
        print(f"time_to_decision: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


def read_bundle(
    path: str, data: Path, hop_s: float | None = None, max_new_frames: int | None = None
) -> BundleLog:
    """Read the held-out clips and idle videos of a bundle, by its own hop unless one is given.

    Raises:
        ValueError, OSError: one line that names the file.
    """
    from models.bundle import open_bundle
    from models.recognizer import Recognizer
    from offline.data.labels import read_negatives
    from offline.scoring.video_predictions import read_predictions

    bundle = open_bundle(path)
    bundle = replace(bundle, hop_s=hop_s or bundle.hop_s)
    about = bundle.card["data"]
    if not isinstance(about, dict) or not about.get("held_out_clips"):
        raise ValueError(f"{bundle.path}: its card names no held-out clips")
    manifest = read_manifest(data)
    logs: list[SignLog] = []
    window_ms: list[float] = []
    idle_s, idle_signs = 0.0, 0
    recognizer = Recognizer.on(bundle, "cpu", max_new_frames=max_new_frames)
    try:
        for clip in about["held_out_clips"]:
            line = manifest.get(clip["video"])
            if line is None:
                raise ValueError(f"{data / 'manifest.csv'}: does not list {clip['video']}")
            hold_s = (BEFORE_S, AFTER_S)
            windows = list(read_predictions(recognizer, data / line["path"], hold_s=hold_s))
            logs.append(
                log_signs(bundle, windows, clip["video"], clip["gloss"], end_of(data, line))
            )
            window_ms += [1000 * sum(one.stages_s.values()) for one in windows[1:]]
        for video in read_negatives(data / "negatives"):
            if video.signer in about["held_out_groups"]:
                windows = list(read_predictions(recognizer, video.path))
                idle_s += windows[-1].end_s
                idle_signs += sum(s.final for _, s in _updates(bundle, windows))
    finally:
        recognizer.close()
    return BundleLog(logs=logs, idle_signs=idle_signs, idle_s=idle_s, window_ms=window_ms)


def read_manifest(data: Path) -> dict[str, dict[str, str]]:
    """The lines of the data's manifest.csv by the names of the clips."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return {Path(line["path"]).name: line for line in csv.DictReader(stream)}


def end_of(data: Path, line: Mapping[str, str]) -> SignEnd:
    """The end of the signing in a clip, by its line in the manifest.

    Raises:
        ValueError: see `offline.evaluation.time_to_decision.read_end`.
    """
    from offline.evaluation.time_to_decision import read_end

    return read_end(data / line["landmarks"], float(line["width"]) / float(line["height"]))


def log_signs(
    bundle: Bundle, windows: Sequence[Prediction], video: str, gloss: str, end: SignEnd
) -> SignLog:
    """Decode the predictions of a clip that was read with held frames, as the server does."""
    from models.decoder import clip_probabilities
    from offline.evaluation.time_to_decision import SignLog

    shown = [p for p in windows if 0 <= p.end_s - BEFORE_S <= end.clip_s + 1e-3]
    return SignLog(
        video=video,
        gloss=gloss,
        clip_gloss=bundle.glosses[int(clip_probabilities(shown or windows).argmax())],
        end=end,
        updates=tuple((at_s - BEFORE_S, sign) for at_s, sign in _updates(bundle, windows)),
    )


def _updates(bundle: Bundle, windows: Sequence[Prediction]) -> Any:
    from models.decoder import DecoderSettings
    from offline.scoring.video_predictions import sign_updates

    return sign_updates(bundle.glosses, windows, DecoderSettings(threshold=bundle.threshold))


if __name__ == "__main__":
    raise SystemExit(main())
