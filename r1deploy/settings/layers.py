"""What each source of settings says: a YAML document, the environment, flags; each is added to a merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath

from r1deploy.settings import schema, yamlfile
from r1deploy.settings.merge import Merge, Source
from r1deploy.settings.model import Precedence

PREFIX = "R1DEPLOY_"
# The lab's own variables begin with our prefix too, and are no settings.
LAB_PREFIX = f"{PREFIX}LAB_"


def add_document(merge: Merge, document: yamlfile.Document, kind: Precedence, forbidden: schema.Path = ()) -> None:
    """Add a file's values; ``forbidden`` is a key that must not be in it."""

    def walk(data: Mapping[object, object], above: schema.Path) -> None:
        for key, value in data.items():
            path = (*above, str(key))
            node = schema.nodes().get(path)
            if node is None or not isinstance(key, str) or path == forbidden:
                merge.unknown(path, document.where(path))
            elif node.kind == "section" and isinstance(value, Mapping):
                walk(value, path)
            else:
                _add_node(merge, node, value, lambda inner: Source(kind, document.where(inner)))

    walk(document.data, ())


def add_environment(merge: Merge, environ: Mapping[str, str]) -> None:
    """Add the variables ``R1DEPLOY_SECTION__KEY``."""
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(LAB_PREFIX):
            continue
        path = _environment_path(name.removeprefix(PREFIX))
        _add_one(merge, path, _parsed(path, environ[name]), Source("environment", name))


def add_flags(merge: Merge, flags: Mapping[str, object]) -> None:
    """Add the values of flags, by dotted path."""
    for name, value in flags.items():
        _add_one(merge, _flag_path(name), _plain(value), Source("flag", "command line"))


def value_from_text(path: str, text: str) -> object:
    """Return the value that ``text`` (of ``--set`` or a variable) means for the setting ``path``.

    Text settings take it as it is, others as a YAML value; for a boolean only true and false are one. ``null``, and
    nothing at all, unset what may be null; ``null`` removes a mapping's key.
    An unknown path gives the text back: ``load`` refuses it with its name.
    """
    return _parsed(tuple(path.split(".")), text)


def _add_node(merge: Merge, node: schema.Node, value: object, source: Callable[[schema.Path], Source]) -> None:
    """Add the value of a leaf or mapping, or refuse what is no section."""
    path = node.path
    if node.kind == "leaf":
        merge.put(path, value, source(path))
    # A section or mapping whose every line is commented out.
    elif value is None:
        return
    elif node.kind == "mapping" and isinstance(value, Mapping):
        _add_mapping(merge, path, value, source)
    else:
        expected = node.expected if node.kind == "section" else "lines of `key: value`"
        merge.bad(path, source(path).where, expected, value)


def _add_mapping(
    merge: Merge, path: schema.Path, value: Mapping[object, object], source: Callable[[schema.Path], Source]
) -> None:
    for key, item in value.items():
        inner = (*path, str(key))
        if isinstance(key, str) and key:
            merge.put(inner, item, source(inner))
        else:
            merge.bad(inner, source(inner).where, "a key of text (put it in quotes)", key)


def _add_one(merge: Merge, path: schema.Path, value: object, source: Source) -> None:
    """Add one value of a variable or flag."""
    known = schema.find(path)
    if known is None:
        merge.unknown(path, source.where)
        return
    node, rest = known
    if node.kind == "section":
        near = ", ".join(".".join((*path, name)) for name in schema.children(path))
        merge.refuse(path, source.where, f"a section; set one of {near}")
    elif node.kind == "leaf" or rest:
        merge.put(path, value, source)
    elif isinstance(value, Mapping):
        _add_mapping(merge, path, value, lambda _: source)
    else:
        merge.bad(path, source.where, "{KEY: value}", value)


def _environment_path(name: str) -> schema.Path:
    """``CONTAINER__SHM_SIZE`` → container, shm_size; a mapping's key stays as it is written."""
    parts = name.split("__")
    for end in (1, 2):
        path = tuple(part.lower() for part in parts[:end])
        node = schema.nodes().get(path)
        if node is not None and node.kind == "mapping":
            return (*path, "__".join(parts[end:])) if parts[end:] else path
    return tuple(part.lower() for part in parts)


def _flag_path(name: str) -> schema.Path:
    parts = name.split(".")
    for end in (1, 2):
        node = schema.nodes().get(tuple(parts[:end]))
        # The key of a mapping may have dots of its own: a URL.
        if node is not None and node.kind == "mapping" and parts[end:]:
            return (*parts[:end], ".".join(parts[end:]))
    return tuple(parts)


def _plain(value: object) -> object:
    """Return a flag's value as YAML would give it."""
    if isinstance(value, PurePath):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _parsed(path: schema.Path, text: str) -> object:
    """Return what ``text`` means at ``path``; the text itself where there is no such setting."""
    known = schema.find(path)
    if known is None:
        return text
    node, rest = known
    if node.kind == "mapping" and not rest:
        return yamlfile.scalar(text)
    if str in node.takes and not node.takes & {bool, int, float, list}:
        if type(None) in node.takes:
            return None if text in ("", "null") else text
        return None if text == "null" and node.kind == "mapping" else text
    if node.takes == {bool}:
        return {"true": True, "false": False}.get(text, text)
    return yamlfile.scalar(text)
