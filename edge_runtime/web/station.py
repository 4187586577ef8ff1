"""What every request shares: the model, its queue, the limits, and the folder for uploads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from flask import current_app

from edge_runtime.bundle import Bundle
from edge_runtime.predictor import Predictor
from edge_runtime.radiograph import Radiograph
from edge_runtime.reading import read_radiograph
from edge_runtime.records import Records
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.config import WebConfig
from edge_runtime.web.metrics import Metrics
from edge_runtime.web.model_queue import ModelQueue
from edge_runtime.web.sessions import LoginLimit, Sessions

__all__ = ["Station", "current_station"]


@dataclass(frozen=True)
class Station:
    """The parts of one running page."""

    KEY: ClassVar[str] = "edge_runtime"

    bundle: Bundle
    predictor: Predictor
    config: WebConfig
    queue: ModelQueue
    folder: TemporaryDirectory[str]
    """Private (mode 0700); it goes when the station goes, at the latest when Python exits."""
    records: Records | None
    """None: the page keeps nothing."""
    accounts: Accounts | None
    """None: no login."""
    sessions: Sessions
    login_limit: LoginLimit
    metrics: Metrics
    read: Callable[[str | Path], Radiograph]
    """Reads a file: here, or in a process of its own."""

    @classmethod
    def create(
        cls,
        bundle: Bundle,
        predictor: Predictor,
        config: WebConfig,
        records: Records | None = None,
        accounts: Accounts | None = None,
        read: Callable[[str | Path], Radiograph] = read_radiograph,
    ) -> Station:
        """Make the queue and the private folder."""
        return cls(
            bundle=bundle,
            predictor=predictor,
            config=config,
            queue=ModelQueue(config.waiting_places, config.wait_seconds),
            folder=TemporaryDirectory(
                prefix="edge-runtime-uploads-", dir=config.upload_folder, ignore_cleanup_errors=True
            ),
            records=records,
            accounts=accounts,
            sessions=Sessions(config.idle_minutes * 60, config.session_hours * 3600),
            login_limit=LoginLimit(),
            metrics=Metrics(),
            read=read,
        )

    @property
    def uploads(self) -> Path:
        """The folder where an upload rests until its request ends."""
        return Path(self.folder.name)


def current_station() -> Station:
    """Return the station of the application that answers this request."""
    station: Station = current_app.extensions[Station.KEY]
    return station
