"""Tables as people have them: CSV with commas, semicolons, tabs or bars, with or without Excel's "sep=" line, in UTF-8
or UTF-16.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ssrl.errors import UserError

DELIMITERS = (",", ";", "\t", "|")
SEP = "sep="  # the first line of a table that tells Excel its delimiter
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Row:
    """One row of a table: its values by column, and its location for messages."""

    where: str
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def whole_number(self, column: str) -> int:
        """A number from 1; spreadsheets may write it as 12.0 or, with decimal commas, as 12,0."""
        text = self[column]
        whole, _, fraction = text.replace(",", ".").partition(".")
        if not whole.isdecimal() or int(whole) < 1 or fraction.strip("0"):
            raise UserError(f"{self.where}: {column} is {text!r}; allowed are whole numbers from 1; fix the row")
        return int(whole)

    def second(self, column: str) -> float:
        """A time in seconds, also as 1:02 or 1:02:03.5, with a decimal point or comma."""
        text = self[column]
        parts = text.replace(",", ".").split(":")
        whole, last = parts[:-1], parts[-1]
        numeric = all(part.isdecimal() for part in whole) and re.fullmatch(r"\d+(\.\d*)?", last)
        if not numeric or len(parts) > 3 or any(float(part) >= 60 for part in parts[1:]):
            raise UserError(f"{self.where}: {column} is {text!r}; allowed are seconds, such as 62.5 or 1:02.5")
        return float(sum(float(part) * 60**power for power, part in enumerate(reversed(parts))))


def choose_columns(path: Path, *choices: tuple[str, ...]) -> tuple[str, ...]:
    """The first choice of columns that the table has, or the first of all."""
    header = next((line for line in _read_lines(path)[:2] if not line.strip().strip('"').lower().startswith(SEP)), "")
    return next((choice for choice in choices if _divides(header, choice)), choices[0])


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Read the rows of a table with at least `columns`; spaces are trimmed and empty lines skipped."""
    lines = _read_lines(path)
    skipped = 0
    delimiter = None
    if lines and lines[0].strip().strip('"').lower().startswith(SEP):
        delimiter = lines[0].strip().strip('"')[len(SEP) :] or "\t"  # a tab may have been trimmed
        lines, skipped = lines[1:], 1
    if delimiter not in DELIMITERS:
        delimiter = _find_delimiter(lines, columns)
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        yield from _parse_rows(path, records, columns, skipped)
    except csv.Error as error:
        line = skipped + records.line_num
        raise UserError(f"{path}, line {line}: not a CSV table ({error}); fix the line") from error


def _read_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8 ({error.reason}); save the table as CSV, UTF-8") from error


def _find_delimiter(lines: list[str], columns: tuple[str, ...]) -> str:
    """The delimiter that divides the header into `columns`; a comma if none does."""
    header = next((line for line in lines if line.strip()), "")
    return _divides(header, columns) or ","


def _divides(header: str, columns: tuple[str, ...]) -> str:
    """The delimiter that divides a header into `columns`; "" if none does."""
    for delimiter in DELIMITERS:
        cells = [cell.strip().strip('"').strip().lower() for cell in header.split(delimiter)]
        if set(columns) <= set(cells):
            return delimiter
    return ""


def _parse_rows(path: Path, records: Iterator[list[str]], columns: tuple[str, ...], skipped: int) -> Iterator[Row]:
    header: list[str] | None = None
    count = 0
    for values in records:
        number = skipped + records.line_num  # type: ignore[attr-defined]
        cells = [value.strip() for value in values]
        if not any(cells):
            continue
        if header is None:
            header = [cell.lower() for cell in cells]
            _check_header(path, header, columns)
            continue
        where = f"{path}, line {number}"
        if any(cells[len(header) :]):
            raise UserError(f"{where}: {len(cells)} cells under {len(header)} columns; quote values with commas")
        row = Row(where, dict(zip(header, cells, strict=False)))
        for column in columns:
            if not row[column]:
                raise UserError(f"{where}: {column} is empty; each row needs {', '.join(columns)}")
        count += 1
        yield row
    if not count:
        raise UserError(f"{path} has no rows; it needs the columns {', '.join(columns)} and at least one row")


def _check_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        raise UserError(
            f"{path}, line 1: missing columns {', '.join(missing)}, found {', '.join(map(repr, header))}; needed are "
            f"{', '.join(columns)}, separated by commas"
        )
    duplicates = sorted({column for column in header if column and header.count(column) > 1})
    if duplicates:
        raise UserError(f"{path}, line 1: duplicate columns {', '.join(duplicates)}; remove or rename them")
