"""How well signs are recognised that were only taught, by a few takes: on people never seen.

    python -m offline.few_shot --index embeddings/index.csv --head landmarks --open-set --takes 5

    index.csv -> sets of glosses x folds of signers -> heads that saw neither -> episodes -> report

In each episode five glosses of which the head has seen no clip are taught by takes of other people
than the one who signs, and that person's clip is read: among the five alone, and as it is served,
among all glosses that the head knows. What teaching costs the others is measured too. The last line
of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from offline.evaluation.few_shot import EpisodeSettings, cross, score
from offline.evaluation.report import write_report
from offline.options import add_training_options, plan_from


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        report = run(args)
    except ValueError as exc:
        print(f"fewshot: {exc}", file=sys.stderr)
        return 2
    if args.report:
        write_report(args.report, report)
    print(json.dumps(report))
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train the heads and score the episodes.

    Raises:
        ValueError: the index or an option does not allow it.
    """
    plan = plan_from(args)
    crossings = cross(
        plan,
        takes=args.takes,
        sets=args.sets,
        folds=args.folds,
        seed=args.fold_seed,
        jobs=args.jobs,
        progress=lambda line: print(line, flush=True),
    )
    settings = EpisodeSettings(
        ways=args.ways,
        takes=args.takes,
        seed=args.fold_seed,
        head_temperature=args.head_temperature,
        threshold=args.threshold,
    )
    return score(crossings, plan, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.few_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_options(parser)
    parser.add_argument("--takes", type=int, default=5, help="of each new sign")
    parser.add_argument("--ways", type=int, default=5, help="new signs taught at once")
    parser.add_argument("--sets", type=int, default=3, help="of glosses held back in turn")
    parser.add_argument("--folds", type=int, default=5, help="of signers")
    parser.add_argument("--jobs", type=int, default=1, help="heads trained at the same time")
    parser.add_argument("--head-temperature", type=float, default=1.0, help="the model's own")
    parser.add_argument("--threshold", type=float, default=0.5, help="of signs told during rest")
    parser.add_argument("--report", help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
