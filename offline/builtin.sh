#!/bin/sh
# Makes models/builtin and tests/bundles/heldout out of the project's clips, on two CPU cores.
#
#   offline/builtin.sh [DATA] [WORK]      (../shared/data, runs/builtin)
#
#   encode -> cross-validate -> train on all -> export
#                            -> train without the signers of fold 0 -> export (for the browser test)
#
# Five of the clips without signing are kept out of both heads, to measure false signs with.
set -eu
cd "$(dirname "$0")/.."
data=${1:-../shared/data}
work=${2:-runs/builtin}
python=${PYTHON:-.venv/bin/python}

index=$work/rows/index.csv
. offline/recipe.sh
resting=idle/activity_2,idle/make_up,idle/nasa,idle/pose_person,idle/wave_2

"$python" -m offline.encode --videos "$data" --labels "$data/manifest.csv" \
    --negatives "$data/negatives" --out "$work/rows"
# shellcheck disable=SC2086  # the options are words
"$python" -m offline.evaluate --index "$index" $head --cross-validate 5 --jobs 2 \
    --report "$work/cross_validation.json"
# shellcheck disable=SC2086
"$python" -m offline.train --index "$index" $head --split none --leave-out "$resting" \
    --card offline/builtin_card.json --report "$work/cross_validation.json" --out "$work/builtin.pt" &
first=$!
# shellcheck disable=SC2086
"$python" -m offline.train --index "$index" $head --split grouped --fold 0 --leave-out "$resting" \
    --card offline/builtin_card.json --report "$work/cross_validation.json" --out "$work/heldout.pt"
wait "$first"
"$python" -m offline.export --model "$work/builtin.pt" --out models/builtin
"$python" -m offline.export --model "$work/heldout.pt" --out tests/bundles/heldout --name heldout-23
