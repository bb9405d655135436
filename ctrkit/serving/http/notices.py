"""Addresses that an exchange calls when an auction is over, signed so that nobody else can spend.

An address has an HMAC (RFC 2104) with SHA-256 of the kind of notice, the campaign and the auction. The price
is not signed, as only the exchange knows it; it cannot be above the bid.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlencode

from ctrkit.errors import ConfigError, missing
from ctrkit.serving.campaigns.config import OpenRtbConfig
from ctrkit.serving.http.errors import Refusal

Kind: TypeAlias = Literal["win", "loss"]
# Shorter ones can be guessed.
_SHORTEST = 16


@dataclass(frozen=True)
class Exchange:
    """An exchange that asks by OpenRTB.

    Attributes:
        config: how its requests are read.
        secret: what signs its notices; all processes need the same one.
    """

    config: OpenRtbConfig
    secret: bytes = field(repr=False)

    @classmethod
    def read(cls, config: OpenRtbConfig, file: Path | None) -> Exchange:
        """The exchange, with the secret of a file.

        Raises:
            ConfigError: there is no file, it cannot be read, or its secret is too short.
        """
        if file is None:
            hint = "Write a random text into a file, and give it by --set notice_key=FILE"
            raise ConfigError("bids by OpenRTB need a secret that signs their notices", hint=hint)
        try:
            secret = file.read_bytes().strip()
        except FileNotFoundError:
            raise missing("config", file) from None
        except OSError as error:
            raise ConfigError("the file of the notices' key cannot be read", file=file) from error
        if len(secret) < _SHORTEST:
            raise ConfigError(f"the secret has fewer than {_SHORTEST} bytes", file=file)
        return cls(config, secret)

    def address(self, kind: Kind, campaign: str, auction: str) -> str:
        """The address of a notice, without what the exchange adds."""
        query = {"campaign": campaign, "auction": auction, "sign": self._sign(kind, campaign, auction)}
        return f"{self.config.notices.rstrip('/')}/openrtb/{kind}?{urlencode(query)}"

    def check(self, kind: Kind, campaign: str, auction: str, sign: str) -> None:
        """Check that an address of a notice is one of ours.

        Raises:
            Refusal: 403, it is not.
        """
        if not hmac.compare_digest(self._sign(kind, campaign, auction).encode(), sign.encode()):
            raise Refusal(403, "the signature is wrong", path="sign", hint="Call the address of the bid")

    def _sign(self, kind: Kind, campaign: str, auction: str) -> str:
        # Names of campaigns and auctions have no line breaks, so that no two notices have one text.
        text = f"{kind}\n{campaign}\n{auction}"
        return hmac.new(self.secret, text.encode(), sha256).hexdigest()
