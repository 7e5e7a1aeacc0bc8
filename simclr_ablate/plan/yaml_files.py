"""Reading users' YAML files, in UTF-8 or UTF-16, with errors that name the file."""

import codecs
import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simclr_ablate.config import ConfigError, as_yaml

MOST_VALUES = 20_000
"""The most values in a file, with aliases expanded: a few bytes can stand for billions, which no sweep needs."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_yaml(path: Path, named: str) -> Any:
    """The file's content, as an OmegaConf container. named: the file's name in messages, such as `sweep=FILE`.

    The file is UTF-8, or UTF-16 if it begins with that byte order mark. Raises ConfigError if it cannot be read, is not
    YAML, gives a key twice, or expands to more than MOST_VALUES values.
    """
    text = read_yaml_text(path, named)
    try:
        return OmegaConf.create(text) if text.strip() else OmegaConf.create()
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{named} must be YAML: {_in_a_line(error)}") from error


def read_yaml_text(path: Path, named: str) -> str:
    """The text of a file that `read_yaml` accepts. Raises the same ConfigErrors."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{named} cannot be read: {error.strerror or error}") from error
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    try:
        text = content.decode(_MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{named} must be text in UTF-8: byte {error.start + 1} cannot be read"
        ) from error
    try:
        node = yaml.compose(text, _LOADER)
        size = _size(node, {}) if node is not None else 0
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{named} must be YAML: {_in_a_line(error)}") from error
    if size > MOST_VALUES:
        raise ConfigError(
            f"{named} must hold at most {MOST_VALUES:,} values, got {size:.3g} with aliases expanded"
        )
    return text


def line_of(text: str, path: Sequence[Any]) -> int:
    """The line of a value in YAML that `read_yaml` accepts, or of what is nearest around it.

    path: the keys and places in lists that lead to it.
    """
    node, line = yaml.compose(text, _LOADER), 1
    for step in path:
        found = next(
            ((mark, child) for names, mark, child in _children(node) if as_yaml(step) in names),
            None,
        )
        if found is None:
            break
        mark, node = found
        line = mark.line + 1
    return line


def line_in_sweep(file: Path, named: str, path: Sequence[Any]) -> int:
    """The line of a value in a sweep's file, or of what is nearest around it. Raises ConfigError.

    path: the keys and places in lists that lead to it in the sweep's section.
    """
    text = read_yaml_text(file, named)
    # With `# @package _global_`, the section is a part of the file.
    return max(line_of(text, path), line_of(text, ["sweep", *path]))


def _children(node: yaml.Node | None) -> Iterator[tuple[set[str], yaml.Mark, yaml.Node]]:
    """What is in a mapping or a list: its key or place, as written and by `as_yaml`; where it begins; its node."""
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield {key.value, as_yaml(_value_of(key))}, key.start_mark, child
    elif isinstance(node, yaml.SequenceNode):
        yield from (({str(k)}, child.start_mark, child) for k, child in enumerate(node.value))


def _value_of(node: yaml.Node) -> Any:
    """What a key stands for: 1, true, null or text."""
    with suppress(yaml.YAMLError):
        return yaml.constructor.SafeConstructor().construct_object(node)
    return node.value


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of config files, read by `read_yaml`. It has the name of Hydra's own class, which it replaces."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if not path.is_file():
            return super().load_config(config_path)
        stat = path.stat()
        content, text = _read_once(path, (stat.st_mtime_ns, stat.st_size))
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=copy.deepcopy(content),
            header=self._get_header_dict(text[:512]),
        )

    @classmethod
    def install(cls) -> None:
        """Makes Hydra read its files through this class, in this process."""
        Plugins.instance()  # registers Hydra's own class, which this one then replaces
        SourcesRegistry.instance().types[cls.scheme()] = cls


@functools.cache
def _read_once(path: Path, stamp: tuple[int, int]) -> tuple[Any, str]:
    """The content and text of a file; Hydra asks for both whenever it composes. stamp: changes with the file."""
    return read_yaml(path, str(path)), read_yaml_text(path, str(path))


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values under `node`, with those of an alias counted at each use.

    Raises ConstructorError if a mapping has a key twice, or a node contains itself.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if known.get(id(node)) == 0:
        raise _wrong(node, "an alias refers to a node that contains it")
    if id(node) not in known:
        known[id(node)] = 0
        children = node.value
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen = dict[Any, str]()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            # In Python, 1, 1.0 and true are one key.
            value = _value_of(key)
            if value is None:
                raise _wrong(key, "a key must not be null")
            other = seen.get(value)
            if other is not None:
                same = "is given twice" if other == key.value else f"is the same key as {other}"
                raise _wrong(key, f"the key {key.value} {same}")
            seen[value] = key.value


def _wrong(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _in_a_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, in line {error.problem_mark.line + 1}"
    return " ".join(str(error).split()) or type(error).__name__
