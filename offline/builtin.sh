#!/bin/sh
# Makes models/builtin and tests/bundles/heldout out of the project's clips, on two CPU cores.
#
#   offline/builtin.sh [DATA] [WORK] [--decisions]      (../shared/data, runs/builtin)
#
#   encode -> cross-validate -> train on all -> export
#                            -> train without the signers of fold 0 -> export (for the browser test)
#
# Five of the idle videos are kept out of both heads, to measure false signs with. With --decisions
# only the time to decision is measured, on rows and report of a run before: a head for each of five
# folds, each on the clips of the signers that it was not trained on. About 22 minutes, 15 of them
# to train; a head that is there is not trained again.
set -eu
cd "$(dirname "$0")/.."
data=${1:-../shared/data}
work=${2:-runs/builtin}
python=${PYTHON:-.venv/bin/python}

index=$work/rows/index.csv
head="--head landmarks --batch 64 --epochs 100 --lr 2e-3 --open-set --cards leave-out --min-clips 5 --heads 2 --seed 0 --threads 1"
idle=idle/activity_2,idle/make_up,idle/nasa,idle/pose_person,idle/wave_2

train() { # NAME OPTIONS: WORK/NAME.pt
    name=$1
    shift
    # shellcheck disable=SC2086  # the options are words
    "$python" -m offline.train --index "$index" $head --card offline/builtin_card.json \
        --report "$work/cross_validation.json" --out "$work/$name.pt" "$@"
}

fold() { # NUMBER: a bundle whose card lists the fold's clips as held out
    [ -d "$work/folds/$1" ] && return
    train "fold$1" --split grouped --fold "$1"
    "$python" -m offline.export --model "$work/fold$1.pt" --out "$work/folds/$1" --name "fold$1-23"
}

if [ "${3:-}" = --decisions ]; then
    (fold 0; fold 1) &
    first=$!
    fold 2
    fold 3
    wait "$first"
    fold 4
    "$python" -m offline.time_to_decision --data "$data" --jobs 2 \
        --report "$work/time_to_decision.json" "$work"/folds/[0-4]
    exit
fi

"$python" -m offline.encode --videos "$data" --labels "$data/manifest.csv" \
    --negatives "$data/negatives" --out "$work/rows"
# shellcheck disable=SC2086
"$python" -m offline.evaluate --index "$index" $head --cross-validate 5 --jobs 2 \
    --report "$work/cross_validation.json"
train builtin --split none --leave-out "$idle" &
first=$!
train heldout --split grouped --fold 0 --leave-out "$idle"
wait "$first"
"$python" -m offline.export --model "$work/builtin.pt" --out models/builtin
"$python" -m offline.export --model "$work/heldout.pt" --out tests/bundles/heldout --name heldout-23
