"""People: first start, login, roles, lock, tokens, and requests that somebody forged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from flask import Flask

from edge_runtime.records import Records
from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.access import local_path
from edge_runtime.web.accounts import Accounts, AccountsError
from edge_runtime.web.sessions import LoginLimit, Sessions
from edge_runtime.web.station import Station
from tests.ui.scripted import ScriptedPredictor, scripted_bundle
from tests.ui.site import ADMINISTRATOR, PASSPHRASE, READER, SETUP_CODE, log_in, send, token_of

INSIDE = ["/", "/worklist", "/here", "/operating-point", "/model", "/account", "/people", "/log", "/summary"]


class Clock:
    """Seconds that a test moves on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fresh_app(predictor: ScriptedPredictor, records: Records, accounts: Accounts) -> Flask:
    config = WebConfig(setup_code=SETUP_CODE)
    return create_app(scripted_bundle(), predictor.as_predictor(), config, records, accounts)


def setup_form(client: object, **changes: str) -> dict[str, str]:
    form = {"code": SETUP_CODE, "name": "Ada", "passphrase": PASSPHRASE, "again": PASSPHRASE}
    return {**form, "csrf_token": token_of(client, "/setup"), **changes}  # type: ignore[arg-type]


def test_the_first_start_asks_for_an_administrator(fresh_app: Flask, accounts: Accounts) -> None:
    client = fresh_app.test_client()
    assert client.get("/").location == "/setup"
    for wrong in ({"code": "guess"}, {"again": "something else"}, {"passphrase": "short", "again": "short"}):
        assert client.post("/setup", data=setup_form(client, **wrong)).status_code == 400
    assert accounts.people == []
    assert client.post("/setup", data=setup_form(client)).location == "/"
    assert client.get("/").status_code == 200
    assert [(person.name, person.role) for person in accounts.people] == [("Ada", "administrator")]
    assert fresh_app.test_client().get("/setup").location == "/login"


@pytest.mark.parametrize("path", INSIDE)
def test_nothing_is_shown_without_a_login(site_app: Flask, path: str) -> None:
    response = site_app.test_client().get(path)
    assert response.status_code == 303
    assert response.location.startswith("/login")


@pytest.mark.parametrize(
    "path", ["studies", "revision", "confusion", "studies.csv", "operating-point", "studies/" + "0" * 32]
)
def test_the_api_asks_for_a_login_or_a_token(site_app: Flask, path: str) -> None:
    response = site_app.test_client().get(f"/api/v1/{path}")
    assert (response.status_code, response.get_json()["reason"]) == (401, "login")


def test_login_and_log_out(site_app: Flask) -> None:
    client, header = log_in(site_app, READER)
    cookie = client.get_cookie("edge-runtime")
    assert cookie is not None and cookie.http_only and cookie.same_site == "Strict"
    assert READER in client.get("/").text
    stolen = cookie.value
    assert client.post("/logout", data={"csrf_token": header["X-CSRFToken"]}).location == "/login"
    # the cookie that somebody copied before is worth nothing now
    thief = site_app.test_client()
    thief.set_cookie("edge-runtime", stolen)
    assert thief.get("/worklist").status_code == 303


def test_a_session_from_before_the_login_is_not_the_one_after(site_app: Flask) -> None:
    attacker = site_app.test_client()
    token_of(attacker)
    planted = attacker.get_cookie("edge-runtime")
    assert planted is not None
    victim = site_app.test_client()
    victim.set_cookie("edge-runtime", planted.value)
    form = {"csrf_token": token_of(victim), "name": READER, "passphrase": PASSPHRASE}
    assert victim.post("/login", data=form).status_code == 303
    attacker.set_cookie("edge-runtime", planted.value)
    assert attacker.get("/worklist").status_code == 303


def test_wrong_passphrases_are_slowed_down_and_logged(site_app: Flask, records: Records) -> None:
    client = site_app.test_client()
    codes = []
    for _ in range(6):
        form = {"csrf_token": token_of(client), "name": READER, "passphrase": "guessing all day"}
        codes.append(client.post("/login", data=form).status_code)
    assert codes == [401] * 5 + [429]
    form = {"csrf_token": token_of(client), "name": READER, "passphrase": PASSPHRASE}
    refused = client.post("/login", data=form)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 60
    assert sum(entry.action == "login failed" for entry in records.audit_entries()) == 5


def test_the_limit_is_per_sender_and_ends() -> None:
    clock = Clock()
    limit = LoginLimit(clock)
    for _ in range(5):
        limit.failed("Ada", "192.0.2.1")
    assert limit.wait_seconds("ada", "192.0.2.1") > 0
    assert limit.wait_seconds("Ada", "192.0.2.2") == 0
    clock.now += LoginLimit.WINDOW_SECONDS + 1
    assert limit.wait_seconds("Ada", "192.0.2.1") == 0
    for sender in range(3000):
        limit.failed(f"name {sender}", f"2001:db8::{sender:x}")
    assert len(limit._failures) <= LoginLimit.REMEMBERED


def test_an_unused_session_locks_and_a_long_one_ends() -> None:
    clock = Clock()
    sessions = Sessions(idle_seconds=900, longest_seconds=3600, clock=clock)
    token = sessions.start("Ada")
    for _ in range(3):
        clock.now += 800
        assert sessions.find(token) == "Ada"
    clock.now += 800
    assert sessions.find(token, use=False) == "Ada"  # the page asked by itself: that is no use
    clock.now += 200
    assert sessions.find(token) is None
    token = sessions.start("Ada")
    for _ in range(4):
        clock.now += 850
        assert sessions.find(token) == "Ada"
    clock.now += 850
    assert sessions.find(token) is None


def test_what_the_page_asks_by_itself_keeps_no_session_alive(site_app: Flask) -> None:
    client, _ = log_in(site_app, READER)
    station: Station = site_app.extensions[Station.KEY]
    session = next(iter(station.sessions._sessions.values()))
    session.used -= 100
    before = session.used
    assert client.get("/api/v1/revision", headers={"X-Background": "1"}).status_code == 200
    assert session.used == before
    assert client.get("/api/v1/revision").status_code == 200
    assert session.used > before


@pytest.mark.parametrize("header", [{}, {"X-CSRFToken": "guessed"}])
def test_a_forged_request_changes_nothing(site_app: Flask, records: Records, header: dict[str, str]) -> None:
    client, _ = log_in(site_app, ADMINISTRATOR)
    assert send(client, headers=header).status_code == 400
    assert records.studies().total == 0
    change = {"change": "add", "name": "Eve", "role": "administrator", "passphrase": PASSPHRASE}
    assert client.post("/people", data=change, headers=header).status_code == 303
    assert "Eve" not in client.get("/people").text


def test_a_login_cannot_be_forged_either(site_app: Flask) -> None:
    client = site_app.test_client()
    response = client.post("/login", data={"name": READER, "passphrase": PASSPHRASE})
    assert response.location == "/login?stale=1"
    assert client.get("/worklist").status_code == 303


def test_a_reader_may_not_do_what_administrators_do(site_app: Flask, records: Records) -> None:
    client, header = log_in(site_app, READER)
    key = send(client, headers=header).get_json()["study"]
    for path in ("/people", "/log"):
        assert client.get(path).status_code == 403
    point = {"label": "COVID-19", "threshold": 0.4, "reason": "mine"}
    assert client.put("/api/v1/operating-point", json=point, headers=header).status_code == 403
    assert client.delete(f"/api/v1/studies/{key}", json={"reason": "mine"}, headers=header).status_code == 403
    assert records.study(key)
    assert client.post(f"/api/v1/studies/{key}/verdict", json={"verdict": "agree"}, headers=header).status_code == 200


def test_the_administrator_adds_changes_and_removes_people(site_app: Flask, records: Records) -> None:
    client, header = log_in(site_app, ADMINISTRATOR)
    add = {"change": "add", "name": "Grace", "role": "reader", "passphrase": "another good passphrase"}
    assert client.post("/people", data=add, headers=header).status_code == 200
    assert client.post("/people", data=add, headers=header).status_code == 400  # the name is taken
    other, _ = log_in(site_app, "grace", "another good passphrase")
    change = {"change": "passphrase", "name": "Grace", "passphrase": PASSPHRASE}
    assert client.post("/people", data=change, headers=header).status_code == 200
    assert other.get("/worklist").status_code == 303  # logged out with the old passphrase
    other, _ = log_in(site_app, "Grace")
    client.post("/people", data={"change": "remove", "name": "Grace"}, headers=header)
    assert other.get("/worklist").status_code == 303
    last = client.post("/people", data={"change": "remove", "name": ADMINISTRATOR}, headers=header)
    assert last.status_code == 400 and "last administrator" in last.text
    actions = [entry.action for entry in records.audit_entries()]
    assert {"person added", "passphrase changed", "person removed"} <= set(actions)


def test_ones_own_passphrase(site_app: Flask) -> None:
    client, header = log_in(site_app, READER)
    other, _ = log_in(site_app, READER)
    form = {"present": "not this one at all", "passphrase": "a new good passphrase", "again": "a new good passphrase"}
    assert client.post("/account", data=form, headers=header).status_code == 400
    form["present"] = PASSPHRASE
    assert client.post("/account", data=form, headers=header).status_code == 200
    assert client.get("/worklist").status_code == 200
    assert other.get("/worklist").status_code == 303
    log_in(site_app, READER, "a new good passphrase")


def test_a_program_has_a_token(site_app: Flask, accounts: Accounts) -> None:
    token, key = accounts.add_token("PACS", "reader", ADMINISTRATOR)
    client, header = site_app.test_client(), {"Authorization": f"Bearer {key}"}
    answer = send(client, headers=header)
    assert answer.status_code == 200
    listed = client.get("/api/v1/studies", headers=header).get_json()
    assert [study["key"] for study in listed["studies"]] == [answer.get_json()["study"]]
    assert client.put("/api/v1/operating-point", json={}, headers=header).status_code == 403
    assert client.get("/api/v1/studies", headers={"Authorization": "Bearer wrong"}).status_code == 401
    accounts.remove_token(token.id)
    assert client.get("/api/v1/studies", headers=header).status_code == 401


def test_what_is_kept_of_secrets(accounts: Accounts) -> None:
    accounts.add("Ada", "administrator", PASSPHRASE)
    _, key = accounts.add_token("PACS", "reader", "Ada")
    content = accounts.path.read_bytes()
    assert PASSPHRASE.encode() not in content and key.encode() not in content
    assert b"$argon2id$" in content
    assert stat.S_IMODE(accounts.path.stat().st_mode) == 0o600
    with pytest.raises(AccountsError):
        accounts.add("ADA", "reader", PASSPHRASE)
    assert accounts.check("Ada", "wrong passphrase here") is None
    assert accounts.check("nobody", PASSPHRASE) is None


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "", None]
)
def test_after_the_login_one_stays_here(site_app: Flask, wanted: str | None) -> None:
    with site_app.test_request_context():
        assert local_path(wanted) == "/"
        assert local_path("/worklist?sort=label") == "/worklist?sort=label"


def test_without_login_the_one_person_there_is_the_administrator(
    predictor: ScriptedPredictor, records: Records, tmp_path: Path
) -> None:
    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(), records)
    client = app.test_client()
    key = send(client).get_json()["study"]
    assert client.delete(f"/api/v1/studies/{key}", json={"reason": "test"}).status_code == 204
    assert client.get("/login").status_code == client.get("/people").status_code == 404
    assert {entry.actor for entry in records.audit_entries()} == {"local"}


def test_under_tls_cookies_are_secure_and_browsers_keep_to_it(predictor: ScriptedPredictor, accounts: Accounts) -> None:
    accounts.add("Ada", "administrator", PASSPHRASE)
    config = WebConfig(encrypted=True)
    app = create_app(scripted_bundle(), predictor.as_predictor(), config, accounts=accounts)
    response = app.test_client().get("/login", base_url="https://localhost")
    assert response.headers["Set-Cookie"].startswith("__Host-edge-runtime=")
    assert "Secure" in response.headers["Set-Cookie"]
    assert "max-age" in response.headers["Strict-Transport-Security"]


def test_pages_asked_for_at_once_after_the_login_share_one_token(site_app: Flask) -> None:
    """The browser fetches the page and what its service worker keeps in any order: none may take the other's token."""
    client = site_app.test_client()
    form = {"csrf_token": token_of(client), "name": READER, "passphrase": PASSPHRASE}
    assert client.post("/login", data=form).status_code == 303
    name = site_app.config["SESSION_COOKIE_NAME"]
    before = client.get_cookie(name)
    assert before is not None
    token = token_of(client, "/")
    client.set_cookie(name, before.value)  # as if another answer's cookie had come last
    assert client.get("/worklist").status_code == 200
    header = {"X-CSRFToken": token}
    assert client.post("/api/v1/predict", data={}, headers=header).get_json()["reason"] != "csrf"


def test_what_the_browser_keeps_knows_nobody(site_app: Flask) -> None:
    client, _ = log_in(site_app, READER)
    response = client.get("/away")
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert READER not in response.text and "csrf" not in response.text
