"""The scheduler: events in, commands out.

It reads no clock, draws no random number and does no I/O, so the same events
always give the same commands.
"""

from scopekit.scheduler.machine import Scheduler

__all__ = ("Scheduler",)
