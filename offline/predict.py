"""What the live way would say of video files: the same windows, encoder, head and sign decoder.

    python -m offline.predict --model builtin hello.mp4
    python -m offline.predict --model bundles/mine --json *.mp4

`--json` prints one list with an object a file, in the order given: {"video", "top", "signs"}, or
{"video", "error"} for a file that can't be read; then the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from models.decoder import DecoderSettings, clip_probabilities, top_candidates
from models.fusion import open_recognizer
from offline.data.videos import VideoError
from offline.scoring.video_predictions import VideoReader, read_predictions, signs_of


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 1 when a file can't be read, 2 when the model can't be opened."""
    options = _parser().parse_args(argv)
    try:
        settings = DecoderSettings()
        if options.threshold is not None:
            settings = replace(settings, threshold=options.threshold)
        if options.hop_s is not None and not options.hop_s > 0:
            raise ValueError(f"--hop-s must be more than 0, not {options.hop_s:g}")
        if options.top_k < 1:
            raise ValueError(f"--top-k must be at least 1, not {options.top_k}")
        recognizer = open_recognizer(options.model, options.device)
    except (ValueError, OSError) as exc:
        print(f"offline.predict: {exc}", file=sys.stderr)
        return 2
    if not recognizer.bundle.glosses:
        recognizer.close()
        print(
            f"offline.predict: {options.model} has no trained head, so it knows no gloss: "
            "serve it and teach it signs in the page",
            file=sys.stderr,
        )
        return 2
    if options.threshold is None:
        settings = replace(settings, threshold=recognizer.bundle.threshold)
    answers = []
    try:
        for path in options.videos:
            answers.append(answer(recognizer, path, settings, options.hop_s, options.top_k))
            if not options.json:
                _show(answers[-1])
    finally:
        recognizer.close()
    if options.json:
        print(json.dumps(answers, ensure_ascii=False))
    return 1 if any("error" in one for one in answers) else 0


def answer(
    recognizer: VideoReader,
    path: str,
    settings: DecoderSettings,
    hop_s: float | None = None,
    top_k: int = 5,
) -> dict[str, Any]:
    """What the recogniser says of the file `path`: {"video", "top", "signs"} or {…, "error"}."""
    glosses = recognizer.bundle.glosses
    try:
        predictions = list(read_predictions(recognizer, path, hop_s=hop_s))
    except VideoError as exc:
        return {"video": path, "error": str(exc)}
    top = top_candidates(glosses, clip_probabilities(predictions), top_k)
    return {
        "video": path,
        "top": [one.message() for one in top],
        "signs": [sign.message() for sign in signs_of(glosses, predictions, settings)],
    }


def _show(answered: dict[str, Any]) -> None:
    print(answered["video"])
    if "error" in answered:
        print(f"  {answered['error']}")
        return
    print("  top    " + "  ".join(f"{c['gloss']} {c['p']:.0%}" for c in answered["top"][:3]))
    for sign in answered["signs"]:
        times = f"{sign['start_s']:6.2f} to {sign['end_s']:.2f} s"
        print(f"  sign   {times}  {sign['gloss']} {sign['p']:.0%}")
    if not answered["signs"]:
        print("  sign   none was sure enough")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.predict", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO")
    add("--model", default="builtin", metavar="PATH", help="a bundle's folder, or builtin")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--hop-s", type=float, metavar="S", help="time between windows (the bundle's own)")
    add("--threshold", type=float, metavar="P", help="how sure a sign must be (the bundle's own)")
    add("--top-k", type=int, default=5, metavar="K", help="glosses told for the whole clip (5)")
    add("--json", action="store_true", help="print one JSON list")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
