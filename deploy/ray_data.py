"""Asks one question about every picture of a folder, through a running server, with Ray Data's HTTP request processor.

    pip install -r deploy/ray_data-requirements.txt
    illava serve -m text.gguf -mm mmproj.gguf -np 8
    python deploy/ray_data.py PICTURES "What is in the picture?" answers [--server URL] [--key KEY]

The answers are JSON lines: path, answer, tokens, error. A picture that cannot be asked about has its error in its line.
"""

import argparse
import base64

import ray
import requests
from ray.data.llm import HttpRequestProcessorConfig, build_processor


def asking(question):
    """A row with a picture's bytes to the request about it."""

    def preprocess(row):
        picture = base64.b64encode(row["bytes"]).decode()
        content = [
            {"type": "image_url", "image_url": {"url": f"data:;base64,{picture}"}},
            {"type": "text", "text": question},
        ]
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 256}
        return {"path": row["path"], "payload": body}

    return preprocess


def answer(row):
    """A row with the server's reply to a line of the output."""
    reply = row["http_response"]
    line = {"path": row["path"], "answer": None, "tokens": None, "error": None}
    # Rows of one batch have the fields of all of them.
    if reply.get("error") is not None:
        return line | {"error": reply["error"]["message"]}
    return line | {"answer": reply["choices"][0]["message"]["content"], "tokens": reply["usage"]["total_tokens"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures")
    parser.add_argument("question")
    parser.add_argument("answers", help="folder for the JSON lines")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--key")
    given = parser.parse_args()

    headers = {"Authorization": f"Bearer {given.key}"} if given.key else {}
    props = requests.get(f"{given.server}/props", headers=headers, timeout=10)
    props.raise_for_status()
    processor = build_processor(
        HttpRequestProcessorConfig(
            url=f"{given.server}/v1/chat/completions",
            headers=headers,
            # Each of these has one request under way.
            concurrency=props.json()["total_slots"],
            batch_size=8,
            # While the server loads, or its queue is full: the pause doubles each time.
            max_retries=8,
            # The work is the server's.
            http_request_stage={"num_cpus": 0.1},
        ),
        preprocess=asking(given.question),
        postprocess=answer,
    )
    pictures = ray.data.read_binary_files(given.pictures, include_paths=True)
    processor(pictures).write_json(given.answers)


if __name__ == "__main__":
    main()
