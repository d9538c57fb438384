"""Units after a number: which names mean the same unit. Not covered: conversion between units."""

from collections.abc import Mapping

# A unit's abbreviation, and its other names without the plural s: "inches" is looked up as "inche".
_NAMES: Mapping[str, tuple[str, ...]] = {
    "mm": ("millimeter", "millimetre"),
    "cm": ("centimeter", "centimetre"),
    "dm": ("decimeter", "decimetre"),
    "m": ("meter", "metre"),
    "km": ("kilometer", "kilometre"),
    "mg": ("milligram",),
    "g": ("gram",),
    "kg": ("kilogram",),
    "t": ("ton", "tonne"),
    "s": ("sec", "second"),
    "ms": ("millisecond",),
    "min": ("minute",),
    "h": ("hr", "hour"),
    "ml": ("milliliter", "millilitre"),
    "l": ("liter", "litre"),
    "in": ("inch", "inche"),
    "ft": ("foot", "feet"),
    "yd": ("yard",),
    "mi": ("mile",),
    "lb": ("pound",),
    "km/h": ("kph", "kilometers per hour", "kilometres per hour"),
    "mph": ("miles per hour",),
    "m/s": ("meters per second", "metres per second"),
    "cm^2": ("square centimeter", "square centimetre", "sq cm"),
    "m^2": ("square meter", "square metre", "sq m"),
    "km^2": ("square kilometer", "square kilometre", "sq km"),
    "cm^3": ("cubic centimeter", "cubic centimetre"),
    "m^3": ("cubic meter", "cubic metre"),
    "°": ("degree", "deg"),
    "°c": ("degrees celsius",),
    "°f": ("degrees fahrenheit",),
    "$": ("dollar", "usd"),
    "€": ("euro", "eur"),
    "£": ("gbp",),
}
_SHORT = {name: short for short, names in _NAMES.items() for name in names}


def same_unit(one: str, other: str) -> bool:
    """Whether two names mean the same unit: `cm` and `centimeters`, `apple` and `apples`."""
    return _canonical(one) == _canonical(other)


def _canonical(unit: str) -> str:
    name = unit.strip().casefold()
    if name in _NAMES:
        return name
    # the full name first: the s of "degrees celsius" is no plural
    return _SHORT.get(name) or _SHORT.get(name.removesuffix("s")) or name.removesuffix("s")
