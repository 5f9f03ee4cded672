"""How well a head recognises signs of people whom it was not trained on.

Here is what the command lines need without torch. `MEANINGS` explains the figures of a report:
`offline.evaluate --help` and the pages show it.
"""

from dataclasses import dataclass
from typing import Annotated

from models.command_line import several

Counts = Annotated[tuple[int, ...], several("INT", int, str)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSettings:
    """Episodes."""

    takes: Counts = (5,)  # of each new sign; several numbers: each is measured
    ways: Counts = (5,)  # new signs taught at once; likewise
    sets: int = 3  # of glosses held back in turn
    folds: int = 5  # of signers
    crossings: int | None = None  # heads trained, of one for each set and fold; None: all
    head_temperature: float = 1.0  # the model's own
    threshold: float = 0.5  # of the sign decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSettings:
    """The decoder's signs, of heads trained with --open-set."""

    false_cost: float = 1.0  # of a false sign, in right signs: sets the decoder's threshold
    sentences: int = 200  # made up of held-out clips of one signer; 0: none
    other_clips: int = 1000  # of signs outside the glosses, at most: more are drawn from

    def __post_init__(self) -> None:
        if not 0 <= self.false_cost < float("inf"):
            raise ValueError("--false-cost must be 0 or more")
        if self.sentences < 0 or self.other_clips < 0:
            raise ValueError("--sentences and --other-clips must be 0 or more")


MEANINGS = {
    "topK": "The share of clips whose right gloss is among the K likeliest: what papers call "
    "accuracy per instance.",
    "topK_class_mean": "The same for each gloss by itself, then the mean over glosses: a frequent "
    "gloss counts no more than a rare one (papers: per class).",
    "interval95": "Where the figure lies in 95 of 100 draws of as many signers from those tested, "
    "with replacement (bootstrap; clips of unknown signers are drawn one by one); below about 20 "
    "signers it is too narrow. It covers the choice of signers, not of the training.",
    "ece": "Expected calibration error: the mean distance, over clips, of the stated probability "
    "from the share of right predictions with that probability, in ten bins; 0 is best, and a few "
    "hundred clips show a few points by chance alone.",
    "aurc": "Area under the risk-coverage curve: the share of errors when only the most confident "
    "predictions are made, averaged over how many are made; 0 is best, and a head whose confidence "
    "does not depend on being right has its overall share of errors.",
    "signers": "The share of right predictions for each signer: a mean can hide a signer who is "
    "never recognised.",
    "confusions": "Which gloss was predicted instead of which, the most frequent first.",
    "coverage": "How many instances of the official split were available: WLASL's videos vanish "
    "from the web, and a figure on what is left is not the figure of the whole split.",
    "duplicates": "Clips with a duplicate in training, under another id and another signer: their "
    "predictions show what was learnt by heart.",
    "vocabulary": "Cross-validated accuracy for vocabularies of several sizes, the glosses with "
    "the most clips first: accuracy means nothing without the number of glosses.",
    "signs": "What the sign decoder reports of clips of known signs, of other signs and where "
    "nobody signs. The threshold scores right signs minus the cost of false ones; with each known "
    "sign count a quarter of another sign and a tenth of a minute without signing. In "
    "cross-validation each fold has the threshold that scores best in the other folds, and the "
    "model's own is the best in all. Risk is the share of false signs among those reported.",
    "sentences": "Clips of single signs of held-out signers, cut to their sign and joined: 3 to 6 "
    "different glosses, of one signer where there are enough. Word errors are the fewest edits "
    "from the signed to the decoded glosses (another gloss, nothing, one too many) for each sign "
    "signed; intervals are from a bootstrap over sentences.",
    "difference": "B minus A on the same clips, with the interval of the paired difference: if "
    "it excludes 0, they differ by more than the choice of signers explains.",
    "mcnemar": "McNemar's exact test on the clips that only one of the two has right: the "
    "probability of so uneven a count if both were equally good. It counts clips as independent; "
    "where signers have many clips each, trust the interval.",
}
