#!/usr/bin/env python3
"""Write the table of pretrained weights into the README, from their cards."""

from pathlib import Path

from lipzoo.info import pretrained_table

BEGIN, END = "<!-- pretrained: begin (tools/table.py writes this) -->", "<!-- pretrained: end -->"


def with_table(text: str) -> str:
    """``text`` with what stands between the markers replaced."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{pretrained_table()}\n{END}{after}"


if __name__ == "__main__":
    readme = Path(__file__).resolve().parents[1] / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
