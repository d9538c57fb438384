"""A stage's curves, which grow while one looks, and what else there is to know of it.

log       the numbers of a metrics file by column; only what was appended is read
view      how the curves are shown, as the address says
lines     a metric's points along an axis: smoothed, cut to a range, thinned for a picture
drawing   lines as SVG, with the points for a script that reads values off
charts    the charts of a stage, of one run or of several laid over each other
facts     what a stage was made from, how, and how it was evaluated
pages     the addresses
"""

from r1kit.ui.stage.pages import router

__all__ = ["router"]
