"""What docstrings say in the usual way of the field, made what Sphinx and numpydoc read."""

import re

from sphinx.domains.python import PyClasslike


def setup(app):
    """Register what follows."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _process, priority=100)  # before numpydoc
    app.connect("autodoc-skip-member", _skip)
    app.add_directive_to_domain("py", "class", _Class, override=True)
    return {"version": "1", "parallel_read_safe": True}


def _process(app, what, name, obj, options, lines):
    # (E, *, H) is a shape, not the beginning of words in italics.
    text = "\n".join(re.sub(r"(?<=[( ])\*(?=[,)])", r"\\*", line) for line in lines)
    lines[:] = with_shapes(text).split("\n")


def with_shapes(text: str) -> str:
    """The docstring with its section "Shapes", which numpydoc does not know, in "Notes".

    >>> with_shapes("Parameters\\n----------\\nx : int\\n\\nShapes\\n------\\n- x: (N, F)\\n")
    'Parameters\\n----------\\nx : int\\n\\n\\nNotes\\n-----\\n**Shapes**\\n\\n- x: (N, F)\\n'
    """
    heading = r"^{}\n-+\n"
    found = re.search(
        heading.format("Shapes") + r"(.*?)(?=^[A-Z][\w ]*\n---|\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        return text
    shapes = f"**Shapes**\n\n{found[1].strip()}\n"
    rest = text[: found.start()] + text[found.end() :]
    notes = re.search(heading.format("Notes"), rest, re.MULTILINE)
    if notes is not None:
        return f"{rest[: notes.end()]}{shapes}\n{rest[notes.end() :]}"
    # Before the references, which numpydoc wants last.
    last = re.search(r"^(?:References|Examples)\n-+\n", rest, re.MULTILINE)
    at = last.start() if last else len(rest)
    return f"{rest[:at]}\nNotes\n-----\n{shapes}" + (f"\n{rest[at:]}" if last else "")


def _skip(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to estimators: its documentation is elsewhere."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


class _Class(PyClasslike):
    """A class that stands on several pages: links to where it is defined lead to the first."""

    def run(self):
        known = self.env.domains["py"].objects.get(self.options.get("canonical"))
        if known is not None and known.docname != self.env.docname:
            del self.options["canonical"]
        return super().run()
