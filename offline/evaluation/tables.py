"""A report's predictions, confusions and glosses as CSV, for spreadsheets and other programs.

outcomes -> [tables] -> NAME_predictions.csv, NAME_confusion.csv, NAME_per_gloss.csv
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from offline.evaluation.report import write_text
from offline.scoring.outcomes import Outcomes

_FIRST = 5


def write_tables(name: str, outcomes: Outcomes) -> None:
    """Write the three tables beside the report NAME.

    Raises:
        ValueError: one of them can't be written.
    """
    columns = [f"{what}{place}" for place in range(1, _FIRST + 1) for what in ("predicted", "p")]
    header = ["video_id", "video", "gloss", "signer", "fold", "rank", *columns]
    rows = []
    for clip in outcomes.clips:
        first = [cell for gloss, p in clip.first for cell in (gloss, f"{p:.5f}")]
        about = [clip.video_id, clip.video, clip.gloss, clip.signer, clip.fold, clip.rank]
        rows.append([*about, *first, *[""] * (len(columns) - len(first))])
    _write(f"{name}_predictions.csv", header, rows)

    predicted: dict[str, Counter[str]] = defaultdict(Counter)  # by true gloss
    all_ranks: dict[str, list[int]] = defaultdict(list)
    for clip in outcomes.clips:
        predicted[clip.gloss][clip.predicted] += 1
        all_ranks[clip.gloss].append(clip.rank)
    there = set(predicted).union(*predicted.values())
    shown = [gloss for gloss in outcomes.glosses if gloss in there]
    _write(
        f"{name}_confusion.csv",
        ["gloss", *shown],  # a row a true gloss, a column a predicted one
        [[gloss, *(predicted[gloss][other] for other in shown)] for gloss in shown],
    )

    table = []
    for gloss in outcomes.glosses:
        if not (ranks := all_ranks[gloss]):
            continue
        wrong = [pair for pair in predicted[gloss].most_common() if pair[0] != gloss]
        most, times = wrong[0] if wrong else ("", 0)
        shares = [f"{sum(rank <= top for rank in ranks) / len(ranks):.4f}" for top in (1, _FIRST)]
        table.append([gloss, len(ranks), *shares, most, times])
    header = ["gloss", "clips", "top1", "top5", "most_confused_with", "times"]
    _write(f"{name}_per_gloss.csv", header, table)


def _write(path: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
