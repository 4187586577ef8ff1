"""``edge-runtime serve``: options, environment and file; what it refuses. The server itself is not started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_runtime.commands import serve
from edge_runtime.errors import UsageError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the server would have been started with."""
    from tests.ui.scripted import ScriptedPredictor, scripted_bundle

    seen: dict[str, Any] = {}

    class Opened:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __enter__(self) -> Any:
            return self.value

        def __exit__(self, *_: object) -> None:
            return None

    def fake_serve(*args: Any, **kwargs: Any) -> None:
        seen.update(kwargs, host=args[2], port=args[3])

    def open_bundle(*_: Any, **settings: Any) -> Opened:
        seen.update(settings)
        return Opened(scripted_bundle())

    def open_predictor(*arguments: Any) -> Opened:
        seen.update(threads=arguments[3])
        return Opened(ScriptedPredictor())

    monkeypatch.setattr(serve, "open_bundle", open_bundle)
    monkeypatch.setattr("edge_runtime.predictor.Predictor.open", open_predictor)
    monkeypatch.setattr("edge_runtime.web.server.serve", fake_serve)
    monkeypatch.setenv("EDGE_RUNTIME_SITE", str(tmp_path / "site"))
    return seen


def run(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(
        serve.command, ["bundle", *arguments], catch_exceptions=False, standalone_mode=False, **options
    )


def test_by_default_with_login_and_records_on_loopback(started: dict[str, Any], tmp_path: Path) -> None:
    run()
    assert (started["host"], started["port"], started["tls"]) == ("127.0.0.1", 8080, None)
    assert started["accounts"] is not None
    assert started["records"].site == tmp_path / "site"


def test_without_login_and_records(started: dict[str, Any], tmp_path: Path) -> None:
    run("--no-login", "--keep-nothing")
    assert started["accounts"] is started["records"] is None
    assert not (tmp_path / "site").exists()


def test_options_environment_and_file_in_this_order(started: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "page.toml"
    file.write_text("port = 9001\nlock-after = 5\nplaces = 3\nno-originals = true\n")
    environment = {"EDGE_RUNTIME_SERVE_PLACES": "4", "EDGE_RUNTIME_SERVE_PORT": "9002"}
    run("--config", str(file), "--port", "9003", env=environment)
    config = started["config"]
    assert (started["port"], config.waiting_places, config.idle_minutes) == (9003, 4, 5)
    assert config.keep_originals is False


@pytest.mark.parametrize("text", ["prot = 1", "port = ", "[[["])
def test_a_wrong_file_is_said_plainly(started: dict[str, Any], tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.toml"
    file.write_text(text)
    with pytest.raises(UsageError):
        run("--config", str(file))


def test_no_login_is_for_loopback(started: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs its login"):
        run("--no-login", "--host", "0.0.0.0")
    with pytest.raises(UsageError, match="belong together"):
        run("--tls-key", "key.pem")


def test_a_sites_certificate_is_used_where_others_come_in(started: dict[str, Any], tmp_path: Path) -> None:
    from edge_runtime.web.tls import init_tls

    init_tls(tmp_path / "site", ("localhost",))
    run("--host", "0.0.0.0")
    assert started["tls"] is not None and started["config"].encrypted
    run()
    assert started["tls"] is None


def test_little_memory_and_signed_bundles_only(started: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_runtime.backends.footprint import low_memory

    monkeypatch.setenv("EDGE_RUNTIME_LOW_MEMORY", "")  # and put back after the test
    run()
    assert (started["require_signature"], started["threads"], low_memory()) == (False, None, False)
    run("--low-memory", "--require-signature")
    assert (started["require_signature"], started["threads"], low_memory()) == (True, 1, True)
    run("--low-memory", "--threads", "2")
    assert started["threads"] == 2
