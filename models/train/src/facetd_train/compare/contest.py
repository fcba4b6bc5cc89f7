"""One method's way to its row: chosen on the training half, run once on the test half, under limits.

A method runs in a process of its own, so that neither its time nor its memory is anybody else's affair: it can be
stopped, and what it had tried until then counts.
"""

import resource
import signal
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

from facetd_train.compare.collection import Collection, Judged, goodness
from facetd_train.compare.method import Kind, Method, Setting
from facetd_train.data import Integers
from facetd_train.scores import Scores

GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    seconds: float = 600  # for choosing, and again for the run on the test half
    memory: float = 8  # GiB


@dataclass(frozen=True)
class Try:
    setting: Setting
    labels: Integers
    seconds: float  # what all settings share included


@dataclass(frozen=True)
class Tried:
    """What a method got done, and why it got no further: "" when it was done."""

    tries: list[Try]
    ended: str


@dataclass(frozen=True)
class Found:
    setting: Setting
    scores: Scores


@dataclass(frozen=True)
class Row:
    name: str
    kind: Kind
    note: str
    scores: Scores | None = None  # on the test half
    seconds: float = 0.0
    chosen: Found | None = None  # on the validation identities
    flattering: Found | None = None  # the best of all settings on the test half


def enter(method: Method, choosing: Judged, test: Judged, limits: Limits, flatter: bool) -> Row:
    notes = [method.note]

    def row(**more: object) -> Row:
        return Row(method.name, method.kind, "; ".join(filter(None, notes)), **more)

    if method.missing or not method.here:
        notes.append(f"not run: {method.missing or f'the package {method.package} is not installed'}")
        return row()
    chosen = None
    if len(method.settings) > 1:
        tried = attempt(method, choosing.collection, method.settings, limits)
        chosen = best(tried, choosing)
        if chosen is None:
            notes.append(tried.ended)
            return row()
        if tried.ended:
            notes.append(f"chosen among {len(tried.tries)} of {len(method.settings)} settings: {tried.ended}")
    setting = chosen.setting if chosen else method.settings[0]
    ran = attempt(method, test.collection, [setting], limits)
    if not ran.tries:
        notes.append(f"on the test half {ran.ended}")
        return row(chosen=chosen)
    flattering = None
    if flatter and len(method.settings) > 1:
        tried = attempt(method, test.collection, method.settings, limits)
        flattering = best(tried, test)
        if tried.ended:
            notes.append(f"best on test among {len(tried.tries)}: {tried.ended}")
    once = ran.tries[0]
    return row(scores=test.score(once.labels), seconds=once.seconds, chosen=chosen, flattering=flattering)


def best(tried: Tried, judged: Judged) -> Found | None:
    found = [Found(each.setting, judged.score(each.labels)) for each in tried.tries]
    return max(found, key=lambda one: goodness(one.scores), default=None)  # the first of equals


# What a process says: "ready", ("tried", setting's number, labels, seconds) for each, then "done" or ("failed", why).


def attempt(method: Method, collection: Collection, settings: Sequence[Setting], limits: Limits) -> Tried:
    context = get_context("spawn")  # a forked copy would share this one's threads and memory
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(method, collection, settings, limits, there), daemon=True)
    process.start()
    there.close()
    tries: list[Try] = []
    deadline = float("inf")  # it starts when all is imported
    try:
        while True:
            if not here.poll(min(max(0.0, deadline - time.monotonic()), 1e6)):
                return Tried(tries, f"more than {limits.seconds / 60:.3g} minutes")
            match here.recv():
                case "ready":
                    deadline = time.monotonic() + limits.seconds
                case ("tried", number, labels, seconds):
                    tries.append(Try(settings[number], labels, seconds))
                case "memory":
                    return Tried(tries, too_large(limits))
                case ("failed", why):
                    return Tried(tries, f"failed: {why}")
                case ("refused", why):
                    raise SystemExit(why)
                case "done":
                    return Tried(tries, "")
    except EOFError:
        process.join()
        if process.exitcode in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV):
            # How a process ends whose memory is refused where nobody asks whether it was given.
            return Tried(tries, f"{too_large(limits)} (signal {-process.exitcode})")
        return Tried(tries, f"failed: its process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()
        here.close()


def too_large(limits: Limits) -> str:
    return f"does not fit in {limits.memory:.3g} GiB"


def work(method: Method, collection: Collection, settings: Sequence[Setting], limits: Limits, say: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (round(limits.memory * GIB),) * 2)
    try:
        __import__(method.package)
        say.send("ready")
        started = time.monotonic()
        prepared = method.prepare(collection)
        shared = time.monotonic() - started
        for number, setting in enumerate(settings):
            started = time.monotonic()
            labels = method.cluster(prepared, setting)
            say.send(("tried", number, labels, shared + time.monotonic() - started))
        say.send("done")
    except SystemExit as refused:
        say.send(("refused", str(refused)))
    except MemoryError:
        say.send("memory")
    except Exception as error:
        if "memory" in str(error).lower():  # torch and onnxruntime have errors of their own
            say.send("memory")
        else:
            traceback.print_exc()
            say.send(("failed", f"{type(error).__name__}: {error}".splitlines()[0]))
