"""Sphinx extension of this documentation: formulas, links, pictures, and the page of the command line."""

import itertools
import pkgutil
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

# Formulas as MathML, which browsers display without a script.


def to_mathml(tex: str, display: bool) -> str:
    """MathML of a formula."""
    bars = itertools.count()

    def with_side(match: re.Match[str]) -> str:  # docutils knows \Bigl( and \Bigr), but not \Big( and \Big)
        size, fence = match.groups()
        opens = fence in "([" or (fence == "|" and next(bars) % 2 == 0)
        return f"\\{size}{'l' if opens else 'r'}{fence}"

    return tex2mathml(re.sub(r"\\(big|Big)([]()[|])", with_side, tex), as_block=display)


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    writer.body.append(to_mathml(node.astext(), False))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula that stands alone."""
    writer.body.append(f'<div class="math">{to_mathml(node.astext(), True)}</div>')
    raise nodes.SkipNode


# Links. A name has one description, under the path that users import it from. Links may use any of its paths.


def find_description(target: str, described: Mapping[str, Any]) -> str | None:
    """The name under which the object at the path ``target`` is described."""
    if target in described:
        return described[target].node_id if described[target].aliased else target
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return None
    paths = getattr(found, "__mro__", [found])
    for name in [f"{path.__module__}.{path.__qualname__}" for path in paths if hasattr(path, "__qualname__")]:
        if name in described:
            return find_description(name, described)
    owner, _, attribute = target.rpartition(".")
    home = None if isinstance(found, type) else find_description(owner, described)
    return f"{home}.{attribute}" if f"{home}.{attribute}" in described else None


def resolve_link(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """A link to the description of a name that was given by another of its paths."""
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    paths = [node["reftarget"]]
    paths += [f"{node[scope]}.{node['reftarget']}" for scope in ("py:module", "py:class") if node.get(scope)]
    for path in paths:
        name = find_description(path, domain.objects)
        if name is not None:
            break
    else:  # a part of a path, if it ends the path of one description only
        ending = "." + node["reftarget"].lstrip(".")
        found = [name for name, entry in domain.objects.items() if name.endswith(ending) and not entry.aliased]
        if len(found) != 1:
            return None
        name = found[0]
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], name, node, contnode)


# The gallery.


def saved_pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Move the pictures that a block of an example has saved beside the page, for ``sphinx_gallery``."""
    from sphinx_gallery.scrapers import figure_rst

    moved = []
    for picture in sorted(Path(block_vars["src_file"]).parent.glob("*.png")):
        moved.append(next(block_vars["image_path_iterator"]))
        shutil.move(picture, moved[-1])
    return figure_rst(moved, gallery_conf["src_dir"])


# The page of the command line.


def write_command_line(app: Sphinx) -> None:
    """Write ``reference/generated/command-line.md`` from the commands themselves."""
    import typer

    from finetuner.cli.commands import app as commands

    page = Path(app.srcdir) / "reference" / "generated" / "command-line.md"
    lines = []
    for name, command in typer.main.get_command(commands).commands.items():
        context = command.context_class(command, info_name=f"finetuner {name}")
        lines += [f"## finetuner {name}\n", paragraph(command.help or "") + "\n"]
        if command.epilog:
            examples = command.epilog.partition("Examples:")[2].strip()
            lines.append(f"```console\n{examples}\n```\n")
        for option in command.params:
            record = option.get_help_record(context)
            if record is not None:
                lines.append(f"`{record[0]}`\n: {paragraph(record[1])}\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines))


def paragraph(text: str) -> str:
    """A help text as one paragraph of Markdown."""
    text = re.sub(r"([*_<\[])", r"\\\1", " ".join(text.replace("\b", "").split()))
    return re.sub(r"(?<!\S)(--[a-z-]+)", r"`\1`", text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add all of it to Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("missing-reference", resolve_link)
    app.connect("builder-inited", write_command_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
