#!/bin/sh
# Asks a running server the task's questions with lmms-eval's model for OpenAI-compatible servers.
#   python3 -m venv ENV && ENV/bin/pip install -r tools/clients/lmms_eval/requirements.txt
#   illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf --port 8080
#   tools/clients/lmms_eval/run.sh ENV/bin/python http://127.0.0.1:8080/v1 [KEY]
# Ends with an error if any question got none, or if fewer than three quarters of the answers are right.
set -eu
python=$1 url=$2 key=${3:-none}
cd "$(dirname "$0")/../../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Nothing is fetched: the questions and their pictures are in this repository.
OPENAI_API_KEY=$key OPENAI_API_BASE=$url HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$out/cache \
    "$python" -m lmms_eval --model openai_compatible \
    --model_args "model_version=illava,base_url=$url,api_key=$key,timeout=120,num_concurrent=4" \
    --tasks illava_demo --include_path tools/clients/lmms_eval --batch_size 1 --log_samples --output_path "$out/results"

"$python" - "$out/results" <<'END'
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
results = json.loads(next(folder.rglob("*results.json")).read_text())["results"]["illava_demo"]
right = next(value for name, value in results.items() if name.startswith("exact_match,"))
samples = [json.loads(line) for path in folder.rglob("*samples*.jsonl") for line in path.read_text().splitlines()]
failed = [sample for sample in samples if "LMMS_EVAL_REQUEST_FAILED" in json.dumps(sample)]
print(f"{len(samples)} questions, {len(failed)} without an answer, {right:.3f} of the answers right")
sys.exit(0 if samples and not failed and right >= 0.75 else 1)
END
