"""The API against its own description: every address is in it, and generated requests find no server error."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import pytest
from flask import Flask

from edge_runtime.records import Records
from edge_runtime.web.accounts import Accounts
from tests.ui.site import ADMINISTRATOR, send

SCHEMA = json.loads(files("edge_runtime.web").joinpath("openapi.json").read_text("utf-8"))


def test_every_address_of_the_api_is_described(site_app: Flask) -> None:
    routes = {
        (re.sub(r"<[^>]*:(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in site_app.url_map.iter_rules()
        if rule.rule.startswith("/api/") or rule.rule == "/metrics"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {
        (path, method)
        for path, item in SCHEMA["paths"].items()
        for method in item
        if method in ("get", "put", "post", "delete")
    }
    assert routes == described


def test_generated_requests_find_no_server_error(site_app: Flask, accounts: Accounts, records: Records) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    _, key = accounts.add_token("test", "administrator", ADMINISTRATOR)
    header = {"Authorization": f"Bearer {key}"}
    client = site_app.test_client()
    study = send(client, headers=header).get_json()["study"]
    schema = schemathesis.openapi.from_dict(SCHEMA)
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) == 17

    def check(operation: Any) -> None:
        @settings(
            max_examples=25,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(case=operation.as_strategy(), known=st.booleans())
        def run(case: Any, known: bool) -> None:
            if operation.method == "delete":
                case.path_parameters = {"key": "f" * 32}
            elif case.path_parameters and known:
                case.path_parameters = {"key": study}
            case.headers = {**(case.headers or {}), **header}
            response = case.call(app=site_app)
            assert response.status_code < 500, (operation.label, response.text)
            case.validate_response(response, checks=checks)

        run()

    for operation in operations:
        check(operation)
