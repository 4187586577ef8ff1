"""Java stubs from Android's published API signatures (``api/current.txt``), to type-check the app without an SDK.

Only what the app can reach is written: the types it names, the types in their members' signatures, all supertypes.
What is left out can make the compiler find fault where there is none, never the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_TYPE = re.compile(r"\bandroid\.[\w.]+")
_ARGUMENTS = re.compile(r"(@(?!interface)[\w.]+) ?\([^()]*\) ?")
_ANNOTATION = re.compile(r"@(?!interface)[\w.]+ ")
_HEADER = re.compile(r"^  ([\w ]*?)(class|interface|enum|@interface) ([\w.]+)(<.*?>)?( .*)? \{$")
_ELSEWHERE = re.compile(r"\b(?:org\.(?:xmlpull|json|apache)|dalvik)\.")  # in Android, not in the JDK
_ELSEWHERE_TYPE = re.compile(rf" {_ELSEWHERE.pattern}[\w.]+")
_MARKER = "android.Stub"


@dataclass
class _Type:
    package: str
    name: str
    kind: str
    modifiers: str
    parameters: str
    ancestors: str
    members: list[str] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        return f"{self.package}.{self.name}"


def write_stubs(signatures: Path, wanted: Iterable[str], out: Path) -> list[Path]:
    """Write the stubs that the types named in ``wanted`` need; return the source files."""
    types = _read(signatures)
    seeds = _with_ancestors({name for w in wanted if (name := _resolve(w, types))}, types)
    seeds |= {name for name in types if name.rpartition(".")[0] in seeds}  # Bitmap.Config, View.MeasureSpec
    reached = {name for seed in seeds for member in types[seed].members for name in _named(member, types)}
    chosen = _with_ancestors(seeds | reached, types)
    files = [out / "android/Stub.java"]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    files[0].write_text("package android;\npublic final class Stub { private Stub() {} }\n")
    for name in sorted(chosen):
        if "." not in types[name].name:
            files.append(out / (name.replace(".", "/") + ".java"))
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            files[-1].write_text(f"package {types[name].package};\n{_source(types[name], chosen, types)}")
    return files


def _read(signatures: Path) -> dict[str, _Type]:
    types: dict[str, _Type] = {}
    package, current = "", None
    for line in signatures.read_text(encoding="utf-8").splitlines():
        if line.startswith("package "):
            package = line.split()[1]
        elif line.startswith("  ") and line[2] not in " }" and (header := _HEADER.match(_plain(line))):
            modifiers, kind, name, parameters, ancestors = header.groups()
            current = _Type(package, name, kind, modifiers.strip(), parameters or "", ancestors or "")
            current.ancestors = _ELSEWHERE_TYPE.sub("", current.ancestors)
            if package.startswith("android"):  # the JDK has the others
                types[current.full_name] = current
        elif current is not None and line.startswith("    "):
            current.members.append(_plain(line).strip())
    return types


def _plain(line: str) -> str:
    """A line without annotations: their arguments first, from the innermost parentheses outwards."""
    if not line.lstrip().startswith("field"):  # no constant: text stands in annotations alone
        line = re.sub(r'"[^"]*"', "", line)
    while "@" in line and (stripped := _ARGUMENTS.sub(r"\1 ", line)) != line:
        line = stripped
    return _ANNOTATION.sub("", line) if "@" in line else line


def _resolve(name: str, types: dict[str, _Type]) -> str | None:
    while name and name not in types:
        name = name.rpartition(".")[0]
    return name or None


def _named(text: str, types: dict[str, _Type]) -> set[str]:
    return {name for match in _TYPE.findall(text) if (name := _resolve(match, types))}


def _with_ancestors(names: set[str], types: dict[str, _Type]) -> set[str]:
    todo, done = list(names), set()
    while todo:
        name = todo.pop()
        if name not in done:
            done.add(name)
            one = types[name]
            outer = name.rpartition(".")[0]
            todo += _named(one.ancestors + one.parameters, types) | ({outer} if outer in types else set())
    return done


def _source(one: _Type, chosen: set[str], types: dict[str, _Type]) -> str:
    simple = one.name.rpartition(".")[2]
    lines = [f"{one.modifiers} {one.kind} {simple}{one.parameters} {_ancestors(one)} {{"]
    kept = [m for m in one.members if _named(m, types) <= chosen and not _ELSEWHERE.search(m)]
    if one.kind == "enum":
        lines.append(", ".join(m.split()[-1].rstrip(";") for m in kept if m.startswith("enum_constant")) + ";")
        kept = [m for m in kept if m.startswith("method") and not re.search(r"\b(valueOf|values)\(", m)]
    elif one.kind == "class":
        lines.append(f"protected {simple}({_MARKER} stub) {{ {_super(one, types)} }}")
    if one.kind != "@interface":
        lines += [_member(m, one, simple, types) for m in kept]
    lines += [
        _source(types[name], chosen, types)
        for name in sorted(chosen)
        if name.startswith(one.full_name + ".") and "." not in name[len(one.full_name) + 1 :]
    ]
    return "\n".join([*lines, "}\n"])


def _ancestors(one: _Type) -> str:
    """``extends A implements B C`` with commas between the interfaces."""
    words = re.findall(r"(?:[^\s<]|<[^<>]*(?:<[^<>]*>[^<>]*)*>)+", one.ancestors)
    text, listing = "", False
    for word in words:
        if word in ("extends", "implements"):
            text, listing = f"{text} {word} ", False
        else:
            text, listing = f"{text}{', ' if listing else ''}{word}", True
    return "" if one.kind == "@interface" else text


def _super(one: _Type, types: dict[str, _Type]) -> str:
    match = re.search(r"extends ([\w.]+)", one.ancestors)
    return f"super(({_MARKER}) null);" if match and match[1] in types else ""


def _member(member: str, one: _Type, simple: str, types: dict[str, _Type]) -> str:
    kind, _, rest = member.partition(" ")
    if kind == "field":
        found = re.match(r"(.*?) = (.*);(?: // .*)?$", rest)
        if found:
            return f"{found[1]} = {found[2]};"
        plain = rest.replace("final ", "").rstrip(";")
        type_ = plain.split()[-2]
        value = {"boolean": "false"}.get(
            type_, "0" if type_ in ("int", "long", "float", "double", "byte", "short", "char") else "null"
        )
        return f"{plain} = {value};"
    found = re.match(r"(.*?)([\w.]+)\((.*)\)( throws .*)?;$|(.*);", rest)
    assert found is not None and found[2], member
    names = _arguments(found[3])
    throws = found[4] or ""
    if kind == "ctor":
        return f"{found[1]}{simple}({names}){throws} {{ {_super(one, types)} }}"
    bodiless = one.kind == "interface" and not re.search(r"\b(default|static)\b", found[1])
    # Classes' abstract methods get a body: the file leaves out overrides that only repeat them.
    before = found[1] if one.kind == "interface" else found[1].replace("abstract ", "")
    return f"{before}{found[2]}({names}){throws}" + (";" if bodiless else " { throw new RuntimeException(); }")


def _arguments(text: str) -> str:
    depth, parts = 0, [""]
    for character in text:
        depth += (character == "<") - (character == ">")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return ", ".join(f"{part.strip()} p{number}" for number, part in enumerate(parts) if part.strip())
