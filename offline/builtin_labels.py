"""The labels that the built-in model learns from, out of the tables of the project's data.

    DATA/manifest.csv, wlasl/landmarks.csv, wlasl/WLASL_v0.3.json, webcam/landmarks.csv
        -> [builtin_labels]
        -> OUT/labels.csv (for offline.encode), OUT/glosses.txt (the vocabulary),
           OUT/card.json (builtin_card.json, with the words that are one sign)

    python -m offline.builtin_labels DATA OUT

A line a clip: video or landmark file, gloss, and the group of signers that must stay on one side of
a split. A clip that is a copy of a WLASL recording has its signer. Groups of which one holds many
copies of the other's recordings are joined, as more may have been missed. Words that are one sign
(`offline.builtin_synonyms`) are one gloss, and of a recording that WLASL has under several of them
one clip alone is scored.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.cluster.hierarchy import DisjointSet

from offline.builtin_synonyms import Synonyms, read_synonyms
from offline.data.spellings import EXTRA

Line = dict[str, str]

COLUMNS = ("path", "gloss", "video_id", "split", "group", "caption_risk", "fps")
# One sign under two words, of which dictionaries have no common recording, or one alone has.
ONE_SIGN = {"bye": "goodbye", "job": "work", "me": "i"}
# What a beginner tries first; the README names the rule.
EVERYDAY = frozenset(
    "again,apple,baby,bad,bathroom,book,brother,coffee,come,deaf,drink,eat,family,father,fine,finish,"
    "friend,go,good,goodbye,happy,hearing,hello,help,home,how,know,learn,like,love,meet,milk,more,"
    "mother,my,name,need,nice,no,please,sad,school,sign,sister,sleep,sorry,stop,tea,thank you,time,"
    "today,tomorrow,understand,wait,want,water,what,when,where,who,why,work,yes,yesterday,you".split(
        ","
    )
)
LEAST_SIGNERS, LEAST_EVERYDAY = 7, 5
_JOINED = 0.05  # share of a group's clips that are copies of another's recordings
# Frames a second of landmark files, by WLASL's source; docs/reports/landmark-files.md has how they
# were found.
_FPS = {
    "aslbrick": "30",
    "asldeafined": "30",
    "aslsearch": "30",
    "aslsignbank": "24",
    "elementalasl": "24",
    "signingsavvy": "30",
    "signschool": "27",
    "spreadthesign": "25",
    "startasl": "30",
}
_WEBCAM_FPS = "15"


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong use or tables that can't be read."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 2:
        print("use: python -m offline.builtin_labels DATA OUT", file=sys.stderr)
        return 2
    data, out = map(Path, arguments)
    try:
        manifest = _table(data / "manifest.csv")
        synonyms = read_synonyms(data / "wlasl" / "WLASL_v0.3.json", EVERYDAY, ONE_SIGN)
        lines = list(read_lines(data, manifest, synonyms))
    except OSError as exc:
        print(f"builtin_labels: {exc.filename}: {exc.strerror}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, ValueError) as exc:
        print(f"builtin_labels: {data}: its tables lack {exc}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    glosses = glosses_to_learn(lines)
    (out / "glosses.txt").write_text("".join(f"{gloss}\n" for gloss in glosses), encoding="utf-8")
    card = json.loads(Path(__file__).with_name("builtin_card.json").read_text(encoding="utf-8"))
    words = synonyms.words()
    card["data"]["same_sign"] = {gloss: words[gloss] for gloss in glosses if gloss in words}
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(f"{len(lines)} clips, {len(glosses)} glosses to recognise: {out}")
    return 0


def read_lines(data: Path, manifest: Sequence[Line], synonyms: Synonyms) -> Iterator[Line]:
    """The lines of labels.csv, paths relative to `data`, whose `manifest` is given."""
    wlasl = _table(data / "wlasl" / "landmarks.csv")
    signer = {line["video_id"]: line["group"] for line in wlasl}
    joined = _joined(manifest, signer)
    seen = set[tuple[object, str]]()

    def line(
        path: str, source: Line, video_id: str, group: str, wlasl_id: str = "", fps: str = ""
    ) -> Line:
        return {
            "path": path,
            "gloss": synonyms.sign(source["gloss"], wlasl_id),
            "video_id": video_id,
            "split": source.get("split", ""),
            "group": joined.get(group, group),
            "caption_risk": source.get("caption_risk", "0"),
            "fps": fps,
        }

    for clip in manifest:
        corpus = "wlasl" if clip["corpus"] == "wlasl" or clip["copy_of"] else "other"
        name = f"{corpus}/videos/{Path(clip['path']).stem}"
        wlasl_id = clip["copy_of"].removeprefix("wlasl:") or clip["video_id"]
        yield line(clip["path"], clip, name, _signer_of(clip, signer), wlasl_id)
    for clip in wlasl:
        wlasl_id = clip["video_id"]
        name = f"wlasl/landmarks/{wlasl_id}"
        fps = _FPS[clip["source"]]
        labelled = line(f"{name}.npz", clip, name, clip["group"], wlasl_id, fps)
        shown = synonyms.recording_of.get(wlasl_id, wlasl_id), labelled["gloss"]
        yield labelled | ({"split": EXTRA} if shown in seen else {})
        seen.add(shown)
    for clip in _table(data / "webcam" / "landmarks.csv"):
        name = f"webcam/landmarks/{clip['file']}"
        yield line(name, clip, name.removesuffix(".npz"), clip["group"], fps=_WEBCAM_FPS)


def glosses_to_learn(lines: Sequence[Line]) -> list[str]:
    """The glosses with many signer groups, and everyday ones with fewer."""
    signers: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        signers[line["gloss"]].add(line["group"])
    return sorted(
        gloss
        for gloss, groups in signers.items()
        if len(groups) >= (LEAST_EVERYDAY if gloss in EVERYDAY else LEAST_SIGNERS)
    )


def _signer_of(clip: Line, signer: dict[str, str]) -> str:
    """The group of a clip of the manifest: of a copy, the signer of the recording."""
    return signer.get(clip["copy_of"].removeprefix("wlasl:"), clip["group"])


def _joined(manifest: Sequence[Line], signer: dict[str, str]) -> dict[str, str]:
    """For each group that shares recordings with others: the first of their names."""
    clips = Counter(clip["group"] for clip in manifest)
    copies = Counter(
        (clip["group"], _signer_of(clip, signer)) for clip in manifest if clip["copy_of"]
    )
    sets = DisjointSet(sorted({name for pair in copies for name in pair}))
    for (group, other), count in copies.items():
        if count >= _JOINED * clips[group]:
            sets.merge(group, other)
    return {name: min(connected) for connected in sets.subsets() for name in connected}


def _table(file: Path) -> list[Line]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    raise SystemExit(main())
