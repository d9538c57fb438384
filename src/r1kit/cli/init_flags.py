"""The flags of `r1 init`: each is an answer to one of its questions, which is then not asked."""

from typing import Annotated

import typer

# panels of `r1 init --help`
_ROWS, _HOW = "How the rows read", "How and where"

ModelFlag = Annotated[str | None, typer.Option(help="A folder, a hub name, or tinyworld.")]
DataFlag = Annotated[
    str | None, typer.Option(help="Problems: a file, a folder, a hub data set, or a known set (gsm8k).")
]
TestFlag = Annotated[
    str | None,
    typer.Option(help="What to evaluate on; by default what lies beside the data, or a part of it."),
]
HoldOutFlag = Annotated[
    int | None, typer.Option(min=0, help="Problems to keep from training and evaluate on; 0: no evaluation.")
]
GoalFlag = Annotated[
    str | None, typer.Option(help="zero (the default), sft-then-rl, distill or full.", metavar="GOAL")
]
TeacherFlag = Annotated[str | None, typer.Option(help="distill: the model that is learnt from.")]
SftDataFlag = Annotated[
    str | None, typer.Option(help="sft-then-rl: rows of messages and response; else made from the data.")
]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the defaults.")]
TemplateFlag = Annotated[
    bool, typer.Option("--template", help="Write the commented recipe, to fill in by hand.")
]

QuestionFlag = Annotated[str | None, typer.Option(help="The column of the question.", rich_help_panel=_ROWS)]
AnswerFlag = Annotated[str | None, typer.Option(help="The column of the answer.", rich_help_panel=_ROWS)]
OptionsFlag = Annotated[
    str | None, typer.Option(help="The column of a choice's options.", rich_help_panel=_ROWS)
]
TestsFlag = Annotated[
    str | None, typer.Option(help="The column of a program's tests.", rich_help_panel=_ROWS)
]
KindFlag = Annotated[
    str | None, typer.Option(help="math, choice, logic, code or judged.", rich_help_panel=_ROWS)
]
AnswerInFlag = Annotated[
    str | None,
    typer.Option(help="The answer's column holds solutions: boxed or ####.", rich_help_panel=_ROWS),
]
MappingFlag = Annotated[
    str | None, typer.Option(help="The ready mapping of a well-known set.", rich_help_panel=_ROWS)
]
SplitFlag = Annotated[str | None, typer.Option(help="Of a folder or hub data set.", rich_help_panel=_ROWS)]
SubsetFlag = Annotated[str | None, typer.Option(help="Of a hub data set.", rich_help_panel=_ROWS)]

JudgeFlag = Annotated[
    str | None, typer.Option(help="For answers that no rule compares: a model.", rich_help_panel=_HOW)
]
JudgeUrlFlag = Annotated[str | None, typer.Option(help="Its server's address.", rich_help_panel=_HOW)]
StyleFlag = Annotated[
    str | None, typer.Option(help="How the model is asked: zero or chat.", rich_help_panel=_HOW)
]
DeviceFlag = Annotated[
    str | None, typer.Option(help="cpu or gpu; by default what is here.", rich_help_panel=_HOW)
]
GpusFlag = Annotated[int | None, typer.Option(min=1, help="How many GPUs.", rich_help_panel=_HOW)]
GpuMemoryFlag = Annotated[
    float | None, typer.Option(min=1, help="GB of each, where they are not here.", rich_help_panel=_HOW)
]
