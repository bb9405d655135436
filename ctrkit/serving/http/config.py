"""Settings of a server."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from ctrkit.config import Config
from ctrkit.settings import Positive


class ServeConfig(Config):
    """How a model is served.

    Attributes:
        host: address that the server listens on; 0.0.0.0 for all of the machine's.
        port: its port; 0 for any free one.
        workers: number of processes. Workers times `parallel` should be as many as there are cores.
        parallel: number of requests that a process computes at once. Few requests find a free core sooner in
            one process, as a connection stays with its process; more processes answer more requests, as
            Python's own work in one is done one after another. Models in other formats than `onnx`, and
            imported ones, compute one at a time.
        threads: number of threads for one request.
        tokens: file of bearer tokens, `NAME:SCOPE,SCOPE:TOKEN` lines (see `ctrkit.serving.http.security`). By
            default all may ask all.
        campaigns: file of the campaigns that are bid for (see `ctrkit.serving.campaigns.config`). By default
            there are none.
        journal: folder in which decisions and events are kept (see `ctrkit.serving.feedback`). By default
            they are not.
        feedback_window: seconds after a decision at which it is compared with its events, for `ctrkit_pcoc`.
            What is told later does not count there.
        policy: who chooses one of the candidates of a request for scores, such as `softmax:temperature=0.1`
            (see `ctrkit.policies`). By default the caller does.
        notice_key: file of the secret that signs the notices of OpenRTB (see `ctrkit.serving.http.notices`).
        certificate: file of the TLS certificate; by default the server speaks plain HTTP.
        key: file of the certificate's key.
        max_body: largest size of a body in bytes.
        max_candidates: largest number of candidates, or rows, of a request.
        time_limit: time limit of a request in seconds, with its wait; then the reply is 503.
        body_limit: time in seconds in which a body must have arrived.
        waiting: number of requests that may wait in a process; further ones get 503.
        keep_alive: seconds after which an idle connection is closed; longer than a load balancer before the
            server keeps one, else it sends requests into closed ones.
        drain: seconds that requests have to end after a signal to stop.
        window: length in seconds of the sliding window of calibration and drift.
        log_requests: whether each request is a line of the log.
        watch: seconds between two looks at a registry.
        cache: folder in which copies of the versions of a remote registry are kept; by default that of the
            user, `~/.cache/ctrkit`.
        online: address of an online store, which knows features by id (see `ctrkit.online.address`).
        user_key: column of the users' keys in the store; a request's `user` is such a key.
        item_key: column of the candidates' keys in the store.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=256)
    parallel: int = Field(default=1, ge=1, le=256)
    threads: int = Field(default=1, ge=1, le=256)
    tokens: Path | None = None
    campaigns: Path | None = None
    journal: Path | None = None
    feedback_window: Positive = 1800.0
    policy: str | None = None
    notice_key: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    max_body: int = Field(default=16 << 20, ge=1)
    max_candidates: int = Field(default=10_000, ge=1)
    time_limit: Positive = 1.0
    body_limit: Positive = 10.0
    waiting: int = Field(default=64, ge=0)
    keep_alive: int = Field(default=75, ge=1)
    drain: Positive = 10.0
    window: Positive = 3600.0
    log_requests: bool = True
    watch: Positive = 5.0
    cache: Path | None = None
    online: str | None = None
    user_key: str | None = None
    item_key: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> ServeConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("TLS needs both a certificate and its key")
        if (self.online is None) != (self.user_key is None and self.item_key is None):
            raise ValueError("an online store needs user_key, item_key or both, and these need a store")
        return self
