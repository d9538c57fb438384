"""`r1 ui`: pages in a browser for runs that are going on or finished.

    server   the command's end: a port, a token, uvicorn
    app      the application: guard, parts, a sentence for whatever goes wrong
    site     what pages share: the runs, the place for indexes
    pages    templates, numbers and times
    guard    who may ask: the token, the host, the origin
    folders  runs and their stages, as their folders say
    live     events to open pages when files change

and one module or package a part: `overview` (runs), `stage` (curves), `rollouts`, `data`, `review`, `chat`,
`report`. A run's folder is only read, but for the review's own log. Nothing here imports torch: the server
stays small beside a training run, and the models of a chat live in processes of their own.
"""
