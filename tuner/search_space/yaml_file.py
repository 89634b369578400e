"""Reads YAML the way people write it: `1e-3` is a number, a key given twice is an error."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tuner.errors import SearchSpaceError, did_you_mean

_FLOAT = re.compile(
    r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
        |[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with numbers such as `1e-3`, without duplicate keys and without `on`/`off` as booleans."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: list[Any] = []
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is given twice", key_node.start_mark)
        seen.append(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def near_hint(path: Path) -> str:
    """A hint for a missing file: its nearest neighbour of the same kind, or the folder that was meant."""
    if path.parent.is_dir():
        return did_you_mean(
            path.name,
            [
                entry.name
                for entry in path.parent.glob("*.y*ml" if path.suffix in (".yaml", ".yml") else f"*{path.suffix}")
                if entry.is_file()
            ],
        )
    missing = path.parent
    while not missing.parent.is_dir():
        missing = missing.parent
    return did_you_mean(missing.name, [entry.name for entry in missing.parent.iterdir() if entry.is_dir()])


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises `SearchSpaceError` where the file is missing, a folder, not text, or not YAML; a syntax error
    names its line and column.
    """
    if path.is_dir():
        raise SearchSpaceError("a folder, where a YAML file is needed", place=str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SearchSpaceError("there is no such file", place=str(path), hint=near_hint(path)) from None
    except UnicodeDecodeError:
        raise SearchSpaceError("not a text file, where YAML is needed", place=str(path)) from None
    except OSError as error:
        raise SearchSpaceError(f"cannot be read: {error.strerror}", place=str(path)) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, place: str) -> Any:
    """The value of a YAML text; `SearchSpaceError` at `place` where it is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        raise SearchSpaceError(f"not valid YAML: {error.problem}", place=where) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SearchSpaceError(f"not valid YAML: {str(error).splitlines()[0]}", place=place) from None


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: a text such as `1e-3` is quoted."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def one_line(value: Any) -> str:
    """`value` as YAML on one line."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")


def dump_yaml(value: Any) -> str:
    """`value` as YAML text, keys in their order, short lists on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
