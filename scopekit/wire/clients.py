"""What is asked of ipyparallel's clients beyond their public interface.

Private names of ipyparallel that this side of the wire uses stand here, each with
what happens without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = (
    "activate_magics",
    "cluster_name",
    "connection_path",
    "fail_pending",
    "find_connection_file",
    "hook",
    "is_closed",
    "new_client",
    "read_json",
    "tell_missed",
)


def new_client(where: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Return a client of the controller that `where`, a file or its content, describes."""
    import ipyparallel  # noqa: PLC0415 -- loads when first needed

    try:
        return ipyparallel.Client(os.fspath(where) if isinstance(where, Path) else where, **options)
    except Exception as error:
        raise ScopekitError(
            f"{name} does not answer: {error}. It may have ended and left its file behind."
        ) from error


def is_closed(client: Any) -> bool:
    """Return whether the client was closed, by whomever."""
    # private name of ipyparallel 9; without it a closed client keeps its last ids
    return bool(getattr(client, "_closed", False))


def activate_magics(client: Any) -> None:
    """Give %px to this client where it belongs to one that is closed.

    ipyparallel gives it to the first client of a notebook, for good.
    """
    from IPython import get_ipython  # noqa: PLC0415 -- loads when first needed

    shell = get_ipython()  # type: ignore[no-untyped-call, unused-ignore]
    magic = None if shell is None else shell.find_line_magic("px")
    owner = getattr(getattr(getattr(magic, "__self__", None), "view", None), "client", None)
    if owner is not None and is_closed(owner):
        client.activate()


def fail_pending(client: Any, name: str) -> None:
    """End the waits for replies that a closed client will not see; they would never end."""
    error = ScopekitError(f"the link to cluster {name!r} was closed before the reply came")
    calls = set(getattr(client, "outstanding", ()))
    # private names of ipyparallel 9; without them such waits last until their own limits
    for kind in ("_futures", "_output_futures"):
        for message, future in list(getattr(client, kind, {}).items()):
            with contextlib.suppress(Exception):  # it was answered after all
                if message in calls:
                    # ipyparallel takes an error as the value of a call; one set as the
                    # future's exception would be logged by its own callbacks
                    future.set_result(error)
                elif not future.done():
                    future.set_exception(error)


def tell_missed(client: Any, connection: Any) -> None:
    """Tell a client of engines whose registration it missed.

    An engine that registers between the controller's reply to a new client and that
    client's subscription is never announced to it. A second client knows it.
    """
    import ipyparallel  # noqa: PLC0415 -- loads when first needed

    fresh = ipyparallel.Client(connection, timeout=2)
    try:
        # private names of ipyparallel 9; without them the wait for engines ends at its limit
        missed = {i: uuid for i, uuid in fresh._engines.items() if i not in client.ids}
        if missed:
            client._update_engines(missed)
    finally:
        fresh.close(linger=0)


def hook(client: Any, callback: Callable[[object], None]) -> Callable[[], None]:
    """Have `callback` called when engines come or go, where that can be had; return the way back.

    Calls may be missed: ipyparallel changes the list while it goes through it. Poll as well.
    """
    # private name of ipyparallel 9; without it there is the polling
    callbacks = getattr(client, "_registration_callbacks", None)
    if not isinstance(callbacks, list):
        return lambda: None
    callbacks.append(callback)

    def unhook() -> None:
        with contextlib.suppress(ValueError):
            callbacks.remove(callback)

    return unhook


def read_json(path: Path) -> Any:
    """Return the content, or None while the file is missing or only half written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def find_connection_file(
    target: str | os.PathLike[str] | None, options: dict[str, Any]
) -> tuple[Path | None, list[str]]:
    """Return the connection file that a text means, with a list of what was tried."""
    tried: list[str] = []
    for what, path in _candidates(target, options):
        found = _from_cluster_file(path)
        if found is not None and found.is_file():
            return found, tried
        tried.append(f"{what} ({path})")
    return None, tried or ["nothing"]


def _from_cluster_file(path: Path) -> Path | None:
    """Return the connection file that a cluster file stands for, or the path itself.

    The file is only read: ipyparallel's own Cluster.from_file rewrites or removes it.
    """
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or "cluster" not in content:
        return path
    cluster = content["cluster"]
    return connection_path(Path(cluster["profile_dir"]), cluster.get("cluster_id", ""))


def connection_path(profile_dir: Path, cluster_id: str) -> Path:
    """Return where ipyparallel keeps the connection file of a cluster for its clients."""
    name = f"ipcontroller-{cluster_id}-client.json" if cluster_id else "ipcontroller-client.json"
    return profile_dir / "security" / name


def _candidates(
    target: str | os.PathLike[str] | None, options: dict[str, Any]
) -> Iterable[tuple[str, Path]]:
    from IPython.paths import get_ipython_dir  # noqa: PLC0415 -- loads when first needed

    profiles = Path(get_ipython_dir())
    asked = options.get("profile_dir")
    profile = options.get("profile")
    cluster_id = options.get("cluster_id") or ""
    if target is None:
        home = Path(asked) if asked else profiles / f"profile_{profile or 'default'}"
        yield "the profile", connection_path(home, cluster_id)
        return
    text = os.fspath(target)
    yield "a path", Path(text).expanduser()
    if not isinstance(target, str) or os.sep in text:
        return
    own = Path(tempfile.gettempdir()).resolve() / text
    if _is_ours(own):
        yield "a cluster started by scopekit", connection_path(own, text)
    homes = [Path(asked)] if asked else sorted(profiles.glob(f"profile_{profile or '*'}"))
    for home in homes:
        yield "a cluster id", connection_path(home, text)
    yield "a profile", connection_path(profiles / f"profile_{text}", cluster_id)


def _is_ours(folder: Path) -> bool:
    # the temporary folder is everyone's: a stranger's connection file is a stranger's pickles
    try:
        status = folder.lstat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


def cluster_name(client: Any, path: Path | None = None) -> str:
    """Return the cluster's id, or what stands for it where it has none."""
    named = getattr(getattr(client, "cluster", None), "cluster_id", "")
    if named:
        return str(named)
    if path is not None:
        name = path.stem.removeprefix("ipcontroller").removesuffix("client").strip("-")
        return name or path.parent.parent.name
    # private name of ipyparallel 9; any text will do, it is only shown
    return str(getattr(client, "_config", {}).get("registration", "attached"))


def controller_host(client: Any) -> str:
    """Return the host of the client's controller, as the client reaches it.

    Without the private table of addresses it is taken to be this host: then engines
    elsewhere cannot be dialled, and all goes over views.
    """
    interface = getattr(client, "_config", {}).get("interface", "")
    return str(interface).rpartition("://")[2] or "127.0.0.1"
