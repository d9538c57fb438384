"""Chat: several models side by side, asked the same with the same seed, in processes of their own.

routes     the page, and the stream of answers that it reads
speakers   which models a run has, in which style each is asked
questions  problems of the run to ask, with their right answers
pool       the processes: started when asked, few at a time, ended when idle
worker     one of them: a model, JSON lines in and out; the only module here that imports torch
"""

from r1kit.ui.chat.routes import router

__all__ = ["router"]
