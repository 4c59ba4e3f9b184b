"""What an exported file says of itself, as JSON in its metadata: network, classes, normalisation, directions, certificate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lmsearch import __version__
from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec, data_of
from lmsearch.errors import CheckpointError, short
from lmsearch.export.certificate import Certificate
from lmsearch.export.options import ExportOptions
from lmsearch.export.sizes import LEAST
from lmsearch.files import finite
from lmsearch.genotype import Genotype
from lmsearch.reading import parse_json

KEY = "lmsearch"  # of the metadata
SCHEMA, VERSION = "lmsearch.export", 1
NO_CERTIFICATE = "it carries no certificate of lmsearch; export the network again with `lmsearch export`"


@dataclass(frozen=True)
class Described:
    """An exported network: how to rebuild it, what was asked for, and the certificate of its outputs."""

    spec: ModelSpec
    info: DataInfo
    options: ExportOptions
    certificate: Certificate
    step: int | None = None  # with options.sizes: sides of images are multiples of it, in pixels,
    least: int = LEAST  # and at least so many steps
    lmsearch: str = __version__

    def to_json(self) -> str:
        """Return the text of the metadata; equal exports give equal text."""
        layers = Genotype.from_directions(self.spec.directions).layers
        content = {
            "schema": SCHEMA,
            "version": VERSION,
            "lmsearch": self.lmsearch,
            "class_names": list(self.info.class_names),
            "img_size": list(self.info.img_size),
            "mean": list(self.info.mean),
            "std": list(self.info.std),
            "genotype": [list(layer.directions) for layer in layers],
            "step": self.step,
            "least": self.least,
            "options": asdict(self.options),
            "model": asdict(self.spec),
            "certificate": asdict(self.certificate),
        }
        return json.dumps(finite(content))

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Described:
        """Rebuild from the text of the metadata; raise CheckpointError, naming `source`, for another version or a wrong entry."""
        content = parse_json(text, where=source, error=CheckpointError)
        if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
            raise CheckpointError(f"{source}: {NO_CERTIFICATE}")
        if content.get("version") != VERSION:
            raise CheckpointError(
                f"{source}: an export of version {short(content.get('version'))}, written by lmsearch {content.get('lmsearch')};"
                f" accepted: {VERSION}; export the network again"
            )
        spec = ModelSpec.from_dict(content.get("model"), source=source)
        try:
            options = ExportOptions(**content["options"])
            certificate = Certificate.from_dict(content["certificate"])
            step = int(content["step"]) if options.sizes else None
            least = int(content.get("least", LEAST))
            if least < 1 or (step is not None and step < 1):
                raise ValueError(f"step {step}, least {least}")
            return cls(spec, data_of(spec, source=source), options, certificate, step, least, str(content["lmsearch"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source}: {NO_CERTIFICATE}") from error
