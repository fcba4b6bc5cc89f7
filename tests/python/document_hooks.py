"""Has schemathesis ask for faces and clusters that are there, so that every operation is also seen to succeed.

What is there comes in a file whose path is in DOCUMENT_SEEDS: {"dimension": 16, "kept": COLLECTION, "own":
{OPERATION: [COLLECTION, …], …}}, where a collection is {"name": …, "faces": [face_id, …], "clusters": [cluster_id, …]}
and an operation "DELETE /v1/…". Those with collections of their own happen there, and leave what others ask for as it
is. Cases that are meant to be wrong stay wrong. Every answer is a line of the file in DOCUMENT_ANSWERS: operation, tab,
status.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, Response

SEEDS = json.loads(Path(os.environ["DOCUMENT_SEEDS"]).read_text())
ANSWERS = Path(os.environ["DOCUMENT_ANSWERS"]).open("a", buffering=1)  # noqa: SIM115
EVENTS = "/v1/collections/{collection}/events"
FEW, MANY = 3, 10_000  # events: more than FEW there are at once, and fewer than MANY ever
# How often a case is about what is there; else it is about what schemathesis made up.
OFTEN = 0.8

chance = random.Random(1)


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    if case.operation.path == EVENTS and isinstance(case.query, dict):
        end_soon(case)
    kept = SEEDS["kept"]
    collection = chance.choice(SEEDS["own"].get(f"{case.method} {case.operation.path}", [kept]))
    path = case.path_parameters
    if isinstance(path, dict) and path.get("collection") == kept["name"]:
        # It was learnt from an answer.
        path["collection"] = collection["name"]
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE or chance.random() > OFTEN:
        return
    face, cluster = (lambda: chance.choice(collection["faces"])), (lambda: chance.choice(collection["clusters"]))
    there = {
        "collection": lambda: collection["name"],
        "face_id": face,
        "a": face,
        "b": face,
        "cluster_id": cluster,
        "embedding": lambda: [chance.gauss(0, 1) for _ in range(SEEDS["dimension"])],
    }
    for part in (path, case.query, case.body):
        if isinstance(part, dict):
            part.update({name: value() for name, value in there.items() if name in part})
            # A cursor is some page's, and cannot be made up.
            part.pop("after", None)


def end_soon(case: Case) -> None:
    """An answer ends with its limit, which so many events would have to come for: from the first on there are a few."""
    limit = case.query.setdefault("limit", 1)
    if isinstance(limit, int) and limit > FEW:
        case.query["limit"] = 1 + limit % FEW
    begin = case.query.setdefault("from", 1)
    # Those of long after are gone, which is an answer too.
    if isinstance(begin, int) and 1 < begin < MANY:
        case.query["from"] = 1
    for name, value in (case.headers or {}).items():
        if name.lower() == "last-event-id" and str(value).isdecimal() and int(value) < MANY:
            case.headers[name] = "0"


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    ANSWERS.write(f"{case.method} {case.operation.path}\t{response.status_code}\n")
