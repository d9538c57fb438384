"""The picture of the recipe: how the stages are chained, with this run's numbers.

Stages that the run does not have are dashed. The chain is the paper's: dev1 and dev2 exist to make the data
for dev3, which starts from the base again.
"""

from dataclasses import dataclass
from html import escape

from r1kit.report.reader import RunData

_WIDTH, _HEIGHT = 980, 392
_BOX_WIDTH, _BOX_HEIGHT = 176, 72


@dataclass(frozen=True, slots=True)
class _Box:
    stage: str
    title: str
    what: str
    x: int
    y: int
    is_data: bool = False


# Three rows: pure RL, cold start and reasoning RL, SFT from the base and RL for all scenarios.
_BOXES = (
    _Box("base", "Base", "pretrained", 14, 160),
    _Box("zero", "zero", "GRPO: accuracy + format", 272, 22),
    _Box("cold_start", "cold-start data", "filtered, readable", 530, 22, is_data=True),
    _Box("dev1", "dev1", "SFT on cold start", 272, 160),
    _Box("dev2", "dev2", "GRPO: + language", 530, 160),
    _Box("rejection", "SFT data", "rejection sampling", 788, 160, is_data=True),
    _Box("dev3", "dev3", "SFT of Base, 2 epochs", 272, 298),
    _Box("r1", "r1", "GRPO: all scenarios", 530, 298),
    _Box("distill", "distill", "SFT of a smaller base", 788, 298),
)
# from, to, and the path of the line between them
_ARROWS: tuple[tuple[str, str, str], ...] = (
    ("base", "zero", "M190 178 C232 178 230 58 270 58"),
    ("base", "dev1", "M190 196 H270"),
    ("base", "dev3", "M190 214 C232 214 230 334 270 334"),
    ("zero", "cold_start", "M448 58 H528"),
    ("cold_start", "dev1", "M618 94 C618 134 360 118 360 158"),
    ("dev1", "dev2", "M448 196 H528"),
    ("dev2", "rejection", "M706 196 H786"),
    ("rejection", "dev3", "M840 232 C840 272 360 256 360 296"),
    ("rejection", "distill", "M876 232 V296"),
    ("dev3", "r1", "M448 334 H528"),
)


def flow_picture(run: RunData) -> str:
    """The picture; "" for a run that has none of the recipe's own stages."""
    made = {*run.stages, *run.evals}
    if len(made & {"zero", "dev1", "dev2", "dev3", "r1"}) < 2:
        return ""
    arrows = "".join(_arrow(points, {start, end} <= made | {"base"}) for start, end, points in _ARROWS)
    boxes = "".join(_box(box, box.stage in made or box.stage == "base", _numbers(run, box)) for box in _BOXES)
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z" class="tip"/></marker></defs>'
    )
    label = "The stages of the recipe, how each is made from others, and their numbers in this run"
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    svg = f'<svg {size} role="img" aria-label="{label}" class="flow">{marker}{arrows}{boxes}</svg>'
    return f'<figure class="wide">{svg}</figure>'


def _arrow(points: str, made: bool) -> str:
    return f'<path d="{points}" class="arrow{"" if made else " absent"}" marker-end="url(#tip)"/>'


def _box(box: _Box, made: bool, numbers: str) -> str:
    classes = f"box{' data' if box.is_data else ''}{'' if made else ' absent'}"
    size = f'width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="9"'
    return (
        f'<g class="{classes}"><rect x="{box.x}" y="{box.y}" {size}/>'
        f'<text x="{box.x + 12}" y="{box.y + 22}" class="name">{escape(box.title)}</text>'
        f'<text x="{box.x + 12}" y="{box.y + 40}" class="what">{escape(box.what)}</text>'
        f'<text x="{box.x + 12}" y="{box.y + 60}" class="number">{escape(numbers)}</text></g>'
    )


def _numbers(run: RunData, box: _Box) -> str:
    """The numbers in a box: pass@1 and language consistency of a model, number of records of a data stage."""
    if box.is_data:
        stage = run.stages.get(box.stage)
        num_records = stage.num_records if stage is not None else None
        return f"{num_records:,} examples" if num_records is not None else ""
    evaluation = run.evals.get(box.stage)
    if evaluation is None:
        return ""
    reasoning = evaluation.summary.get("reasoning", {})
    parts = []
    if "pass@1" in reasoning:
        parts.append(f"pass@1 {reasoning['pass@1']['value']:.2f}")
    if "language_consistency" in reasoning:
        parts.append(f"lang. {reasoning['language_consistency']:.2f}")
    return " · ".join(parts)
