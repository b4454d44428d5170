"""Six stories about values that are valid in one place, told on real engines."""

from scopekit.demo.stories import STORIES, run_stories
from scopekit.demo.telling import Step, StoryResult

__all__ = ("STORIES", "Step", "StoryResult", "run_stories")
