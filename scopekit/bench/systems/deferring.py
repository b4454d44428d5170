"""Calls whose inputs are not done yet, for systems that know of no dependencies."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("submit_when_ready",)


def submit_when_ready(
    submit: Callable[..., Future[Any]], function: Callable[..., Any], args: tuple[Any, ...]
) -> Future[Any]:
    """Submits a call once every future among its arguments is done.

    Args:
        submit: submits a call with plain arguments and returns a future.
        function: what to call.
        args: its arguments; futures stand for their results.

    Returns:
        A future of the call's result.
    """
    inputs = [arg for arg in args if isinstance(arg, Future)]
    if not inputs:
        return submit(function, *args)
    return _Deferred(submit, function, args, inputs).outcome


class _Deferred:
    """One call that waits for its inputs."""

    def __init__(
        self,
        submit: Callable[..., Future[Any]],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        inputs: list[Future[Any]],
    ) -> None:
        self.outcome: Future[Any] = Future()
        self._submit, self._function, self._args = submit, function, args
        self._missing = len(inputs)
        self._lock = threading.Lock()
        for future in inputs:
            future.add_done_callback(self._one_done)

    def _one_done(self, _: Future[Any]) -> None:
        with self._lock:
            self._missing -= 1
            ready = not self._missing
        if ready:
            try:
                values = [arg.result() if isinstance(arg, Future) else arg for arg in self._args]
                self._submit(self._function, *values).add_done_callback(self._pass_on)
            except Exception as error:  # noqa: BLE001  # whatever it is, the outcome tells it
                self.outcome.set_exception(error)

    def _pass_on(self, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(future.result())
