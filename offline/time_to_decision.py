"""How soon after a sign's end its last word comes, and what being soon costs: on held-out clips.

    python -m offline.time_to_decision --data ../shared/data tests/bundles/heldout [BUNDLE ...]

    held-out clips of each bundle -> [reading], as live -> signs told -> [ends] -> figures

Each bundle is read on the clips that its card says it did not learn from, on what else the same
signers sign, and on videos without signing: what is told of those is false. Clips are played as a
camera would have gone on: the first picture is held before, the last one after. Each is decoded
twice: as served, where a sign ends as the hands come to rest, and by fading alone, as for encoders
that can't tell of hands. With `--keep FOLDER` what the recogniser says is kept there, and a video
is not read again where only the decoder has changed. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.bundle import open_bundle
from models.decoder import DecoderSettings, clip_probabilities
from models.recognizer import Recognizer
from models.schema import Prediction
from offline.data.labels import EXTRA, LabelledVideo, read_labels, read_negatives
from offline.evaluation.crossval import in_workers
from offline.evaluation.report import write_report
from offline.evaluation.time_to_decision import (
    SignEnd,
    SignLog,
    decision_figures,
    decision_row,
    false_signs,
    folder_of,
    kept,
    quantiles,
    read_end,
)
from offline.scoring.video_predictions import read_predictions, told

BEFORE_S, AFTER_S = 1.0, 3.0  # the first and the last picture are held so long
_AFTER_OUTSIDE_S = 1.0  # the last one of other signs: by then what is told of them is told
DECODER_WAYS = ("as served", "by fading alone")


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    how = (options.data, options.hop_s, options.max_new_frames, options.keep)
    work = [(bundle, *how) for bundle in options.bundles]
    try:
        found = list(in_workers(read_bundle, work, options.jobs))
        report: dict[str, Any] = {
            way: decision_figures([heard for one in found for heard in one.heard[way]])
            for way in DECODER_WAYS
        }
    except (ValueError, OSError) as exc:
        print(f"offline.time_to_decision: {exc}", file=sys.stderr)
        return 2
    idle_s = sum(one.idle_s for one in found)
    for way in DECODER_WAYS:
        report[way] |= false_signs(
            [heard for one in found for heard in one.outside[way]],
            sum(one.idle_signs[way] for one in found),
            idle_s,
        )
    report["idle_s"] = round(idle_s, 1)
    report["window_ms"] = quantiles([ms for one in found for ms in one.window_ms])
    if options.report:
        write_report(
            options.report,
            {
                **report,
                "clips": [
                    decision_row(heard) for one in found for heard in one.heard[DECODER_WAYS[0]]
                ],
            },
        )
    print(json.dumps(report))
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRead:
    """What one bundle told of its held-out clips; by way where it differs."""

    heard: dict[str, list[SignLog]]
    outside: dict[str, list[SignLog]]  # of signs that are none of its glosses
    idle_signs: dict[str, int]
    idle_s: float
    window_ms: list[float]  # encoder and head, a window


def read_bundle(
    bundle: str,
    data: str,
    hop_s: float | None = None,
    max_new_frames: int | None = None,
    keep: str | None = None,
) -> BundleRead:
    """Read the held-out clips of a bundle, by its own hop unless another is given.

    What is predicted of them is kept in the folder `keep`, or was there already: see
    `offline.evaluation.time_to_decision`.

    Raises:
        ValueError, OSError: one line that names the file.
    """
    opened = open_bundle(bundle)
    opened = replace(opened, hop_s=hop_s or opened.hop_s)
    recognizer = Recognizer.open(opened, "cpu", max_new_frames=max_new_frames)

    def read(path: Path, before_s: float = 0.0, after_s: float = 0.0) -> list[Prediction]:
        still_s = (before_s, after_s)
        folder = folder_of(Path(keep), opened, still_s, max_new_frames) if keep else None
        return kept(folder, path.stem, lambda: read_predictions(recognizer, path, still_s=still_s))

    try:
        return _read_all(recognizer, Path(data), read)
    finally:
        recognizer.close()


def _read_all(
    recognizer: Recognizer, data: Path, read: Callable[..., list[Prediction]]
) -> BundleRead:
    about = recognizer.bundle.card["data"]
    if not isinstance(about, dict) or not about.get("held_out_clips"):
        raise ValueError(f"{recognizer.bundle.path}: its card names no held-out clips")
    manifest = read_manifest(data)
    heard: dict[str, list[SignLog]] = {way: [] for way in DECODER_WAYS}
    window_ms: list[float] = []
    for clip in about["held_out_clips"]:
        line = manifest.get(clip["video"])
        if line is None:
            raise ValueError(f"{data / 'manifest.csv'}: does not list {clip['video']}")
        end = end_of(data, line)
        said = read(data / line["path"], BEFORE_S, AFTER_S)
        window_ms += [1000 * sum(one.stages_s.values()) for one in said[1:]]
        for way, one in hear(recognizer, said, clip["video"], clip["gloss"], end).items():
            heard[way].append(one)
    outside: dict[str, list[SignLog]] = {way: [] for way in DECODER_WAYS}
    unknown = [
        video
        for video in read_labels(str(data / "manifest.csv"), data)
        if video.gloss not in recognizer.bundle.glosses and video.split != EXTRA
    ]
    for video in _of(about, unknown):
        said = read(video.path, BEFORE_S, _AFTER_OUTSIDE_S)
        for way, one in hear(recognizer, said, video.path.name, "", None).items():
            outside[way].append(one)
    idle_s, idle_signs = 0.0, dict.fromkeys(DECODER_WAYS, 0)
    for video in _of(about, read_negatives(data / "negatives")):
        said = read(video.path)
        idle_s += said[-1].end_s
        for way, one in hear(recognizer, said, video.path.name, "", None).items():
            idle_signs[way] += len(one.finals)
    return BundleRead(
        heard=heard, outside=outside, idle_signs=idle_signs, idle_s=idle_s, window_ms=window_ms
    )


def _of(about: Mapping[str, Any], videos: Sequence[LabelledVideo]) -> list[LabelledVideo]:
    """Those of signers, or backgrounds, that the bundle did not learn from."""
    return [video for video in videos if video.signer in about["held_out_groups"]]


def read_manifest(data: Path) -> dict[str, dict[str, str]]:
    """The lines of the data's manifest.csv by the names of the clips."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return {Path(line["path"]).name: line for line in csv.DictReader(stream)}


def end_of(data: Path, line: Mapping[str, str]) -> SignEnd:
    """Where the sign of a clip ends, by its line in the manifest.

    Raises:
        ValueError: see `offline.evaluation.time_to_decision.read_end`.
    """
    return read_end(data / line["landmarks"], float(line["width"]) / float(line["height"]))


def hear(
    recognizer: Recognizer, said: Sequence[Prediction], video: str, gloss: str, end: SignEnd | None
) -> dict[str, SignLog]:
    """What the decoder tells of a clip's predictions, in each of `DECODER_WAYS`."""
    bundle = recognizer.bundle
    before_s = 0.0 if end is None else BEFORE_S
    shown = [p for p in said if end is None or 0 <= p.end_s - before_s <= end.clip_s + 1e-3]
    whole = bundle.glosses[int(clip_probabilities(shown or said).argmax())]
    settings = DecoderSettings(threshold=bundle.threshold)
    streams = (said, [replace(p, resting=None) for p in said])
    return {
        way: SignLog(
            video=video,
            gloss=gloss,
            whole=whole,
            end=end,
            signs=tuple(
                (at_s - before_s, sign) for at_s, sign in told(bundle.glosses, stream, settings)
            ),
        )
        for way, stream in zip(DECODER_WAYS, streams, strict=True)
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.time_to_decision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bundles", nargs="+", metavar="BUNDLE", help="whose held-out clips are read")
    add("--data", required=True, help="folder with manifest.csv, clips, landmarks and negatives")
    add("--hop-s", type=float, metavar="S", help="as on a busy server (default: the bundle's)")
    add("--max-new-frames", type=int, metavar="N", help="looked at for a window (default: all)")
    add("--keep", metavar="FOLDER", help="for predictions: what is there is not read again")
    add("--jobs", type=int, default=1, help="bundles read at the same time")
    add("--report", help="JSON file to write, with every clip")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
