"""Drawn figures for a bundle: how each of its signs is signed, by landmarks that you have.

    python -m offline.figures --index runs/builtin/rows/index.csv --bundle models/builtin
    python -m offline.figures --index … --bundle bundles/mine --glosses yes no --dry-run

    rows + head -> takes read right -> the most typical one of each gloss -> completed, smoothed
                -> figures.msgpack in the bundle -> `GET /api/figures/{gloss}` -> the page

For each gloss the takes are considered that the bundle's own head reads as that gloss. Of these the
one is drawn that those of other signers are nearest to; a gloss with takes of fewer than
`--signers` signers gets no figure. Videos whose id begins with one of `--leave-out` are not drawn.
The bundle is written anew and opened before it replaces the old one; its head stays as it is. Takes
about a minute for 200 glosses. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, BundleError, open_bundle, write_bundle
from models.card import FIGURES, LABELS
from models.classifier import Classifier
from models.command_line import read_command_line, say, several, until_interrupted
from models.drawn_figure import pack_figure, write_figures
from models.schema import Embedding
from offline.data.examples import Example, read_examples, read_spec
from offline.data.index import ORIGINAL
from offline.posing.completing import completed, right_handed
from offline.posing.typical import Take, rank_takes

_SHORTEST = 6  # pictures with a hand raised: less is cut
_WINDOWS = 256  # at once
_ABOUT = (
    "Drawn figures: the landmarks of one take of a sign each, smoothed, and completed where they "
    "lacked an elbow or a hand; chosen as the take that those of other signers are nearest to."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresOptions:
    """What is drawn."""

    index: Path  # index.csv of offline.encode, with landmark rows
    bundle: Path  # the bundle's folder: its head chooses the takes, and it gets the figures
    # glosses to draw (none: all of the bundle; figures of others that it has are kept)
    glosses: Annotated[tuple[str, ...], several("GLOSS", str, str)] = ()
    # beginnings of video ids that are not drawn: people who were still learning
    leave_out: Annotated[tuple[str, ...], several("ID", str, str)] = ("webcam/",)
    least_p: float = 0.5  # probability that the head must give a take's gloss
    signers: int = 3  # of whom takes must be read right
    licence: str | None = None  # of the figures, for the card (None: as the bundle's)
    dry_run: bool = False  # write nothing, only say which takes would be drawn

    def __post_init__(self) -> None:
        if not 0 < self.least_p < 1:
            raise ValueError(f"--least-p must be between 0 and 1, not {self.least_p:g}")
        if self.signers < 2:
            raise ValueError("--signers must be 2 or more: takes are compared between signers")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when no figure can be drawn or written, and says why."""
    options = read_command_line(
        FiguresOptions, argv, prog="python -m offline.figures", description=__doc__
    )
    try:
        return _draw(options)
    except (ValueError, OSError) as exc:
        say(f"offline.figures: {exc}", file=sys.stderr)
        return 2


def _draw(options: FiguresOptions) -> int:
    bundle = open_bundle(options.bundle)
    if bundle.parts or bundle.head_path is None or bundle.encoder.kind != "landmarks":
        raise BundleError(f"{bundle.path}: figures need a bundle with a head for landmarks")
    if read_spec(options.index).fps != bundle.encoder.fps:
        raise ValueError(f"{options.index}: rows of another rate than the bundle's")
    wanted = options.glosses or bundle.glosses
    for gloss in wanted:
        if gloss not in bundle.glosses:
            raise ValueError(f"{gloss!r} is no gloss of {bundle.path}")
    classifier = Classifier(bundle, "cpu")
    takes: dict[str, list[Example]] = defaultdict(list)
    for example in read_examples(options.index, ORIGINAL):
        if example.gloss in wanted and not example.video_id.startswith(options.leave_out):
            takes[example.gloss].append(example)
    figures: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    for number, gloss in enumerate(wanted, 1):
        right = list(_read_right(takes[gloss], gloss, bundle, classifier, options.least_p))
        signers = len({take.signer for take in right})
        if signers < options.signers:
            missing[gloss] = f"takes of {signers} signers were read right"
        else:
            chosen = rank_takes(right)[0]
            take = chosen.take
            figures[gloss] = pack_figure(completed(take.rows, bundle.encoder.fps))
            say(
                f"{number}/{len(wanted)} {gloss}: {take.name}, {len(figures[gloss])} bytes, "
                f"of {len(right)} takes by {signers} signers, {chosen.distance:.2f} apart"
            )
    for gloss, why in missing.items():
        say(f"{gloss}: no figure: {why}")
    if not figures:
        raise ValueError("no figure could be drawn")
    if not options.dry_run:
        _put(bundle, figures, options)
    summary = {
        "bundle": str(bundle.path),
        "figures": len(figures),
        "missing": sorted(missing),
        "bytes": sum(map(len, figures.values())),
        "written": not options.dry_run,
    }
    print(json.dumps(summary))
    return 0


def _read_right(
    examples: Iterable[Example], gloss: str, bundle: Bundle, classifier: Classifier, least_p: float
) -> Iterable[Take]:
    """The takes that the head reads as their gloss, as from a signer who leads with the right."""
    for example in examples:
        rows = right_handed(example.rows)
        take = Take(name=example.video_id, signer=example.group, rows=rows)
        if take.hands.last - take.hands.first < _SHORTEST:
            continue
        p = _probabilities(rows, bundle, classifier)
        if bundle.glosses[int(p.argmax())] == gloss and p.max() >= least_p:
            yield take


def _probabilities(
    rows: NDArray[np.float32], bundle: Bundle, classifier: Classifier
) -> NDArray[np.float32]:
    """(G,) What the bundle's head says of a clip of rows (T, D), window by window as live."""
    from offline.scoring.clip_predictions import predict_clip, rows_of_windows  # torch

    spec = bundle.encoder
    cut = rows[rows_of_windows(len(rows), spec, bundle.hop_s)]  # N, frames, D
    logs = []
    for at in range(0, len(cut), _WINDOWS):
        part = [Embedding(features=one, start_s=0, end_s=0) for one in cut[at : at + _WINDOWS]]
        logs.append(np.log(classifier.classify(part).probabilities + 1e-9))
    return predict_clip(np.concatenate(logs), len(bundle.glosses), spec, bundle.hop_s, 1.0)


def _put(bundle: Bundle, figures: dict[str, bytes], options: FiguresOptions) -> None:
    """Write the bundle anew with these figures, beside those of other glosses that it has."""
    kept = bundle.figures if options.glosses else {}  # else all are drawn anew
    card = {name: value for name, value in bundle.card.items() if name not in ("format", "files")}
    if isinstance(card["data"], dict):
        licence = options.licence or bundle.card["licence"]
        card["data"] = {**card["data"], "figures": f"{_ABOUT} Licence: {licence}"}
    files: dict[str, bytes | Path] = {
        name: bundle.path / name for name in bundle.card["files"] if name != LABELS
    }
    files[FIGURES] = write_figures({**kept, **figures})
    write_bundle(bundle.path, card=card, glosses=bundle.glosses, files=files)


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.figures"))
