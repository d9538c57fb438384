"""The server behind `r1 ui`: a free port on the loopback address, a token that lasts, uvicorn."""

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from r1kit.errors import UserError
from r1kit.ui.app import make_app
from r1kit.ui.guard import LOOPBACK

DEFAULT_PORT = 8642
_TRIED_PORTS = 20
_LOOPBACK_ADDRESSES = ("127.0.0.1", "localhost", "::1")


def default_cache() -> Path:
    """Where indexes and the token are kept: $XDG_CACHE_HOME/r1kit/ui, or ~/.cache/r1kit/ui."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "r1kit" / "ui"


def serve(
    roots: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    cache: Path | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted. Raises `UserError` for a folder that does not exist, or a port in use.

    Without `port`, the first free one from `DEFAULT_PORT` on. A host other than the loopback address is
    served only with a token that the user has chosen.
    """
    for root in roots:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; give a run's folder, or one with runs below it.")
    is_local = host in _LOOPBACK_ADDRESSES
    if not is_local and not token:
        raise UserError(
            f"--host {host} lets other machines in: choose a token for them, with --token or R1_UI_TOKEN. "
            "Safer: stay on this machine's own address; forward the port: ssh -L 8642:localhost:8642 MACHINE."
        )
    if token is not None and len(token) < 16:
        raise UserError("the token must have 16 characters or more; `openssl rand -hex 16` makes one.")
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    token = token or _kept_token(cache)
    listening = _listen(host, port)
    bound = listening.getsockname()[1]
    shown = host if ":" not in host else f"[{host}]"
    app = make_app(roots, token=token, cache=cache, hosts=LOOPBACK if is_local else None)
    num_runs = len(app.state.site.runs())  # kept for the first page
    where = ", ".join(str(root) for root in roots)
    tell(f"{num_runs} run{'' if num_runs == 1 else 's'} in {where}")
    tell(f"Open  http://{shown}:{bound}/?token={token}")
    tell("Stop with Ctrl-C; runs are not touched.")
    app.state.site.forget_gone()
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port is not None else range(DEFAULT_PORT, DEFAULT_PORT + _TRIED_PORTS):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, candidate))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            if port is not None:
                raise UserError(f"--port {port} on {host} can't be used: {error.strerror}.") from None
    raise UserError(f"no free port from {DEFAULT_PORT} on; give one with --port.")


def _kept_token(cache: Path) -> str:
    """The token of this user, made once: a link to a page stays right when the server starts again."""
    path = cache / "token"
    try:
        if kept := path.read_text(encoding="ascii").strip():
            return kept
    except (OSError, UnicodeDecodeError):
        pass
    token = secrets.token_urlsafe(24)
    aside = path.with_name(f".token.{os.getpid()}.tmp")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(token)
    aside.replace(path)
    return token
