"""Has vLLM answer batches of requests in this process, and prints how long each batch took.

    .venv-peers/bin/python benchmarks/peers/vllm_in_process.py WORK.json

It runs in the peers' environment, which has none of this project's packages. `WORK.json` holds what
`vllm.LLM` is made with, and the batches: lists of requests with the path of a PNG, a prompt and a
number of new tokens. The last line that it prints is JSON: the seconds of each batch, and the
number of prompt tokens of each of its requests.
"""

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    llm = LLM(**work["model"])
    print(json.dumps([answer(llm, requests) for requests in work["batches"]]))


def answer(llm: LLM, requests: list[dict[str, Any]]) -> dict[str, Any]:
    conversations = [conversation(request) for request in requests]
    sampling = [
        SamplingParams(temperature=0, ignore_eos=True, max_tokens=request["new_tokens"])
        for request in requests
    ]
    began = time.monotonic()
    outputs = llm.chat(conversations, sampling, use_tqdm=False)
    seconds = time.monotonic() - began
    made = [len(output.outputs[0].token_ids) for output in outputs]
    wanted = [request["new_tokens"] for request in requests]
    if made != wanted:
        raise RuntimeError(f"vLLM made {made} tokens instead of {wanted}")
    prompts = [len(output.prompt_token_ids) for output in outputs]
    return {"seconds": seconds, "prompt_tokens": prompts}


def conversation(request: dict[str, Any]) -> list[dict[str, Any]]:
    png = base64.b64encode(Path(request["image"]).read_bytes()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}},
        {"type": "text", "text": request["prompt"]},
    ]
    return [{"role": "user", "content": content}]


if __name__ == "__main__":
    main()
