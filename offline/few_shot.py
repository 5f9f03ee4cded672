"""How well signs are recognised that were taught by a few takes, on people never seen in training.

    python -m offline.few_shot --index embeddings/index.csv --head landmarks --open-set --takes 5

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

from models.command_line import read_command_line
from offline.training.config import DataSettings, TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotOptions:
    """Episodes."""

    data: DataSettings
    training: TrainSettings = field(default_factory=TrainSettings)
    takes: int = 5  # of each new sign
    ways: int = 5  # new signs taught at once
    sets: int = 3  # of glosses held back in turn
    folds: int = 5  # of signers
    jobs: int = 1  # heads trained at the same time
    head_temperature: float = 1.0  # the model's own
    threshold: float = 0.5  # of the sign decoder
    report: str | None = None  # JSON file to write

    def __post_init__(self) -> None:
        if min(self.takes, self.ways, self.sets, self.jobs) < 1 or self.folds < 2:
            raise ValueError("--takes, --ways, --sets and --jobs must be 1 or more, --folds 2")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 where the index or an option does not allow it."""
    options = read_command_line(
        FewShotOptions, argv, prog="python -m offline.few_shot", description=__doc__
    )
    from offline.evaluation.few_shot import EpisodeSettings, cross, score
    from offline.evaluation.report import write_report
    from offline.training.selection import read_plan

    try:
        plan = read_plan(options.data, options.training)
        crossings = cross(
            plan,
            takes=options.takes,
            sets=options.sets,
            folds=options.folds,
            seed=options.data.fold_seed,
            jobs=options.jobs,
            progress=lambda line: print(line, flush=True),
        )
        settings = EpisodeSettings(
            ways=options.ways,
            takes=options.takes,
            seed=options.data.fold_seed,
            head_temperature=options.head_temperature,
            threshold=options.threshold,
        )
        report = score(crossings, plan, settings)
        if options.report:
            write_report(options.report, report)
    except ValueError as exc:
        print(f"few_shot: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
