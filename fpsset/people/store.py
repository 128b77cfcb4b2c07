"""The file of a store: an SQLite database of people and faces, always whole, and private to its owner.

A change is one transaction: whenever a process is killed, the file holds the state before or after it. The
journal that SQLite keeps beside the file meanwhile (NAME-journal) belongs to it and goes when the change is
done. What is deleted is overwritten with zeros, and `wiped` rewrites the file without it.
"""

import contextlib
import json
import os
import pathlib
import sqlite3
import stat
import zlib
from collections.abc import Iterator

import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.runtime.disk import writing
from fpsset.runtime.progress import StepProgress

APPLICATION_ID = 0x66707365  # 'fpse', in the file's header
_FORMAT = 1
# A face of 512 channels takes a kilobyte, of which a page of the usual 4 KiB holds three and wastes a fifth.
_PAGE_BYTES = 1 << 16
_SUM_BYTES = 4
_WAIT_SECONDS = 120.0  # for another process's change
_TABLES = """
create table meta (key text primary key, value) without rowid;
create table sources (id integer primary key, name text not null unique);
create table people (id integer primary key autoincrement, name text not null unique);
create table descriptors (person integer primary key, norm real not null, vectors blob not null);
create table faces (
    id integer primary key autoincrement, person integer not null, source integer not null,
    place not null, medium integer not null, pinned integer not null, aside integer not null,
    mapped integer not null default 0, face blob not null
);
create index faces_of_people on faces (person);
create index faces_of_sources on faces (source, place);
"""


class Store:
    """An open store; `open_store` makes one.

    Attributes:
      path: of the file.
      sql: the connection, in autocommit mode; change the file inside `change` only.
    """

    def __init__(self, path: pathlib.Path, sql: sqlite3.Connection):
        """Takes over a connection to the file at `path`."""
        self.path, self.sql = path, sql

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Makes all that the block does one change: it takes place as a whole, or not at all.

        A change within a change is part of it.

        Raises:
          InputError: another process did not end its change in two minutes, or the disk is full.
        """
        if self.sql.in_transaction:
            yield
            return
        with self._as_input_errors():
            self.sql.execute("begin immediate")
            try:
                yield
                self.sql.execute("commit")
            except BaseException:
                if self.sql.in_transaction:
                    self.sql.execute("rollback")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Lets all reads in the block see one state of the file, whatever others write meanwhile."""
        with self._as_input_errors():
            self.sql.execute("begin")
            try:
                yield
            finally:
                if self.sql.in_transaction:
                    self.sql.execute("rollback")

    def get(self, key: str, default=None):
        """A setting of the store, as it was given to `put`."""
        row = self.sql.execute("select value from meta where key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def put(self, key: str, value) -> None:
        """Keeps a setting; None removes it.

        Args:
          key: its name.
          value: of JSON.
        """
        if value is None:
            self.sql.execute("delete from meta where key = ?", (key,))
        else:
            self.sql.execute("insert or replace into meta values (?, ?)", (key, json.dumps(value)))

    def row_type(self) -> np.dtype:
        """How a face is kept: its norm, and its unit embedding as float16 [D]."""
        return np.dtype([("norm", "<f4"), ("unit", "<f2", (int(self.get("dim", 0)),))])

    def unpacked(self, blobs: list[bytes], multiple: int) -> list[bytes]:
        """What `packed` made blobs of.

        Raises:
          InputError: a blob is not what was packed, or not a multiple of so many bytes; the file is damaged.
        """
        contents = [blob[:-_SUM_BYTES] for blob in blobs]
        for blob, content in zip(blobs, contents, strict=True):
            if blob[-_SUM_BYTES:] != _sum(content) or not content or len(content) % multiple:
                raise InputError(f"{self.path}: is damaged (a checksum is wrong); restore it from a copy")
        return contents

    def wipe(self) -> None:
        """Rewrites the file with nothing but what the store holds, so that no deleted byte is left in it."""
        with self._as_input_errors():
            self.sql.execute("vacuum")
        with self.change():
            self.put("wipe", None)

    def close(self) -> None:
        """Closes the file."""
        self.sql.close()

    @contextlib.contextmanager
    def _as_input_errors(self) -> Iterator[None]:
        with _as_input_errors(self.path):
            yield


def packed(content: bytes) -> bytes:
    """Bytes with their checksum, as they are kept: SQLite itself has none."""
    return content + _sum(content)


def _sum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_SUM_BYTES, "little")


@contextlib.contextmanager
def open_store(path: str | os.PathLike, create: bool = False) -> Iterator[Store]:
    """Opens the store in a file while the block runs.

    What a killed process had begun is undone first, and a file that others may read is closed to them.

    Args:
      path: of the file.
      create: whether to make a store where there is no file.

    Raises:
      InputError: there is no such store, it is damaged, or another user's or program's.
    """
    path = pathlib.Path(path)
    new = _prepared(path, create)
    with _as_input_errors(path):
        sql = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_WAIT_SECONDS
        )
        store = Store(path, sql)
        try:
            for setting in (
                "trusted_schema=off",
                "cell_size_check=on",
                "secure_delete=on",
                "cache_size=-65536",
            ):
                sql.execute(f"pragma {setting}")
            # Also waits until the removal of the journal, which is what makes a change final, is on the disk.
            sql.execute("pragma synchronous=extra")
            if new:
                sql.execute(f"pragma page_size={_PAGE_BYTES}")
            if sql.execute("pragma journal_mode=delete").fetchone()[0] != "delete":
                raise InputError(f"{path}: is open in another program; close it there")
            _require_ours(store, new)
            if store.get("wipe"):  # a process was killed before it had done so
                store.wipe()
            yield store
        except BaseException:
            if new:
                _remove_if_empty(store)
            raise
        finally:
            store.close()


def _prepared(path: pathlib.Path, create: bool) -> bool:
    """Whether the file is empty, after it was made if need be."""
    if not path.exists():
        if not create:
            raise InputError(f"{path}: no such store; make one by fpsset people {path} enrol FEATURES")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # another process may be faster
            os.close(os.open(path, flags, 0o600))
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{path}: is no file; give the file of a store")
    if state.st_uid != os.getuid():
        raise InputError(f"{path}: belongs to another user; a store is for its owner alone")
    if stat.S_IMODE(state.st_mode) & 0o077:
        path.chmod(0o600)
        if state.st_size:
            StepProgress.say(f"{path}: others could read it; now it is for its owner alone")
    return not state.st_size


def _require_ours(store: Store, new: bool) -> None:
    """Makes the tables of a new store; raises InputError if the file is not a store that we can read."""

    def header(name: str) -> int:
        return store.sql.execute(f"pragma {name}").fetchone()[0]

    if new:
        with store.change():
            if not header("schema_version"):  # no other process was faster
                for statement in _TABLES.split(";\n")[:-1]:
                    store.sql.execute(statement)
                store.sql.execute(f"pragma application_id={APPLICATION_ID}")
                store.sql.execute(f"pragma user_version={_FORMAT}")
    if header("application_id") != APPLICATION_ID:
        raise InputError(f"{store.path}: is the database of another program; give the file of a store")
    if header("user_version") != _FORMAT:
        raise InputError(f"{store.path}: was written by a later version of fpsset; upgrade to it")


def _remove_if_empty(store: Store) -> None:
    """Removes the file of a store that was made for what then failed, unless somebody is enrolled by now."""
    with contextlib.suppress(sqlite3.Error):
        store.sql.execute("begin exclusive")
        if not store.sql.execute("select 1 from meta").fetchone():
            store.path.unlink()
        store.sql.execute("rollback")


@contextlib.contextmanager
def _as_input_errors(path: pathlib.Path) -> Iterator[None]:
    """Turns SQLite's errors into one line that names the file and the fix."""
    try:
        with writing(path, "the store is as it was"):
            yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise InputError(f"{path}: is in use by another process; wait for it, and try again") from error
        fix = {
            sqlite3.SQLITE_FULL: "free some space, and run the same command again",
            sqlite3.SQLITE_READONLY: "make it and its folder writable",
            sqlite3.SQLITE_CANTOPEN: "make it and its folder readable and writable",
            sqlite3.SQLITE_IOERR: "check the disk, and run the same command again",
        }.get(code)
        if fix is None:
            raise InputError(f"{path}: is damaged ({first_line(error)}); restore it from a copy") from error
        raise InputError(f"{path}: {first_line(error)}; the store is as it was; {fix}") from error
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"{path}: is no store, or is damaged ({first_line(error)}); restore it from a copy"
        ) from error
