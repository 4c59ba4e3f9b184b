#!/usr/bin/env bash
# The address of a database stands, the driver behind it changes: SQLAlchemy 2.1 takes psycopg for `postgresql://`, 2.0 psycopg2.
#
# A sweep that keeps its trials in PostgreSQL names it by such an address, often through Optuna, which leaves the version of
# SQLAlchemy open. A new environment then asks for a package that the old one did not need, and fails though nothing of the
# project changed. Name the driver that is missing after asking SQLAlchemy for it, or write postgresql+psycopg://.
#
# Seen with SQLAlchemy 2.0.58 and 2.1.9, Python 3.11:
# SQLAlchemy 2.0.58: postgresql:// means psycopg2
# SQLAlchemy 2.1.9: postgresql:// means psycopg
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
seen=
for version in 2.0.58 2.1.9; do
  python3.11 -m venv "venv$version"
  "venv$version/bin/pip" install -q "SQLAlchemy==$version"
  driver=$("venv$version/bin/python" -c 'from sqlalchemy import make_url; print(make_url("postgresql://host/trials").get_dialect().driver)')
  echo "SQLAlchemy $version: postgresql:// means $driver"
  seen="$seen $driver"
done
[ "$seen" = " psycopg2 psycopg" ] || { echo "the drivers are others now"; exit 1; }
