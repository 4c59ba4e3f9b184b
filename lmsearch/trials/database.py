"""A database of trials, and how long one that does not answer is waited for before it counts as away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.storages import RDBStorage

from lmsearch.errors import StorageError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

SERVER_S = 20  # seconds after which a server that does not answer is away; a lock, held meanwhile, is taken away after LOCK_S
LIBPQ = {"connect_timeout": SERVER_S, "tcp_user_timeout": 1000 * SERVER_S}  # s, ms
TIMEOUTS: dict[str, dict[str, int]] = {  # connection options by driver
    "pysqlite": {"timeout": 60},  # seconds for which a file is waited for that another process is writing to
    "psycopg": LIBPQ,
    "psycopg2": LIBPQ,
    "mysqldb": {"connect_timeout": SERVER_S},
    "pymysql": {"connect_timeout": SERVER_S},
}
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "mysqldb": "mysqlclient"}  # named otherwise by pip


def open_database(url: str) -> RDBStorage:
    """Open a database through SQLAlchemy; raise StorageError where it cannot be reached, or is in memory."""
    from sqlalchemy.engine import make_url  # slow to import, and a journal needs it not
    from sqlalchemy.exc import SQLAlchemyError

    try:
        parsed = make_url(url)
        shown = parsed.render_as_string(hide_password=True)
    except SQLAlchemyError as error:
        raise StorageError(f"storage={url!r} is not a database URL; such as sqlite:///trials.db") from error
    if _in_memory(parsed):
        raise StorageError(
            f"storage={shown!r} is in memory, so all trials would be lost; give a file, such as sqlite:///trials.db"
        )
    try:
        return RDBStorage(
            url, engine_kwargs={"pool_pre_ping": True, "connect_args": _timeouts(parsed)}
        )  # a restarted server: again
    except ImportError as error:
        driver = parsed.get_driver_name()
        package = DRIVERS.get(driver, driver)
        raise StorageError(f"storage={shown!r} needs the driver {driver}; install it with: pip install '{package}'") from error
    except (SQLAlchemyError, RuntimeError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StorageError(f"storage={shown!r} cannot be reached ({reason})") from error


def _timeouts(url: URL) -> dict[str, int]:
    """Return after how long a database counts as away, as options of its driver; what the URL itself says counts instead."""
    return {key: value for key, value in TIMEOUTS.get(url.get_driver_name(), {}).items() if key not in url.query}


def _in_memory(url: URL) -> bool:
    """Tell whether a database URL is of SQLite without a file."""
    database = url.database or ""
    nowhere = database == "" or ":memory:" in database or url.query.get("mode") == "memory"
    return url.get_backend_name() == "sqlite" and nowhere
