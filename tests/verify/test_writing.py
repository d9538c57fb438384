import pytest

from r1kit.verify.writing import plain_writing


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"$\frac{1}{2}$", "1/2"),
        (r"\dfrac12", "1/2"),
        ("½", "1/2"),
        (r"\frac{x+1}{2}", "(x+1)/2"),
        (r"\frac{\sqrt{2}}{2}", "√2/2"),
        (r"\sqrt{x + 1}", "√(x + 1)"),
        ("sqrt(2)", "√2"),
        (r"\sqrt[3]{8}", "3√8"),
        ("x² + 10⁻³", "x^2 + 10^-3"),
        (r"x^{2} + 10^{-3}", "x^2 + 10^-3"),
        (r"$\mathrm{H_2O}$", "H2O"),
        ("H₂O", "H2O"),
        (r"20^{\circ}\text{C}", "20° C"),
        (r"2\pi r \le \theta", "2π r <= θ"),
        ("1{,}000,000", "1000000"),
        ("1, 200", "1, 200"),
        ("50\\%", "50%"),
        ("50 percent", "50%"),
        ("**Rome** and `Oslo`", "Rome and Oslo"),
        ("2**3 * 4 * 5", "2^3 * 4 * 5"),
        ("3 × 4 − 2", "3 * 4 - 2"),
        (r"\left( a \right)\, b", "( a ) b"),
    ],
)
def test_three_writings_become_one(text: str, plain: str) -> None:
    assert plain_writing(text) == plain
