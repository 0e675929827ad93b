"""Asks one question about every picture of a folder, through a running server, with Ray Data.

    pip install "ray[data]" requests
    illava serve -m text.gguf -mm mmproj.gguf -np 8
    python deploy/ray_data.py PICTURES "What is in the picture?" answers [--server URL] [--key KEY]

The answers are JSON lines: path, answer, tokens, error. A picture that cannot be asked about has its error in its line.
"""

import argparse
import base64
import time

import ray
import requests


class Ask:
    """Asks about one picture at a time; Ray runs as many of these as the server has slots."""

    def __init__(self, server, key, question):
        self.url = f"{server}/v1/chat/completions"
        self.session = requests.Session()
        if key:
            self.session.headers["Authorization"] = f"Bearer {key}"
        self.question = question

    def __call__(self, row):
        picture = base64.b64encode(row["bytes"]).decode()
        body = {
            "messages": [{
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"data:;base64,{picture}"}},
                    {"type": "text", "text": self.question},
                ],
            }],
            "temperature": 0,
            "max_tokens": 256,
        }
        result = {"path": row["path"], "answer": None, "tokens": None, "error": None}
        try:
            reply = self.ask(body)
        except (requests.RequestException, RuntimeError) as error:
            return result | {"error": str(error)}
        return result | {"answer": reply["choices"][0]["message"]["content"], "tokens": reply["usage"]["total_tokens"]}

    def ask(self, body, patience=120):
        """Comes back as often as the server says so: it is loading, or its queue is full."""
        end = time.monotonic() + patience
        while True:
            reply = self.session.post(self.url, json=body, timeout=600)
            if reply.ok:
                return reply.json()
            if reply.status_code not in (429, 503) or time.monotonic() > end:
                raise RuntimeError(reply.json()["error"]["message"])
            time.sleep(float(reply.headers.get("Retry-After", 1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures")
    parser.add_argument("question")
    parser.add_argument("answers", help="folder for the JSON lines")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--key")
    given = parser.parse_args()

    props = requests.get(
        f"{given.server}/props",
        headers={"Authorization": f"Bearer {given.key}"} if given.key else {},
        timeout=10,
    )
    props.raise_for_status()
    slots = props.json()["total_slots"]
    data = ray.data.read_binary_files(given.pictures, include_paths=True)
    answers = data.map(
        Ask,
        fn_constructor_args=(given.server, given.key, given.question),
        concurrency=slots,
        # The work is the server's.
        num_cpus=0.1,
    )
    answers.write_json(given.answers)


if __name__ == "__main__":
    main()
