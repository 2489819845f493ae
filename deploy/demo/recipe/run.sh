#!/bin/sh
# The whole recipe: texts, vocabulary, training, files. Interrupt it at will;
# run again, it goes on from the last checkpoint.
#
#   sh deploy/demo/recipe/run.sh [WORK_DIR]      (default: build/recipe)
#
# Needs python3-torch and python3-numpy. Further words go to train.py.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$here/../../../build/recipe}
[ $# -eq 0 ] || shift
python=${PYTHON:-/usr/bin/python3} # Debian's torch belongs to Debian's python
export PYTHONDONTWRITEBYTECODE=1

mkdir -p "$work"
[ -s "$work/heldout_stories.txt" ] || $python "$here/corpus.py" "$work"
[ -s "$work/vocab.json" ] ||
    $python "$here/tokenizer.py" train "$work/train.jsonl" "$work/vocab.json"
$python "$here/train.py" "$work" "$work/vocab.json" "$work/checkpoints" "$@"
for type in F32 MIX; do
    $python "$here/export.py" "$work/checkpoints/last.pt" \
        "$work/vocab.json" "$work/potluck-demo-$type.gguf" --type $type
done
