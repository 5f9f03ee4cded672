#!/bin/sh
# How soon last words come, and what that costs: each clip read by a head that met none of its signers.
#
#   offline/time_to_decision.sh [DATA] [WORK]      (../shared/data, runs/builtin)
#
#   rows and report of offline/builtin.sh -> five heads, a fold kept out of each -> export
#       -> offline.time_to_decision -> WORK/promptness.json, its figures as the last line
#
# About 22 minutes on two CPU cores: 15 to train, seven to read. A head that is there is not made
# again, and a clip that a head has read is not read by it again.
set -eu
cd "$(dirname "$0")/.."
data=${1:-../shared/data}
work=${2:-runs/builtin}
python=${PYTHON:-.venv/bin/python}
. offline/recipe.sh

fold() {
    [ -d "$work/folds/$1" ] && return
    # shellcheck disable=SC2086  # the options are words
    "$python" -m offline.train --index "$work/rows/index.csv" $head --split grouped --fold "$1" \
        --card offline/builtin_card.json \
        --report "$work/cross_validation.json" --out "$work/fold$1.pt"
    "$python" -m offline.export --model "$work/fold$1.pt" --out "$work/folds/$1" --name "fold$1-23"
}

(fold 0; fold 1) &
first=$!
fold 2
fold 3
wait "$first"
fold 4
"$python" -m offline.time_to_decision --data "$data" --jobs 2 --keep "$work/said" --report "$work/promptness.json" \
    "$work"/folds/0 "$work"/folds/1 "$work"/folds/2 "$work"/folds/3 "$work"/folds/4
