"""How well a head recognises signs of people whom it was not trained on.

Here is what the command lines need without torch. `MEANINGS` explains the figures of a report:
`offline.evaluate --help` and the pages show it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSettings:
    """Episodes."""

    takes: int = 5  # of each new sign
    ways: int = 5  # new signs taught at once
    sets: int = 3  # of glosses held back in turn
    folds: int = 5  # of signers
    head_temperature: float = 1.0  # the model's own
    threshold: float = 0.5  # of the sign decoder


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
    "difference": "B minus A on the same clips, with the interval of the paired difference: if "
    "it excludes 0, they differ by more than the choice of signers explains.",
    "mcnemar": "McNemar's exact test on the clips that only one of the two has right: the "
    "probability of so uneven a count if both were equally good. It counts clips as independent; "
    "where signers have many clips each, trust the interval.",
}
