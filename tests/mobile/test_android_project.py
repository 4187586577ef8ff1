"""What can be checked of the Android project without an SDK: its Java's types, its resources, its pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.mobile.android_stubs import write_stubs
from tests.mobile.native_build import ANDROID, JAVA_SOURCES, NATIVE, need_jdk

pytestmark = pytest.mark.mobile

MAIN = ANDROID / "app/src/main"
NAMESPACE = "{http://schemas.android.com/apk/res/android}"


def test_app_type_checks_against_androids_signatures(tmp_path: Path) -> None:
    """API 29's signatures: what Debian's source package android-platform-frameworks-base has (docs/mobile.md)."""
    named = os.environ.get("CXR_ANDROID_API")
    if not named:
        pytest.skip("opt-in: CXR_ANDROID_API names no api/current.txt of Android")
    home = need_jdk()
    app = sorted(JAVA_SOURCES.rglob("*.java"))
    wanted = {n for file in app for n in re.findall(r"^import (android\.[\w.]+);", file.read_text(), re.MULTILINE)}
    assert len(wanted) >= 15
    (tmp_path / "R.java").write_text(resource_class())
    stubs = write_stubs(Path(named), wanted, tmp_path / "stubs")
    out = tmp_path / "classes"
    for options, files in (([], stubs), (["-Xlint:all,-processing,-deprecation"], [*app, tmp_path / "R.java"])):
        command = [home / "bin/javac", "--release", "11", "-encoding", "UTF-8", "-cp", out, *options, "-d", out, *files]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-6000:]
    assert "warning" not in done.stderr, done.stderr


def resource_class() -> str:
    """R as aapt2 generates it: the ids, layouts and strings that the resources define."""
    layouts = sorted((MAIN / "res/layout").glob("*.xml"))
    ids = sorted({name for file in layouts for name in re.findall(r'"@\+id/(\w+)"', file.read_text())})
    strings = re.findall(r'<string name="(\w+)"', (MAIN / "res/values/strings.xml").read_text())
    groups = {"id": ids, "layout": [file.stem for file in layouts], "string": strings}
    text = "package org.cxredge.demo;\npublic final class R {\n"
    for group, names in groups.items():
        fields = " ".join(f"public static final int {name} = {number};" for number, name in enumerate(names))
        text += f"public static final class {group} {{ {fields} }}\n"
    return text + "}\n"


def test_resources_and_manifest_link(tmp_path: Path) -> None:
    """aapt2 with the framework's resources, as Gradle would run it."""
    framework = Path("/usr/share/android-framework-res/framework-res.apk")
    if shutil.which("aapt2") is None or not framework.exists():
        pytest.skip("no aapt2 with framework resources here (Debian: apt-get install aapt android-framework-res)")
    manifest = tmp_path / "AndroidManifest.xml"
    text = (MAIN / "AndroidManifest.xml").read_text()
    # Gradle adds the package from `namespace`
    manifest.write_text(text.replace("<manifest ", '<manifest package="org.cxredge.demo" ', 1))
    link = ["link", "-o", tmp_path / "app.apk", "-I", framework, "--manifest", manifest, "--java", tmp_path]
    link += ["--min-sdk-version", "24", "--target-sdk-version", "29", tmp_path / "res.zip"]
    for command in (["compile", "--dir", MAIN / "res", "-o", tmp_path / "res.zip"], link):
        done = subprocess.run(["aapt2", *command], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and "error" not in done.stderr, done.stderr
    generated = (tmp_path / "org/cxredge/demo/R.java").read_text()
    for name in re.findall(r"public static final int (\w+)", resource_class()):
        assert re.search(rf"\b{name}=0x", generated), name


def test_no_permission_is_asked_for() -> None:
    manifest = ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    assert not [e.tag for e in manifest.iter() if "permission" in e.tag]
    application = manifest.find("application")
    assert application is not None and application.get(f"{NAMESPACE}allowBackup") == "false"
    activities = {e.get(f"{NAMESPACE}name") for e in manifest.iter("activity")}
    for name in activities:
        assert (JAVA_SOURCES / f"org/cxredge/demo/{str(name).removeprefix('.')}.java").exists()


def test_everything_is_pinned() -> None:
    gradle = (ANDROID / "app/build.gradle").read_text() + (ANDROID / "build.gradle").read_text()
    assert "pytorch_android_lite:2.1.0" in gradle and "ndkVersion" in gradle
    assert not re.search(r":\d+(\.\d+)*\+|latest|SNAPSHOT", gradle)
    wrapper = (ANDROID / "gradle/wrapper/gradle-wrapper.properties").read_text()
    assert re.search(r"^distributionSha256Sum=[0-9a-f]{64}$", wrapper, re.MULTILINE)


def test_numbers_of_status_and_refusal_are_the_headers() -> None:
    """The Java enums are read by their position: the order of the C header."""
    header = (NATIVE / "include/cxr_classifier.h").read_text()
    java = JAVA_SOURCES / "org/cxredge/classifier"
    for c_name, file in (("cxr_status", "Status.java"), ("cxr_refusal", "Refusal.java")):
        block = re.search(rf"typedef enum {c_name} \{{(.*?)\}} {c_name};", header, re.DOTALL)
        assert block is not None
        numbers = {name: int(value) for name, value in re.findall(r"CXR_(\w+) = (\d+)", block[1])}
        constants = re.findall(r"^    ([A-Z_0-9]+)[,;]", (java / file).read_text(), re.MULTILINE)
        assert len(constants) == len(numbers)
        for position, constant in enumerate(constants):
            name = {"BY_GATE": "REFUSED_BY_GATE"}.get(constant, constant)
            assert numbers[name] == position
