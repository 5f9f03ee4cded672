"""The built-in model's vocabulary: which of the glosses that its heads learnt it keeps, and which
of them are likelier.

    report of offline.evaluate -> [builtin_glosses] -> the same heads with fewer glosses

    python -m offline.builtin_glosses REPORT.json OUT HEAD.pt ...

Everyday words stay; other glosses stay if heads that had not met the signer read two of three
landmark clips of WLASL right. Videos of other sources and people at webcams do not choose, so that
they can judge. What is dropped becomes a sign outside the vocabulary.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offline.builtin_labels import EVERYDAY

_SOURCE = "wlasl/landmarks"
_LEAST = 2 / 3
_OFTEN = 3.0  # times as often as another gloss, an everyday word is taken to be signed


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong use or files that can't be read."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) < 3:
        print("use: python -m offline.builtin_glosses REPORT.json OUT HEAD.pt ...", file=sys.stderr)
        return 2
    from offline.training.checkpoint import (  # torch comes when the command line is right
        keep_glosses,
        load_checkpoint,
        make_likelier,
        save_checkpoint,
    )

    report, out, *heads = map(Path, arguments)
    try:
        glosses = kept_glosses(json.loads(report.read_text(encoding="utf-8")))
        for file in heads:
            kept = keep_glosses(load_checkpoint(file), glosses)
            make_likelier(kept, EVERYDAY, math.log(_OFTEN))
            members: list[Any] = list(kept.head.heads)
            save_checkpoint(out / file.name, members, kept.card, kept.background)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        print(f"builtin_glosses: {exc}", file=sys.stderr)
        return 2
    print(f"{len(glosses)} glosses kept: {out}")
    return 0


def kept_glosses(report: Mapping[str, Any]) -> list[str]:
    """The glosses of a report that the rule keeps, in its order."""
    right: dict[str, list[bool]] = defaultdict(list)
    for clip in report["clips"]:
        if clip["video_id"].startswith(f"{_SOURCE}/"):
            right[clip["gloss"]].append(clip["rank"] == 1)
    return [
        gloss
        for gloss in report["glosses"]
        if gloss in EVERYDAY or sum(right[gloss]) >= _LEAST * max(1, len(right[gloss]))
    ]


if __name__ == "__main__":
    raise SystemExit(main())
