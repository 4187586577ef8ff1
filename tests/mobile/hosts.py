"""One list of files through each host, as a user's program would give them: comparable answers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.answer import answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.predictor import Predictor
from tests.mobile.native_build import NativeBuild
from tests.mobile.phone_page import Phone, StaticServer

SANITIZERS = {"ASAN_OPTIONS": "detect_container_overflow=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
SUPPRESSIONS = Path(__file__).parents[2] / "mobile_demo/native/tests/lsan.supp"


@dataclass(frozen=True)
class HostAnswer:
    """``label`` and ``probabilities`` [C] float64, or the ``reason`` of a refusal."""

    label: str | None
    probabilities: NDArray[np.float64]
    reason: str | None


def _answer(label: str | None, probabilities: Sequence[float] | None, reason: str | None) -> HostAnswer:
    return HostAnswer(label, np.array(probabilities or [], np.float64), reason)


def in_python(bundle: Path, artifact: str, files: Sequence[Path]) -> list[HostAnswer]:
    """``edge_runtime``, one thread."""
    answers = []
    with open_bundle(bundle) as opened, Predictor.open(opened, artifact, threads=1) as predictor:
        for file in files:
            answer = answer_file(predictor, file).answer
            reason = None if answer.reason is None else str(getattr(answer.reason, "value", answer.reason))
            values = None if answer.probabilities is None else list(answer.probabilities.values())
            answers.append(_answer(answer.label, values, reason))
    return answers


def cxr_classify(native: NativeBuild, *arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    """``cxr_classify --json``: its lines; no sanitizer may have spoken."""
    environment = {**SANITIZERS, "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS}:print_suppressions=0"}
    command = [native.program, *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr[-3000:]
    assert done.returncode == code, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_cpp(native: NativeBuild, bundle: Path, artifact: str, files: Sequence[Path]) -> list[HostAnswer]:
    """``cxr_classify``."""
    lines = cxr_classify(native, bundle, *files, "--artifact", artifact, "--threads", "1")
    return [_answer(line["label"], list((line["probabilities"] or {}).values()), line["reason"]) for line in lines]


def run_java(native: NativeBuild, classes: Path, home: Path, case: str, *arguments: str | Path) -> list[str]:
    """Run one case of ``DesktopTest`` with -Xcheck:jni; its lines."""
    command = [
        home / "bin/java", "-Xcheck:jni", "-Xmx1g", "-Djava.awt.headless=true", "-cp", classes,
        f"-Djava.library.path={native.folder / 'jni'}", "DesktopTest", case, *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    # -Xcheck:jni reports on standard output
    assert "WARNING" not in done.stdout and "FATAL" not in done.stdout, done.stdout[-3000:]
    return done.stdout.splitlines()


def in_java(java: Callable[..., list[str]], bundle: Path, artifact: str, files: Sequence[Path]) -> list[HostAnswer]:
    """The app's class on a desktop JVM; Java's own decoders."""
    answers = []
    for line in java("predict", bundle, artifact, *files):
        label, *values = line.split("\t")
        if label == "refused":
            answers.append(_answer(None, None, values[0]))
        else:
            answers.append(_answer(label, [float(value) for value in values], None))
    return answers


@contextmanager
def phone_with(browser: Any, site: Path, artifact: str) -> Iterator[Phone]:
    """A phone whose page answers with that artifact."""
    server = StaticServer(site)
    phone = Phone(browser, server.url)
    phone.context.add_init_script(f"localStorage.setItem('cxr artifact', '{artifact}')")
    phone.open()
    if phone.ready != artifact:
        pytest.fail(phone.page.locator("#failure-message").inner_text())
    yield phone
    server.stop()
    assert not phone.faults
    phone.close()


def in_browser(browser: Any, site: Path, artifact: str, files: Sequence[Path]) -> list[HostAnswer]:
    """The page, by what its card shows."""
    answers = []
    with phone_with(browser, site, artifact) as phone:
        labels = phone.page.evaluate("fetch('model/manifest.json').then((r) => r.json()).then((m) => m.labels)")
        for file in files:
            card = phone.answer(file)
            shown = card.get_attribute("data-probabilities")
            if shown is None:
                answers.append(_answer(None, None, card.get_attribute("data-reason")))
                continue
            label = card.locator("[data-part=label]").text_content()
            assert label in labels
            answers.append(_answer(label, json.loads(shown), None))
    return answers
