"""Answers by file: python examples/answers_by_file.py PROJECT.yaml

For a model on another network, or a person: questions are written in the OpenAI Batch format, answers are
read from it. No key is needed here. `lvlm-va critique --export` and `--import` do the same.
"""

import json
import re
import sys
from pathlib import Path

import lvlm_va


def answer(prompt: str) -> str:
    """Stands for whoever answers. This one condemns the first segment of every image, and says so twice."""
    numbers = sorted(set(re.findall(r"SEGMENT (\d+): ", prompt)))
    if numbers:  # the judge is given the critique, and answers in JSON
        verdicts = [
            {"segment": int(j), "spurious": j == "1", "reason": "as the critic says"} for j in numbers
        ]
        return json.dumps({"verdicts": verdicts})
    return "SEGMENT 1: SPURIOUS — the sticker\nSEGMENT 2: VALID — the part\nSEGMENT 3: VALID — the part"


project = lvlm_va.Project.from_yaml(sys.argv[1], {"critique.critic": "openai:gpt-4o"})
for name in ("critiques", "judgements"):
    exported = project.export_questions(f"{name}.jsonl")
    print(exported)
    # On the other network: one line for each question, with its custom_id. A batch's output looks like this.
    with Path(f"{name}-answers.jsonl").open("w", encoding="utf-8") as answers:
        for question in (line for file in exported.files for line in file.read_text("utf-8").splitlines()):
            asked = json.loads(question)
            message = {"role": "assistant", "content": answer(json.dumps(asked["body"], ensure_ascii=False))}
            body = {"model": "gpt-4o", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            line = {"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}}
            answers.write(json.dumps(line) + "\n")
    print(project.import_answers([answers.name]))
print(project.align())
