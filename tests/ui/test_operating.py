"""The operating point on curves as real bundles have them: coarse, of few cases, strange, or none; and whose choice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.records import Records
from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.operating import curve_of, described, strange_curve, wilson
from edge_runtime.web.server import listening
from tests.ui.scripted import LABELS, ScriptedPredictor, coarse_curve, operating_curve, scripted_bundle
from tests.ui.site import until

OpenPage = Callable[..., Any]
A_POINT = coarse_curve()["curves"]["COVID-19"][0]


def site(bundle: Bundle, records: Records) -> Any:
    """A page without a login."""
    return create_app(bundle, ScriptedPredictor().as_predictor(), WebConfig(), records)


def test_a_coarse_curve_is_put_in_order_and_counted() -> None:
    curve = curve_of(scripted_bundle(operating_curve=coarse_curve()).manifest)
    assert curve is not None
    body = described(curve)
    assert list(body["curves"]) == ["COVID-19"]  # a class without a point has nothing to choose on
    assert [point["threshold"] for point in body["curves"]["COVID-19"]] == [0.0, 0.4, 0.7, 0.9]
    assert body["cases"] == {"COVID-19": (7, 19)}
    assert body["curves"]["COVID-19"][1]["sensitivity"] == pytest.approx(wilson(6, 7))
    assert body["curves"]["COVID-19"][1]["specificity"] == pytest.approx(wilson(16, 19))


def test_what_a_build_writes_is_what_the_page_reads() -> None:
    """35 radiographs of one class, 90 of another, and 12 of a third, which is too few for a curve."""
    pytest.importorskip("torch", reason="torch is not installed: bundles are built elsewhere")
    from export.operating import operating_curve as built

    rng = np.random.default_rng(0)
    targets = np.repeat([0, 2, 1], [90, 35, 12])
    scores = rng.dirichlet([1, 1, 1], len(targets)) + 0.8 * np.eye(3)[targets]
    written = built(scores / scores.sum(1, keepdims=True), targets, LABELS)
    curve = curve_of(scripted_bundle(operating_curve=written).manifest)
    assert curve is not None and curve.radiographs == len(targets)
    body = described(curve)
    assert body["cases"] == {"normal": (90, 47), "COVID-19": (35, 102)}
    for points in body["curves"].values():
        assert points[0]["sensitivity"][0] == 1 and points[-1]["specificity"][0] == 1
        assert all(a["sensitivity"][0] >= b["sensitivity"][0] for a, b in pairwise(points))


@pytest.mark.parametrize(
    ("curve", "strange"),
    [
        (None, False),
        ({}, True),
        ({**operating_curve(), "newer": 1}, True),
        ({**operating_curve(), "curves": {"flu": [A_POINT]}}, True),
        ({**operating_curve(), "curves": {"COVID-19": [{**A_POINT, "threshold": 2}]}}, True),
    ],
    ids=["none", "empty", "newer", "other classes", "no probability"],
)  # fmt: skip
def test_without_a_usable_curve_the_page_says_so(records: Records, curve: Any, strange: bool) -> None:
    bundle = scripted_bundle(operating_curve=curve)
    assert curve_of(bundle.manifest) is None and strange_curve(bundle.manifest) is strange
    client = site(bundle, records).test_client()
    page = client.get("/operating-point").text
    said = "in a form that this program does not know" if strange else "carries no operating curve"
    assert said in page and 'id="curve"' not in page
    assert client.get("/api/v1/operating-point").get_json()["curve"] is None


@pytest.mark.parametrize("name", [None, "", "  ", 3, "x" * 61, "a\x00b"])
def test_without_a_login_a_change_needs_a_name(records: Records, name: Any) -> None:
    client = site(scripted_bundle(), records).test_client()
    point = {"label": "COVID-19", "threshold": 0.5, "reason": "test", "name": name}
    assert client.put("/api/v1/operating-point", json=point).status_code == 400
    assert client.put("/api/v1/operating-point", json={"label": None, "name": name}).status_code == 400
    assert records.setting_history("operating_point") == []


def test_the_log_says_that_a_name_is_nobodys_login(records: Records) -> None:
    client = site(scripted_bundle(), records).test_client()
    point = {"label": "COVID-19", "threshold": 0.5, "reason": "test", "name": " Ada "}
    assert client.put("/api/v1/operating-point", json=point).get_json()["point"]["actor"] == "Ada (no login)"
    client.put("/api/v1/operating-point", json={"label": None, "name": "Grace"})
    changes = [entry.actor for entry in records.audit_entries() if entry.action == "setting changed"]
    assert changes == ["Grace (no login)", "Ada (no login)"]


@pytest.mark.browser
def test_choosing_on_a_coarse_curve(open_page: OpenPage, records: Records) -> None:
    """Few cases are said, only counted thresholds can be chosen, and both intervals are drawn."""
    with listening(site(scripted_bundle(operating_curve=coarse_curve()), records)) as url:
        page = open_page(at=url + "operating-point")
        page.locator("#curve polyline").wait_for()
        assert page.get_by_text("This bundle has no curve of normal, pneumonia").is_visible()
        assert "7 radiographs of this class and 19 others" in page.locator("#few").inner_text()
        assert page.locator("#curve .dot-of-curve").count() == 4
        assert page.locator("#threshold-value").inner_text() == "40.0 %"  # the counted one nearest to one half
        slider = page.get_by_label("Threshold")
        slider.press("End")
        assert page.locator("#threshold-value").inner_text() == "90.0 %"
        assert slider.get_attribute("aria-valuetext") == "90.0 %"
        assert page.locator("#sensitivity").inner_text() == "29 % (8–64)"
        assert page.locator("#curve-here line").count() == 2
        page.get_by_label("Of 100 patients").fill("50")
        # 50 x 2/7 are marked; of the 19 others none is, which is no more than 17 in 100
        assert "about 14.3 (4–40) would be marked; 14.3 of them have it" in page.locator("#expected").inner_text()
        page.get_by_label("Why this point?").fill("Triage")
        page.get_by_role("button", name="Put in force").click()
        assert page.locator(".now").count() == 0  # the browser asks for the name first
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Put in force").click()
        page.locator(".now").get_by_text("COVID-19 from 90.0 % on").wait_for()
        # the page has been loaded anew: it is where the point stands, once its script has drawn it
        until(lambda: page.locator("#threshold-value").inner_text() == "90.0 %")
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Take back").click()
        page.get_by_text("None: no study is marked.").wait_for()


@pytest.mark.browser
def test_a_point_in_force_can_be_taken_back_without_a_curve(open_page: OpenPage, records: Records) -> None:
    with_curve = site(scripted_bundle(), records).test_client()
    point = {"label": "COVID-19", "threshold": 0.5, "reason": "test", "name": "Ada"}
    with_curve.put("/api/v1/operating-point", json=point)
    with listening(site(scripted_bundle(operating_curve=None), records)) as url:
        page = open_page(at=url + "operating-point")
        page.get_by_text("carries no operating curve").wait_for()
        page.get_by_label("Your name").fill("Grace")
        page.get_by_role("button", name="Take back").click()
        page.get_by_text("None: no study is marked.").wait_for()
