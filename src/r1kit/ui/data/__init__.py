"""The data of a run: what its data stages made, what their filters dropped and why.

    routes    the pages
    entries   a row of any of the files as a page shows it
    index     where rows are and what to filter by, in memory, made once for a file
    search    the rows that pass a page's filters
    near      near-duplicates, by MinHash
    lengths   tokens, words or characters
    verdicts  a judge's votes on them
    funnel    counts as funnels
    facts     domains beside the paper's, balance, pass rates
    charts    histograms

Nothing is written. A file of any size is read once, in the background, and then only where a page shows it.
"""

from r1kit.ui.data.routes import router

__all__ = ["router"]
