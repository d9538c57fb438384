"""The browser of rollouts: all of a run's step logs, filtered, sorted, and read one by one.

    views, listing, problems   the pages
    verdict, tokens, shown     what a completion's page says about it
    rows                       whole rows, read from the log when they are shown
    index, filters, search     which rows there are, in memory
    snapshot, store            the index in memory and on disk
    build, lines, logs         making it from the step logs, in the background

The index has what filters and orders need, and the texts; token ids and logprobs stay in the log.
"""
