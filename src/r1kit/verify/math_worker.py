r"""A worker process that says whether a mathematical answer equals the truth. Started by `math_pool`.

Reads one `{"truth": ..., "answer": ...}` per line and writes one `{"correct": true}` per line, after a first
line that says it is ready. `math_answers` takes the answers apart. The expressions in them are parsed by
math-verify's parser and compared here: exactly if both are rational, else to 60 digits, and at several points
if there are variables. Decimals count as exact fractions; one with six places or more may be the true value
rounded. Expressions that can't be evaluated (sums to n, unknown functions) go to math-verify itself.
It has no soft time limit: the process that started it kills it. Covered: memory (RLIMIT_AS); an alarm that
ends it if its parent is gone. Not covered: a hostile expression that exploits a hole in SymPy's LaTeX parser.
Only LaTeX is parsed, because math-verify's plain expressions go through `eval`.
"""

import json
import os
import random
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from r1kit.verify.numbers import number_of

MEMORY_LIMIT_BYTES = 4 * 2**30

_DIGITS = 60
# A smaller relative difference is equality; SymPy's values are accurate to _DIGITS digits.
_TOLERANCE = 1e-40
# Points at which expressions with variables are compared: half of them positive.
_NUM_POINTS = 4
# More bits than the exact value of any answer has; larger expressions count as unreadable.
_MAX_BITS = 100_000

# What the parser misreads, rewritten before it parses.
_PREPARED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[‹›]", " "),
        # 0.1\overline{6} -> \frac{15}{90}
        (r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}", lambda match: _fraction_of(*match.groups())),
        # a mixed number, not a product: 2\frac{1}{2}
        (r"(?<![\w.}\\])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}", r"(\1+\\frac{\2}{\3})"),
        (r"(?<=\d),(?=\d{3})", ""),
        # primes and transposes become indices: f', A^T
        (r"([A-Za-z])'+", r"\1_{p}"),
        (r"(?<=[A-Za-z)\]}])\^\s*(?:\{\s*(?:\\top|T)\s*\}|\\top(?![A-Za-z])|T)", r"_{T}"),
        # products, which the parser adds up: 2(3), (2)(3)
        (r"(?<![\w.}\\^])(\d+(?:\.\d+)?)\s*(?=\()", r"\1\\cdot "),
        (r"\)\s*(?=\([^(),]*\))", r")\\cdot "),
        # the parser reads these as a constant and as the start of a power of ten
        (r"\\gamma(?![A-Za-z])", r"g_{amma}"),
        (r"(?<![A-Za-z\\])E_\{?(\w+)\}?", r"K_{E\1}"),
        (r"\\log_\{?e\}?(?![A-Za-z])", r"\\ln"),
        (r"°", r"\\cdot\\frac{\\pi}{180}"),
        (r"%", r"\\cdot\\frac{1}{100}"),
        (r"\\imath(?![A-Za-z])", "i"),
        (r"\\(?:mathrm|text)\s*\{?([a-z])\}?", r"\1"),
        (r"\\exp\s*\{([^{}]*)\}", r"\\exp(\1)"),
        (r"\^\s*\{\s*\}|_\s*\{\s*\}", ""),
    )
]

Relation = tuple[tuple[str, ...], tuple[str, ...]]


def _fraction_of(whole: str, fixed: str, repeated: str) -> str:
    # 0.1\overline{6}: (16 - 1) / 90
    top = int((whole + fixed + repeated) or 0) - int((whole + fixed) or 0)
    return f"\\frac{{{top}}}{{{(10 ** len(repeated) - 1) * 10 ** len(fixed)}}}"


class SympyOracle:
    """Compares expressions that math-verify's parser reads. See `math_answers.Oracle`."""

    def __init__(self) -> None:
        import math_verify
        import sympy  # type: ignore[import-untyped]
        from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy

        from r1kit.verify.math_answers import PlainOracle

        # whether identical texts must also be readable
        self.must_read = False
        self._sympy: Any = sympy
        self._verify: Any = math_verify.verify
        self._latex2sympy: Any = latex2sympy
        self._conversion = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
        self._normalization = NormalizationConfig(malformed_operators=True, boxed="none")
        self._plain = PlainOracle()
        self._parsed: Any = lru_cache(maxsize=256)(self._parse)

    def values(self, truth: str, answer: str) -> bool:
        """Whether two expressions have the same value; an unreadable one equals nothing."""
        known = self._plain.values(truth, answer)
        if known is not None and not (self.must_read and number_of(truth) is None and truth != "\\dots"):
            return known
        one, other = self._parsed(truth), self._parsed(answer)
        if one is None or other is None:
            return False
        if _is_decimal(truth) != _is_decimal(answer) and not (one.is_Matrix or other.is_Matrix):
            rounded = self._is_rounded(*((other, truth) if _is_decimal(truth) else (one, answer)))
            if rounded is not None:
                return rounded
        return self._are_equal(one, other)

    def relations(self, truth: Relation, answer: Relation) -> bool:
        """Whether two relations are the same: equal sides, or side differences equal up to a factor."""
        known = self._plain.relations(truth, answer)
        if known is not None and not (self.must_read and "\\equiv" not in truth[1]):
            return known
        (sides, signs), (given_sides, given_signs) = truth, answer
        if len(signs) != 1 or len(given_signs) != 1:
            return self._same_chain(truth, answer)
        sign, given_sign = signs[0], given_signs[0]
        one, other = self._difference(sides), self._difference(given_sides)
        if one is None or other is None:
            return False
        if sign in ("=", "\\ne"):
            return sign == given_sign and self._same_zeros(one, other)
        ratio = self._ratio(one, other)
        flipped = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
        # a negative factor turns the sign: x < 2 is -x > -2
        return ratio is not None and given_sign == (sign if ratio > 0 else flipped.get(sign))

    def follows(self, side: str, last: str) -> bool:
        """Whether both are equal, or the last is the other one rounded to its decimal places."""
        if self._plain.follows(side, last) or self.values(side, last):
            return True
        value, number = self._parsed(side), _is_decimal(last)
        return value is not None and number and self._is_rounded(value, last, least=1) is True

    def _parse(self, text: str) -> Any:
        """The SymPy expression; None if it can't be read, or is too large to evaluate."""
        sympy = self._sympy
        for pattern, replacement in _PREPARED:
            text = pattern.sub(replacement, text)
        try:
            expression = self._latex2sympy(
                text.strip(), is_real=None, convert_degrees=False,
                normalization_config=self._normalization, conversion_config=self._conversion,
            )  # fmt: skip
            if isinstance(expression, sympy.MatrixBase | sympy.MatrixExpr):
                return sympy.ImmutableMatrix(expression.doit())
            if not isinstance(expression, sympy.Expr):
                return None
            names = {"i": sympy.I, "e": sympy.E}
            expression = expression.xreplace(
                {symbol: names[symbol.name] for symbol in expression.free_symbols if symbol.name in names}
            )
            expression = expression.replace(
                lambda part: isinstance(part, sympy.UnevaluatedExpr), lambda part: part.args[0]
            )
            # 0.1 is 1/10 here, not the nearest binary float
            exact = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
            expression = expression.xreplace(exact)
            return (
                None if _bits(expression) > _MAX_BITS or expression.has(sympy.nan, sympy.zoo) else expression
            )
        except Exception:  # any error of the parser means that the text can't be read
            return None

    def _are_equal(self, one: Any, other: Any) -> bool:
        sympy = self._sympy
        if one == other:
            return True
        if one.is_Matrix or other.is_Matrix:
            is_alike = one.is_Matrix and other.is_Matrix and one.shape == other.shape
            return is_alike and all(map(self._are_equal, one.flat(), other.flat()))
        if one.is_infinite or other.is_infinite:
            return False
        # substituting values does not turn these into numbers
        odd = (
            *(sympy.Derivative, sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit),
            sympy.core.function.AppliedUndef,
        )
        symbols = one.free_symbols | other.free_symbols
        if (
            one.has(sympy.Derivative)
            or other.has(sympy.Derivative)
            or (symbols and (one.has(*odd) or other.has(*odd)))
        ):
            return bool(self._verify([one], [other], timeout_seconds=None))
        if not symbols:
            return self._same_number(one.doit(), other.doit())
        seen = 0
        for point in self._points(symbols):
            verdict = self._same_at(
                one.subs(point), other.subs(point), is_positive=all(value > 0 for value in point.values())
            )
            if verdict is False:
                return False
            seen += verdict is True
        return seen > 0

    def _points(self, symbols: Any) -> list[dict[Any, Any]]:
        """Values for the variables, positive and mixed signs, the same in every process."""
        rng = random.Random(0)
        rational = self._sympy.Rational
        ordered = sorted(symbols, key=str)
        signs = (
            [[1] * len(ordered)] * (_NUM_POINTS // 2)
            + [[rng.choice((-1, 1)) for _ in ordered] for _ in range(_NUM_POINTS // 2 - 1)]
            + [[-1] * len(ordered)]
        )
        return [
            {
                symbol: sign * rational(rng.randint(20, 300), rng.choice((53, 97, 61, 101)))
                for symbol, sign in zip(ordered, row, strict=True)
            }
            for row in signs
        ]

    def _same_at(self, one: Any, other: Any, *, is_positive: bool) -> bool | None:
        """Whether two numbers are equal; None if one is undefined, or complex at negative points."""
        values = [self._number(part) for part in (one, other)]
        if any(value is None for value in values):
            return None
        if not is_positive and any(value.as_real_imag()[1] != 0 for value in values):
            return None
        return _close(*values)

    def _number(self, expression: Any) -> Any:
        """The numerical value to _DIGITS digits; None if there is none."""
        try:
            value = expression.evalf(_DIGITS, maxn=400)
        except (ArithmeticError, ValueError, TypeError, AttributeError):
            return None
        real, imaginary = value.as_real_imag()
        return (
            value
            if real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite
            else None
        )

    def _same_number(self, one: Any, other: Any) -> bool:
        if one.is_Rational and other.is_Rational:
            return bool(one == other)
        values = [self._number(part) for part in (one, other)]
        return all(value is not None for value in values) and _close(*values)

    def _is_rounded(self, exact: Any, decimal: str, *, least: int = 6) -> bool | None:
        """Whether a decimal of at least `least` places is the exact value rounded; None if it can't be."""
        places = len(decimal.partition(".")[2].rstrip())
        value = None if exact.free_symbols else self._number(exact.doit())
        if value is None or places < least or value.as_real_imag()[1] != 0:
            return None
        # 1/128 has a finite decimal: it has to be given exactly
        if exact.is_Rational and least == 6 and not exact.q % 2 and _is_finite_decimal(exact.q):
            return None
        half = self._sympy.Rational(1, 2 * 10**places)
        return bool(
            abs(value - self._sympy.Rational(decimal.replace(" ", "")))
            <= half * (1 + self._sympy.Rational(1, 10**9))
        )

    def _difference(self, sides: tuple[str, ...]) -> Any:
        one, other = (self._parsed(side) for side in sides)
        return None if one is None or other is None else one - other

    def _same_zeros(self, one: Any, other: Any) -> bool:
        """Whether two expressions are zero together: they or their numerators differ by a constant factor."""
        if self._ratio(one, other) is not None:
            return True
        tops = [self._sympy.fraction(self._sympy.together(part))[0] for part in (one, other)]
        return self._ratio(*tops) is not None

    def _ratio(self, one: Any, other: Any) -> Any:
        """The constant ratio of two expressions; None if it is not constant, or both are zero."""
        symbols = one.free_symbols | other.free_symbols
        if not symbols or one.free_symbols != other.free_symbols:
            return None
        ratios = []
        for point in self._points(symbols):
            values = [self._number(part.subs(point)) for part in (one, other)]
            if any(value is None for value in values):
                continue
            if values[0] == 0 or values[1] == 0:
                return None
            ratios.append(values[0] / values[1])
        if not ratios or any(not _close(ratios[0], ratio) for ratio in ratios[1:]):
            return None
        return ratios[0] if ratios[0].as_real_imag()[1] == 0 else None

    def _same_chain(self, truth: Relation, answer: Relation) -> bool:
        """Longer relations are equal side by side, in either direction."""
        flipped = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
        backwards = answer[0][::-1], tuple(flipped.get(sign, sign) for sign in reversed(answer[1]))
        return any(
            truth[1] == signs
            and all(self.values(one, other) for one, other in zip(truth[0], sides, strict=True))
            for sides, signs in (answer, backwards)
        )


def _close(one: Any, other: Any) -> bool:
    """Whether two numbers agree to _TOLERANCE of the larger, so that tiny ones are not all equal."""
    largest = max(abs(one), abs(other))
    return bool(largest == 0 or abs(one - other) <= largest * _TOLERANCE)


def _is_decimal(text: str) -> bool:
    return re.fullmatch(r"-?\s?\d*\.\d+", text.strip()) is not None


def _is_finite_decimal(denominator: int) -> bool:
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _bits(expression: Any) -> float:
    """An upper estimate of the bits of the exact value; infinite if beyond any answer."""
    if expression.is_Rational:
        return float(max(int(expression.p).bit_length(), int(expression.q).bit_length()))
    parts = [_bits(part) for part in expression.args]
    # a power has about as many bits as the base, times the exponent
    if expression.is_Pow and expression.exp.is_number:
        try:
            power = float(abs(expression.exp.evalf(5)))
        except (OverflowError, TypeError, ValueError):
            return float("inf")
        return max(parts[0], 1.0 if expression.base.is_number else 8.0) * max(power, 1.0)
    if "factorial" in type(expression).__name__ or type(expression).__name__ == "gamma":
        return float("inf") if parts[0] > 14 else 20 * 2 ** parts[0]
    return sum(parts)


def main(orphan_limit_seconds: int) -> None:
    """Answer requests from stdin until it closes."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library's prints must not look like replies
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    from r1kit.verify.math_answers import verdict_of

    oracle = SympyOracle()
    verdict_of("\\frac{\\sqrt{x}}{2}", "x^2", oracle)  # warm up: no item pays for compilation at first use
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        # the default action of SIGALRM ends the process, also inside C code
        signal.alarm(orphan_limit_seconds)
        # identical texts are only sent to find out whether they can be read
        oracle.must_read = request["truth"] == request["answer"]
        correct = verdict_of(request["truth"], request["answer"], oracle)
        signal.alarm(0)
        print(json.dumps({"correct": bool(correct)}), file=replies)


if __name__ == "__main__":
    main(int(sys.argv[1]))
