# How the built-in's heads are trained: words for offline.train and offline.evaluate. Sourced.
# shellcheck shell=sh disable=SC2034
head="--head landmarks --batch 64 --epochs 100 --lr 2e-3 --open-set --cards leave-out --min-clips 5 --heads 2 --seed 0 --threads 1"
