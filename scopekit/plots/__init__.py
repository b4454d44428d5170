"""Still pictures of a session: its task graph or its timeline, drawn by matplotlib.

The pictures use matplotlib's object interface alone. No figure is registered with
pyplot, so that none leaks and drawing from a background thread is safe; the figures
show themselves in a notebook.

All drawing is in pixels from the top left corner, at 100 pixels per inch. How much is
drawn depends on how much there is: names at first, then shorter boxes, then marks.

The scene reads a graph, the detail chooses how much of it to show, the painter draws
on the canvas; the two pictures are put together from these.
"""

from scopekit.plots.dag import plot_dag
from scopekit.plots.timeline import plot_timeline

__all__ = ("plot_dag", "plot_timeline")
