"""Wait for a Kafka broker, create topics on it, and check the ones already there.

Speaks the three requests this needs (Metadata, CreateTopics, DescribeConfigs) over plain TCP, because a JVM started for
each call would cost a second or two. Understood by every broker from Kafka 2.4 on; no TLS, no SASL. Called by scripts/kafka.

    topics.py --brokers HOST:PORT,… [--wait SECONDS] [--pid PID] [--cluster ID] [NAME:PARTITIONS:POLICY[:MAX_MESSAGE_BYTES] …]

Prints a line for each topic. When it fails, prints one line on stderr and exits with 1 if the broker (of the cluster ID, if given)
does not answer in time or the process PID ended, with 3 if a topic exists with other settings: none is ever altered, as that could delete somebody's data.
"""

import argparse
import socket
import struct
import sys
import time
from dataclasses import dataclass

# (API key, version); the versions are old ones that every broker still answers.
METADATA, DESCRIBE_CONFIGS, CREATE_TOPICS = (3, 2), (32, 1), (19, 4)
TOPIC_EXISTS = 36
# What a broker that has just started may answer; the last means that it is not yet part of its cluster.
NOT_READY = {7: "REQUEST_TIMED_OUT", 41: "NOT_CONTROLLER", 38: "INVALID_REPLICATION_FACTOR"}
DEFAULT_MAX_MESSAGE_BYTES = 1_048_588  # Kafka's own default; said for each topic because the test broker allows far more
REQUEST_TIMEOUT_S = 10.0
RETRY_S = 0.05


class NotReady(Exception):
    """Worth asking again until the deadline."""


class Refused(Exception):
    """Asking again would not help."""


@dataclass
class Topic:
    name: str
    partitions: int
    policy: str
    max_message_bytes: int | None  # None: the default when created, not checked when it exists

    @classmethod
    def parse(cls, text: str) -> "Topic":
        name, partitions, policy, *limit = text.split(":")
        return cls(name, int(partitions), policy, int(limit[0]) if limit else None)

    def configs(self) -> dict[str, str]:
        return {"cleanup.policy": self.policy, "max.message.bytes": str(self.max_message_bytes or DEFAULT_MAX_MESSAGE_BYTES)}


def string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def array(items) -> bytes:
    items = list(items)
    return struct.pack(">i", len(items)) + b"".join(items)


class Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, layout: str):
        (value,) = struct.unpack_from(">" + layout, self.data, self.at)
        self.at += struct.calcsize(">" + layout)
        return value

    def string(self) -> str | None:
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def array(self, read):
        return [read() for _ in range(self.take("i"))]


class Broker:
    def __init__(self, address: tuple[str, int]):
        self.socket = socket.create_connection(address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, request: tuple[int, int], body: bytes) -> Reader:
        header = struct.pack(">hhi", *request, 1) + string("facetd-topics")
        self.socket.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        (size,) = struct.unpack(">i", self.read(4))
        return Reader(self.read(size)[4:])  # past the correlation id: one request is under way at a time

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise NotReady("the broker closed the connection")
            data += part
        return data

    def metadata(self, names: list[str]):
        """The cluster, its brokers, the controller, and partitions by topic for those that exist and have all their leaders."""
        answer = self.ask(METADATA, array(map(string, names)))

        def broker():
            node, host, port, _rack = answer.take("i"), answer.string(), answer.take("i"), answer.string()
            return node, (host, port)

        def partition():
            error = answer.take("h")
            answer.take("i"), answer.take("i")
            answer.array(lambda: answer.take("i")), answer.array(lambda: answer.take("i"))
            return error

        def topic():
            error, name, _internal = answer.take("h"), answer.string(), answer.take("b")
            return name, [error, *answer.array(partition)]

        brokers, cluster, controller = dict(answer.array(broker)), answer.string(), answer.take("i")
        leaders = {name: len(errors) - 1 for name, errors in answer.array(topic) if not any(errors)}
        return cluster, brokers, controller, leaders

    def create(self, topics: list[Topic]) -> set[str]:
        """Creates what is missing; returns the names that were there before."""
        wanted = array(
            string(t.name)
            + struct.pack(">ih", t.partitions, -1)  # -1: the broker's own default replication
            + array([])
            + array(string(k) + string(v) for k, v in t.configs().items())
            for t in topics
        )
        answer = self.ask(CREATE_TOPICS, wanted + struct.pack(">i?", int(REQUEST_TIMEOUT_S * 500), False))
        answer.take("i")
        results = answer.array(lambda: (answer.string(), answer.take("h"), answer.string()))
        for name, error, message in results:
            if error in NOT_READY:
                raise NotReady(f"topic {name}: {message or NOT_READY[error]}")
            if error not in (0, TOPIC_EXISTS):
                raise Refused(f"topic {name} cannot be created: {message or f'error {error}'}")
        return {name for name, error, _ in results if error == TOPIC_EXISTS}

    def configs(self, names: list[str], keys: list[str]) -> dict[str, dict[str, str]]:
        resources = array(struct.pack(">b", 2) + string(name) + array(map(string, keys)) for name in names)
        answer = self.ask(DESCRIBE_CONFIGS, resources + struct.pack(">?", False))
        answer.take("i")

        def entry():
            key, value = answer.string(), answer.string()
            answer.take("b"), answer.take("b"), answer.take("b")
            answer.array(lambda: (answer.string(), answer.string(), answer.take("b")))
            return key, value

        def resource():
            error, message, _kind, name = answer.take("h"), answer.string(), answer.take("b"), answer.string()
            entries = dict(answer.array(entry))
            if error:
                raise NotReady(f"topic {name}: {message or f'error {error}'}")
            return name, entries

        return dict(answer.array(resource))


def bring_about(bootstrap: list[tuple[str, int]], wanted_cluster: str | None, topics: list[Topic]) -> list[str]:
    """One attempt: a metadata answer from a broker, the topics created, all their leaders known, their settings checked."""
    problem = NotReady("no broker given")
    for address in bootstrap:
        try:
            with Broker(address) as broker:
                cluster, brokers, controller, _ = broker.metadata([])
            break
        except (OSError, NotReady) as e:
            problem = NotReady(f"{address[0]}:{address[1]}: {e}")
    else:
        raise problem
    if wanted_cluster not in (None, cluster):
        raise NotReady("another broker has this address")
    if controller not in brokers:
        raise NotReady("no controller yet")
    if not topics:
        return []

    with Broker(brokers[controller]) as broker:
        existing = broker.create(topics)
        names = [t.name for t in topics]
        *_, leaders = broker.metadata(names)
        without = [name for name in names if name not in leaders]
        if without:
            raise NotReady(f"topic {without[0]} has no leader yet")
        configs = broker.configs(names, list(topics[0].configs()))

    for t in topics:
        found = configs[t.name]
        differs = []
        if leaders[t.name] != t.partitions:
            differs.append(f"{leaders[t.name]} partitions, wanted {t.partitions}")
        for key, value in t.configs().items():
            checked = key != "max.message.bytes" or t.max_message_bytes is not None
            if checked and found.get(key) != value:
                differs.append(f"{key}={found.get(key)}, wanted {value}")
        if differs:
            raise Refused(f"topic {t.name} exists with {'; '.join(differs)}: delete it or choose another prefix")
    return [
        f"{t.name} partitions={leaders[t.name]} cleanup.policy={configs[t.name]['cleanup.policy']}"
        f" max.message.bytes={configs[t.name]['max.message.bytes']}{' (was there)' if t.name in existing else ''}"
        for t in topics
    ]


def address(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    return (host.strip("[]") or "127.0.0.1", int(port))


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return bool(f.read())  # empty: ended, and not yet collected by its parent
    except OSError:
        return False


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--brokers", required=True)
    arguments.add_argument("--wait", type=float, default=10.0)
    arguments.add_argument("--pid", type=int)
    arguments.add_argument("--cluster")
    arguments.add_argument("topics", nargs="*", type=Topic.parse)
    given = arguments.parse_args()

    socket.setdefaulttimeout(min(given.wait, REQUEST_TIMEOUT_S))
    deadline = time.monotonic() + given.wait
    while True:
        try:
            for line in bring_about([address(b) for b in given.brokers.split(",")], given.cluster, given.topics):
                print(line)
            return 0
        except (OSError, NotReady) as e:
            if given.pid and not alive(given.pid):
                print("kafka: the broker ended while starting", file=sys.stderr)
                return 1
            if time.monotonic() > deadline:
                print(f"kafka: no answer from {given.brokers} in {given.wait:g} s: {e}", file=sys.stderr)
                return 1
            time.sleep(RETRY_S)
        except Refused as e:
            print(f"kafka: {e}", file=sys.stderr)
            return 3


if __name__ == "__main__":
    sys.exit(main())
