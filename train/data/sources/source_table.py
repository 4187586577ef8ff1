"""Reading a source's table as it was downloaded: CSV in UTF-8 or ISO-8859-1, or an Excel sheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from train.data.rows import DataError

__all__ = ["need_file", "need_folder", "read_table"]


def need_folder(folder: Path, option: str, holds: str) -> Path:
    """Return ``folder``, or say what ``option`` should have named."""
    if not folder.is_dir():
        raise DataError(f"{option}: there is no folder {folder}", expected=f"a folder that holds {holds}")
    return folder


def need_file(folder: Path, option: str, names: Sequence[str]) -> Path:
    """Return the first of ``names`` that is in ``folder``."""
    need_folder(folder, option, names[0])
    for name in names:
        if (folder / name).exists():
            return folder / name
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "an empty folder"
    raise DataError(
        f"{option}: {folder} is not the folder of that source",
        got=found,
        expected=f"a folder that holds {' or '.join(names)}",
        remedy="see docs/data.md for what each option wants",
    )


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table as text; cells that are not there are empty.

    Raises
    ------
    DataError
        Unreadable, or one of ``columns`` is not in its header.
    """
    lines = _read_sheet(path) if path.suffix.lower() == ".xlsx" else _read_csv(path)
    header = [name.strip() for name in lines[0]] if lines else []
    absent = [name for name in columns if name not in header]
    if absent:
        raise DataError(
            f"{path} is not the expected table",
            got=f"columns {', '.join(header[:8]) or '(none)'}",
            expected=f"columns {', '.join(columns)}",
        )
    rows = [dict(zip(header, [*line, *[""] * len(header)], strict=False)) for line in lines[1:] if any(line)]
    return [{name: value.strip() for name, value in row.items()} for row in rows]


def _read_csv(path: Path) -> list[list[str]]:
    try:
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("iso-8859-1")  # Figure 1 writes degree signs so
        return list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table", got=str(error)) from error


def _read_sheet(path: Path) -> list[list[str]]:
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            f"{path} is an Excel sheet and openpyxl is not installed",
            remedy="pip install openpyxl, or save the sheet as CSV beside it and remove the .xlsx",
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            lines = book.worksheets[0].iter_rows(values_only=True)
            return [["" if cell is None else str(cell) for cell in line] for line in lines]
        finally:
            book.close()
    except Exception as error:  # openpyxl lets zip, XML and key errors of a damaged file through
        raise DataError(f"{path} cannot be read as an Excel sheet", got=str(error)) from error
