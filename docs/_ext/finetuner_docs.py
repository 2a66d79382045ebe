"""Sphinx extension of this documentation: formulas, links, pictures, and the page of the command line."""

import pkgutil
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

# Formulas as MathML, which browsers display without a script.


def to_mathml(tex: str, display: bool) -> str:
    """MathML of a formula."""
    tex = re.sub(r"\\(big|Big)([(\[])", r"\\\1l\2", tex)  # docutils knows \Bigl( and not \Big(
    tex = re.sub(r"\\(big|Big)([)\]])", r"\\\1r\2", tex)
    return tex2mathml(tex, as_block=display)


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    writer.body.append(to_mathml(node.astext(), False))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula that stands alone."""
    writer.body.append(f'<div class="math">{to_mathml(node.astext(), True)}</div>')
    raise nodes.SkipNode


# Links. A name has one description, under the path that users import it from. Links may use any of its paths.


def find_description(target: str, described: Any) -> str | None:
    """The name under which the object at the path ``target`` is described."""
    if target in described:
        return target
    owner, _, name = target.rpartition(".")
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return None
    paths = [found, *getattr(found, "__mro__", ())]
    names = [f"{o.__module__}.{o.__qualname__}" for o in paths if hasattr(o, "__qualname__")]
    if not isinstance(found, type) and (home := owner and find_description(owner, described)):
        names.append(f"{home}.{name}")
    return next((name for name in names if name in described), None)


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
            return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], name, node, contnode)
    return None


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
    import click
    import typer

    from finetuner.cli.commands import app as commands

    page = Path(app.srcdir) / "reference" / "generated" / "command-line.md"
    lines = []
    group = typer.main.get_command(commands)
    context = click.Context(group, info_name="finetuner")
    for name, command in group.commands.items():
        lines += [f"## finetuner {name}\n", plain(command.help or "") + "\n"]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                usage, text = option.get_help_record(context) or (", ".join(option.opts), option.help or "")
                lines.append(f"`{usage}`\n: {plain(text)}\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def plain(text: str) -> str:
    """Help of the command line as one paragraph of Markdown."""
    return re.sub(r"\s+", " ", text.replace("\b", "")).strip().replace("<", "&lt;").replace("*", "\\*")


def setup(app: Sphinx) -> dict[str, Any]:
    """Add all of it to Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("missing-reference", resolve_link)
    app.connect("builder-inited", write_command_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
