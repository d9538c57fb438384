"""How curves are shown. All of it is in the address, so that a link shows the same again."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from fastapi import Query
from starlette.exceptions import HTTPException

Axis = Literal["step", "time", "tokens"]
Smooth = Literal["auto", "none", "mean", "ema"]

MOST_OVERLAYS = 11
USUAL_FACTOR = 0.9
USUAL_WIDTH = 10


@dataclass(frozen=True)
class View:
    """The settings. `by` is the number of points of a running mean, or the factor of an exponential one.

    `start` and `end` are in steps, seconds or tokens, as `x` says. `overlays` are `RUN:STAGE`.
    """

    x: Axis = "step"
    smooth: Smooth = "auto"
    by: float | None = None
    log: bool = False
    start: float | None = None
    end: float | None = None
    low: float | None = None
    high: float | None = None
    chart: str = ""
    overlays: tuple[str, ...] = ()

    def query(self, **changes: Any) -> str:
        """The address's query for this view, or for one with some changes; usual values are left out."""
        view = replace(self, **changes)
        pairs: list[tuple[str, str]] = [("with", name) for name in view.overlays]
        for name, address in _NAMES.items():
            value = getattr(view, name)
            if value != getattr(_USUAL, name):
                pairs.append((address, _text(value)))
        return urlencode(pairs)

    def address(self, path: str, **changes: Any) -> str:
        """The address of a page in this view, or in one with some changes."""
        query = self.query(**changes)
        return f"{path}?{query}" if query else path

    @property
    def plain(self) -> "View":
        """The same without the choice of a chart and the range of its values."""
        return replace(self, chart="", low=None, high=None)


_NAMES = {
    "x": "x",
    "smooth": "smooth",
    "by": "by",
    "log": "log",
    "start": "from",
    "end": "to",
    "low": "low",
    "high": "high",
    "chart": "chart",
}
_USUAL = View()


def view_of(
    x: Annotated[str, Query()] = "step",
    smooth: Annotated[str, Query()] = "auto",
    by: Annotated[str, Query()] = "",
    log: Annotated[str, Query()] = "",
    start: Annotated[str, Query(alias="from")] = "",
    end: Annotated[str, Query(alias="to")] = "",
    low: Annotated[str, Query()] = "",
    high: Annotated[str, Query()] = "",
    chart: Annotated[str, Query(max_length=200)] = "",
    overlays: Annotated[list[str] | None, Query(alias="with", max_length=100)] = None,
) -> View:
    """The view that an address asks for; for `Depends`. Raises `HTTPException` 422 with a sentence.

    Empty values are those of a form that nobody filled in.
    """
    names = tuple(dict.fromkeys(name for name in overlays or () if name))
    if len(names) > MOST_OVERLAYS:
        raise HTTPException(422, f"{len(names)} curves over one another: {MOST_OVERLAYS} is the most.")
    kind = _choice("smooth", smooth or "auto", get_args(Smooth))
    view = View(
        x=_choice("x", x or "step", get_args(Axis)),
        smooth=kind,
        by=_strength(kind, _number("by", by)) if kind in ("mean", "ema") else None,
        log=log not in ("", "0", "false"),
        start=_number("from", start),
        end=_number("to", end),
        low=_number("low", low),
        high=_number("high", high),
        chart=chart,
        overlays=names,
    )
    for name, first, last in (("to", view.start, view.end), ("high", view.low, view.high)):
        if first is not None and last is not None and first >= last:
            raise HTTPException(422, f"{name} = {last:g} in the address has to be above {first:g}.")
    return view


def _choice(name: str, value: str, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise HTTPException(422, f"{name} = {value!r} in the address: should be one of {', '.join(known)}.")
    return value


def _number(name: str, text: str) -> float | None:
    """A number, or a time as `1:30:00`; None for nothing."""
    if not text.strip():
        return None
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = [math.nan]
    if len(parts) > 3 or not all(math.isfinite(part) and abs(part) < 1e150 for part in parts):
        raise HTTPException(422, f"{name} = {text[:40]!r} in the address is not a number.")
    return sum((part * 60.0**power for power, part in enumerate(reversed(parts))), 0.0)


def _strength(smooth: Smooth, by: float | None) -> float | None:
    if smooth == "mean":
        by = USUAL_WIDTH if by is None else by
        if not 1 <= by <= 1e6 or by != int(by):
            raise HTTPException(422, f"by = {by:g} in the address: a running mean is over 1 or more points.")
    else:
        by = USUAL_FACTOR if by is None else by
        if not 0 <= by < 1:
            raise HTTPException(422, f"by = {by:g} in the address: the factor is from 0 to below 1.")
    return by


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
