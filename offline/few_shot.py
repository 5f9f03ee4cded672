"""How well signs are recognised that were taught by a few takes, on people never seen in training.

    python -m offline.few_shot --index embeddings/index.csv --open-set --takes 1 5 --ways 5 20

    index.csv -> sets of glosses x folds of signers -> heads trained without either -> episodes

In each episode five glosses that the head was not trained on are taught by takes of other people
than the one who signs, and that person's clip is read: among the five, and among all glosses that
the head knows, as it is served. The cost to the known glosses is measured too. The last line of
stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.command_line import read_command_line, say, until_interrupted
from offline.evaluation import EpisodeSettings
from offline.training.config import DataSettings, TrainChoices


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotOptions:
    """What is trained and written."""

    data: DataSettings
    training: TrainChoices = field(default_factory=TrainChoices)
    episodes: EpisodeSettings = field(default_factory=EpisodeSettings)
    jobs: int = 1  # heads trained at the same time
    report: str | None = None  # JSON file to write

    def __post_init__(self) -> None:
        taught = self.episodes
        counts = *taught.takes, *taught.ways, taught.sets, taught.crossings or 1, self.jobs
        if not (taught.takes and taught.ways) or min(counts) < 1 or taught.folds < 2:
            raise ValueError(
                "--takes, --ways, --sets, --crossings and --jobs must be 1 or more, --folds 2"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 where the index or an option does not allow it."""
    options = read_command_line(
        FewShotOptions, argv, prog="python -m offline.few_shot", description=__doc__
    )
    from offline.evaluation.few_shot import cross, score
    from offline.evaluation.report import write_report
    from offline.training.selection import read_plan

    try:
        plan = read_plan(options.data, options.training)
        crossings = cross(plan, options.episodes, options.data.fold_seed, options.jobs)
        report = score(crossings, plan, options.episodes, options.data.fold_seed)
        if options.report:
            write_report(options.report, report)
    except ValueError as exc:
        say(f"few_shot: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.few_shot"))
