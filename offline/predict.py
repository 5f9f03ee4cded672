"""What the live path would predict for video files: same windows, encoder, head and sign decoder.

    python -m offline.predict --model builtin hello.mp4
    python -m offline.predict --model bundles/mine --json *.mp4

    video -> [video_predictions] -> predictions of its windows -> top glosses of the clip, signs

`--json` prints one list with an object per file, in the order given: {"video", "top", "signs"}, or
{"video", "error"} for a file that can't be read; then the exit status is 1.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from models.command_line import read_command_line, say, until_interrupted
from models.decoder import DecoderSettings, clip_probabilities, top_candidates
from models.fusion import open_recognizer
from offline.data.videos import VideoError
from offline.scoring.video_predictions import VideoReader, read_predictions, signs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    videos: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO...")]
    """files to read"""
    model: str = "builtin"  # a bundle's folder, or builtin
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    hop_s: float | None = None  # seconds between windows (None: the bundle's)
    threshold: float | None = None  # least probability of a sign (None: the bundle's)
    top_k: int = 5  # glosses listed for the whole clip
    json: bool = False  # print one JSON list

    def __post_init__(self) -> None:
        if not self.videos:
            raise ValueError("give at least one VIDEO")
        if self.hop_s is not None and not self.hop_s > 0:
            raise ValueError(f"--hop-s must be more than 0, not {self.hop_s:g}")
        if self.top_k < 1:
            raise ValueError(f"--top-k must be at least 1, not {self.top_k}")
        if self.threshold is not None:
            DecoderSettings(threshold=self.threshold)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 1 when a file can't be read, 2 when the model can't be opened."""
    options = read_command_line(
        PredictOptions, argv, prog="python -m offline.predict", description=__doc__
    )
    try:
        recognizer = open_recognizer(options.model, options.device)
        if not recognizer.bundle.glosses:
            recognizer.close()
            raise ValueError(
                f"{options.model} has no trained head, so it knows no gloss: "
                "serve it and teach it signs in the page"
            )
    except (ValueError, OSError) as exc:
        say(f"offline.predict: {exc}", file=sys.stderr)
        return 2
    results = []
    with contextlib.closing(recognizer):
        for video in options.videos:
            results.append(_predict(recognizer, video, options))
            if not options.json:
                _say(results[-1])
    if options.json:
        print(json.dumps(results))
    return 1 if any("error" in result for result in results) else 0


def _predict(recognizer: VideoReader, video: str, options: PredictOptions) -> dict[str, Any]:
    """The JSON object of one file: {"video", "top", "signs"} or {"video", "error"}."""
    glosses, threshold = recognizer.bundle.glosses, options.threshold
    settings = DecoderSettings(
        threshold=recognizer.bundle.threshold if threshold is None else threshold
    )
    try:
        predictions = list(read_predictions(recognizer, video, hop_s=options.hop_s))
    except VideoError as exc:
        return {"video": video, "error": str(exc)}
    top = top_candidates(glosses, clip_probabilities(predictions), options.top_k)
    return {
        "video": video,
        "top": [candidate.message() for candidate in top],
        "signs": [sign.message() for sign in signs_of(glosses, predictions, settings)],
    }


def _say(result: dict[str, Any]) -> None:
    """The same for people."""
    say(result["video"])
    if "error" in result:
        say(f"  {result['error']}")
        return
    say("  top    " + "  ".join(f"{c['gloss']} {c['p']:.0%}" for c in result["top"][:3]))
    for sign in result["signs"]:
        times = f"{sign['start_s']:6.2f} to {sign['end_s']:.2f} s"
        say(f"  sign   {times}  {sign['gloss']} {sign['p']:.0%}")
    if not result["signs"]:
        say("  sign   none was above the threshold")


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.predict"))
