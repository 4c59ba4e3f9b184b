"""The seal of an exported file: the SHA-256 of its bytes inside the file itself, so that one changed byte is noticed.

It stands in the file as a text, wherever the format has room for one; the digest is that of the file with zeros in its place.
"""

from __future__ import annotations

import hashlib
import re

from lmsearch.errors import CheckpointError

LABEL = "lmsearch-sha256:"
BLANK = LABEL + "0" * 64
PRINTED = re.compile(rb"lmsearch-sha256:[0-9a-f]{64}")
NO_SEAL = "it carries no certificate of lmsearch, or a damaged one; export the network again with `lmsearch export`"


def sealed(content: bytes) -> bytes:
    """Return a file with its digest in place of the BLANK that it holds once."""
    if PRINTED.findall(content) != [BLANK.encode()]:
        raise ValueError("a file to be sealed holds one blank seal")
    return content.replace(BLANK.encode(), f"{LABEL}{hashlib.sha256(content).hexdigest()}".encode())


def check_seal(content: bytes, *, source: str) -> None:
    """Raise CheckpointError, naming `source`, unless a file is what was written, byte for byte."""
    found = PRINTED.findall(content)
    if len(found) != 1:
        raise CheckpointError(f"{source}: {NO_SEAL}")
    digest = hashlib.sha256(content.replace(found[0], BLANK.encode())).hexdigest()
    if found[0] != f"{LABEL}{digest}".encode():
        raise CheckpointError(f"{source}: damaged or changed: its bytes are not those that were certified (SHA-256 differs)")
