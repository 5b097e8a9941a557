"""A webhook that hears of what is wrong: every new finding is one POST of JSON.

    run.listen(Alert(url, "runs/demo", recipe.health))

The body holds the finding's fields with the run's name, and the same as a sentence under "text" (Slack,
Mattermost) and "content" (Discord). It is sent from a thread of its own, tried twice, and a failure is
logged: an alert never harms a run.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from acereason.config import Health
from acereason.errors import ConfigError
from acereason.health.memory import Memory
from acereason.health.rows import Finding

log = logging.getLogger(__name__)
EVERY = 1.0  # seconds between two looks, for steps of SFT are short
TIMEOUT = 10.0  # seconds of one try
PATIENCE = 15.0  # seconds that a run waits for its last alerts


def check(url: str) -> None:
    """ConfigError unless it is an http(s) address with a host."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"expected --alert to be an address like https://host/path, found {url!r}")


class Alert:
    """A listener of a run's rows that posts each finding once."""

    def __init__(self, url: str, run: str, limits: Health) -> None:
        check(url)
        self._url, self._run, self._memory = url, run, Memory(limits)
        self._told: set[tuple[str, str, str]] = set()
        self._looked = 0.0
        self._queue: queue.Queue[Finding | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="alert", daemon=True)
        self._thread.start()

    def __call__(self, kind: str, row: Mapping[str, Any]) -> None:
        self._memory.add(kind, row)
        if kind != "sft" or time.monotonic() - self._looked > EVERY:
            self._look()

    def close(self) -> None:
        """Look once more and wait for what is still to be sent."""
        self._look()
        self._queue.put(None)
        self._thread.join(PATIENCE)

    def _look(self) -> None:
        self._looked = time.monotonic()
        for one in self._memory.findings():
            key = (one.rule, one.severity, one.stage)
            if key not in self._told:
                self._told.add(key)
                self._queue.put(one)

    def _work(self) -> None:
        while (one := self._queue.get()) is not None:
            for last in (False, True):
                try:
                    self._post(one)
                    break
                except Exception as error:  # whatever it is, the run goes on
                    if last:
                        log.warning("the alert of %s could not be sent: %s", one.rule, error)

    def _post(self, one: Finding) -> None:
        text = (
            f"{self._run}: {one.severity} in {one.stage}, since step {one.since}. {one.sentence} {one.remedy}"
        )
        body = {"run": self._run, **one._asdict(), "text": text, "content": text}
        headers = {"Content-Type": "application/json", "User-Agent": "acereason"}
        request = urllib.request.Request(self._url, msgspec.json.encode(body), headers, method="POST")
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            answer.read(1)
