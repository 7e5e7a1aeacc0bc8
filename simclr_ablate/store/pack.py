"""A pack: one file with the results of a store's runs, without their weights. It is data, and nothing in it is run.

A pack is a zip archive of files of the store under their names there, and of `pack.json`, its manifest: the version of
the format, and the SHA-256 of every other member.

    .sweeps/NAME-HASH.json         the launches of the packed runs
    .choices/NAME-HASH/choice.json the choices that chose one of them
    RUN/experiment.json, pretraining.json, attempts.json, history.csv, metrics.jsonl, log.txt
    RUN/derived/NAME.npz           what was computed from the weights
    RUN/evaluations/KEY.json       the complete evaluations, and of each:
    RUN/evaluations/KEY/           attempts.json, history.csv, log.txt and, on request, examples.npz

Equal content has equal bytes: members are in order, without dates.

A pack may come from anyone. So nothing is taken from it before all of it has been checked: what its members are called,
what they are, how large they may be, and what they hold. The digests notice damage; they prove nobody's authorship.
"""

import hashlib
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NotRequired, Self, TypedDict

from simclr_ablate.config import ConfigError
from simclr_ablate.files import storing
from simclr_ablate.store import derived
from simclr_ablate.store.arrays import load_arrays
from simclr_ablate.store.contents import (
    choice_in,
    evaluation_in,
    experiment_in,
    json_in,
    launch_in,
    pretraining_in,
)
from simclr_ablate.store.records import ExperimentRecord, is_name, mismatch

FORMAT, VERSION = "simclr_ablate pack", 1
MANIFEST = "pack.json"

MOST_MEMBERS = 1_000_000
MOST_BYTES = {".json": 2**26, ".jsonl": 2**26, ".csv": 2**26, ".txt": 2**26, ".npz": 2**28}
"""How large a member may be, by the ending of its name."""
ALLOWANCE, MOST_RATIO = 2**26, 200
"""All members together may take ALLOWANCE, and MOST_RATIO times as much as the pack: our tables and logs shrink to a
tenth, bombs to a thousandth."""

LEAST_MEMBER = 150
"""The bytes that a member takes in a pack apart from its content: two headers with its name, and its digest."""
COMPRESSION = 9

LONGEST_NAME = 200
"""The most bytes in the name of a folder or a file."""

BESIDE = ("attempts.json", "history.csv", "metrics.jsonl", "log.txt")
"""Files of a task that no result rests on."""

_RUN = r"(?P<run>[a-z0-9-]+-[0-9a-f]{10})"
_KEY = r"(?P<key>[a-z0-9-]+-[0-9a-f]{8})"
_NAMES = {
    "sweep": r"\.sweeps/(?P<name>.+)\.json",
    "choice": r"\.choices/(?P<name>.+)/choice\.json",
    "experiment": rf"{_RUN}/experiment\.json",
    "pretraining": rf"{_RUN}/pretraining\.json",
    "derived": rf"{_RUN}/derived/(?P<name>{derived.NAME})\.npz",
    "evaluation": rf"{_RUN}/evaluations/{_KEY}\.json",
    "examples": rf"{_RUN}/evaluations/{_KEY}/examples\.npz",
    "beside": rf"{_RUN}/(evaluations/{_KEY}/)?({'|'.join(map(re.escape, BESIDE))})",
}
"""What members there are, each with the form of its name."""
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(UnicodeError, ValueError),
)
"""What zipfile raises for an archive that is damaged, or made to look odd."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""The first that an archive can have."""


class PackError(ConfigError):
    """A file is no pack, or not one that can be trusted to be whole. The message names it, and the member."""


class Manifest(TypedDict):
    """pack.json."""

    format: str
    version: int
    files: NotRequired[dict[str, str]]


class Pack:
    """A pack, opened for reading. Its members are those of its manifest, and have names and sizes that are allowed."""

    def __init__(self, path: Path, name: str = "") -> None:
        """name: what to call it in messages. Raises PackError, StorageError."""
        self.path, self.name = path, name or str(path)
        with storing(path), open(path, "rb") as file:
            size = file.seek(0, 2)
        try:
            with storing(path):
                self._archive = zipfile.ZipFile(path)
        except _DAMAGES as error:
            raise self._refused("it is no zip archive, or is cut short") from error
        try:
            self._members = self._checked_members(size)
            self._digests = self._manifest()
            self._kinds = {name: self._kind_of(name) for name in self._digests}
            self._keys: dict[str, list[str]] = {}
            self._derived: dict[str, list[str]] = {}
            for name, (kind, parts) in self._kinds.items():
                if kind == "evaluation":
                    self._keys.setdefault(parts["run"], []).append(parts["key"])
                elif kind == "derived":
                    self._derived.setdefault(parts["run"], []).append(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._archive.close()

    def names(self, kind: str = "") -> list[str]:
        """The members but the manifest, or those of a kind, in order."""
        return [name for name, (its, _) in self._kinds.items() if kind in ("", its)]

    @property
    def run_ids(self) -> list[str]:
        return [name.partition("/")[0] for name in self.names("experiment")]

    def keys(self, run_id: str) -> list[str]:
        """The run's evaluations."""
        return self._keys.get(run_id, [])

    def derived(self, run_id: str) -> list[str]:
        """The members with what was computed from the run's weights."""
        return self._derived.get(run_id, [])

    def has(self, name: str) -> bool:
        return name in self._kinds

    def read(self, name: str) -> bytes:
        """The content of a member. Raises PackError if it is not what was packed."""
        content = self._read(name)
        if hashlib.sha256(content).hexdigest() != self._digests[name]:
            raise self._refused(f"{name} does not match its digest in {MANIFEST}")
        return content

    def check(self) -> None:
        """Reads all of it. Raises PackError if a member does not hold what its name says."""
        experiments: dict[str, ExperimentRecord] = {}
        for name in sorted(self._kinds, key=lambda name: self._kinds[name][0] != "experiment"):
            kind, parts = self._kinds[name]
            content = self.read(name)
            try:
                if kind == "experiment":
                    if not self.keys(parts["run"]):
                        raise ValueError("its run has no complete evaluation")
                    experiments[parts["run"]] = experiment_in(content, parts["run"])
                elif "run" in parts and parts["run"] not in experiments:
                    raise ValueError("its run has no experiment.json")
                else:
                    self._check_content(kind, parts, content, experiments)
            except PackError:
                raise
            except ValueError as error:
                raise self._refused(f"{name}: {error}") from error

    def _check_content(
        self,
        kind: str,
        parts: Mapping[str, str],
        content: bytes,
        experiments: Mapping[str, ExperimentRecord],
    ) -> None:
        if kind == "sweep":
            launch_in(content)
        elif kind == "choice":
            choice_in(content)
        elif kind == "pretraining":
            pretraining_in(content, parts["run"])
        elif kind == "derived":
            derived.parsed(content, parts["run"], parts["name"])
        elif kind == "evaluation":
            evaluation_in(content, parts["run"], parts["key"], experiments[parts["run"]])
        elif "key" in parts and not self.has(f"{parts['run']}/evaluations/{parts['key']}.json"):
            raise ValueError("its evaluation has no result")
        elif kind == "examples":
            self._check_examples(parts["run"], parts["key"], content)

    def _check_examples(self, run_id: str, key: str, content: bytes) -> None:
        result = json_in(self.read(f"{run_id}/evaluations/{key}.json"))
        if result.get("examples") != hashlib.sha256(content).hexdigest():
            raise ValueError("it does not match the digest in the result")
        load_arrays(content)

    def extract(self, folder: Path) -> None:
        """Writes all members but the manifest below `folder`, a new one, without the care that a store takes."""
        for name in self.names():
            path = folder / name
            with storing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.read(name))

    def _checked_members(self, size: int) -> dict[str, zipfile.ZipInfo]:
        """The members by name. size: that of the pack, in bytes."""
        listed = self._archive.infolist()
        if len(listed) > MOST_MEMBERS:
            raise self._refused(
                f"it has {len(listed):,} members, at most {MOST_MEMBERS:,} are read"
            )
        members: dict[str, zipfile.ZipInfo] = {}
        for member in listed:
            if problem := _problem_of(member, members):
                raise self._refused(f"{member.orig_filename!r} {problem}")
            members[member.filename] = member
        total, most = sum(m.file_size for m in listed), ALLOWANCE + MOST_RATIO * size
        if total > most:
            raise self._refused(
                f"its {size:,} bytes would become {total:,}, at most {most:,} are read"
            )
        return members

    def _manifest(self) -> dict[str, str]:
        """The digests of all members but the manifest, by name, in order."""
        if MANIFEST not in self._members:
            raise self._refused(f"it has no {MANIFEST}")
        try:
            content = json_in(self._read(MANIFEST))
            problem = mismatch(content, Manifest)
        except ValueError as error:
            problem = str(error)
        if problem is not None or content["format"] != FORMAT:
            raise self._refused(f"{MANIFEST}: {problem or 'it is of another format'}")
        if content["version"] != VERSION:
            raise self._refused(
                f"its format is version {content['version']}, here it is {VERSION}: read it with "
                "the version of simclr_ablate that made it, or a later one"
            )
        digests: dict[str, str] = content.get("files", {})
        for name in sorted(digests.keys() ^ (self._members.keys() - {MANIFEST})):
            where = "is missing" if name in digests else f"is not in {MANIFEST}"
            raise self._refused(f"{name!r} {where}")
        return dict(sorted(digests.items()))

    def _kind_of(self, name: str) -> tuple[str, dict[str, str]]:
        """The kind of member that a name belongs to, and its parts. Raises PackError."""
        for kind, form in _NAMES.items():
            if match := re.fullmatch(form, name):
                parts = {key: part for key, part in match.groupdict().items() if part is not None}
                if is_name(parts.get("name", "name")) and not parts.get("name", "").startswith("."):
                    return kind, parts
        raise self._refused(f"{name!r} is no file of a pack")

    def _read(self, name: str) -> bytes:
        try:
            with storing(self.path):
                return self._archive.read(self._members[name])
        except _DAMAGES as error:
            raise self._refused(f"{name} is damaged: {error}") from error

    def _refused(self, problem: str) -> PackError:
        return PackError(f"{self.name} cannot be used as a pack: {problem}")


def is_pack(path: Path) -> bool:
    """Whether the file looks like a pack, whole or not."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False


def write(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Writes a pack of these members, in this order, and its manifest."""
    digests = {}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            digests[name] = hashlib.sha256(content).hexdigest()
            _add(archive, name, content)
        manifest: dict[str, Any] = {"format": FORMAT, "version": VERSION, "files": digests}
        _add(archive, MANIFEST, f"{json.dumps(manifest, indent=1)}\n".encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, _DATE)
    member.create_system = 3  # Unix, whatever the system
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    archive.writestr(member, content, zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION)


def _problem_of(member: zipfile.ZipInfo, earlier: Mapping[str, zipfile.ZipInfo]) -> str | None:
    """What is wrong with a member apart from what it holds, or None. earlier: those listed before it."""
    if member.filename in earlier:
        return "is there twice"
    if member.filename != member.orig_filename or _is_too_long(member.filename):
        return "has no proper name"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is a link or another special file"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in another way than packs are"
    most = MOST_BYTES.get(Path(member.filename).suffix, 0)
    if most and member.file_size > most:
        return f"is larger than {most:,} bytes"
    return None


def _is_too_long(name: str) -> bool:
    """Whether a folder could not hold the name, or that of its unfinished file."""
    return max(len(part.encode()) for part in name.split("/")) > LONGEST_NAME
