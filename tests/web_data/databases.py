"""Where the tests keep a database: SQLite in a file, PostgreSQL behind a socket of its own."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

POSTGRESQL_PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("none"))


class SqlitePlace:
    """Where a test keeps an SQLite database."""

    def __init__(self, folder):
        self.file = folder / "instance" / "emotion.sqlite"
        self.url = f"sqlite:///{self.file}"
        self.aside = folder / "aside"

    def take_away(self):
        self.file.parent.rename(self.aside)
        self.file.mkdir(parents=True)

    def bring_back(self):
        shutil.rmtree(self.file.parent)
        self.aside.rename(self.file.parent)


class PostgresqlPlace:
    """Debian's PostgreSQL in a folder of its own, behind a socket there."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.data = self.folder / "data"
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-U", "postgres", "-A", "trust", "--no-sync")
        self.bring_back()

    def bring_back(self):
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-o", options, "-l", self.folder / "log", "-w", "start")

    def take_away(self):
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def empty(self):
        # less time than a new database takes
        with psycopg.connect(f"host={self.folder} user=postgres", autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def remove(self):
        self.take_away()
        shutil.rmtree(self.folder)

    def _run(self, program, *arguments):
        """Run a program of PostgreSQL, which refuses to run as root, as its own user."""
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, POSTGRESQL_PROGRAMS / program, "-D", self.data, *arguments]
        # a server that is started keeps what it inherits open, so it must not be a pipe
        nowhere = subprocess.DEVNULL
        subprocess.run(command, check=True, cwd="/", stdin=nowhere, stdout=nowhere, stderr=nowhere)
