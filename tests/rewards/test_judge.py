import json
import threading

import pytest

from r1kit.errors import RecipeError
from r1kit.rewards.chat_client import ChatClient, ServerConfig
from r1kit.rewards.judge import JudgeRequest, JudgeReward, OpenAIJudge, Verdict, read_verdict
from r1kit.types import Completion, Kind, Problem, Rollout

from .chat_server import ChatServer, chat_server


def config(server: ChatServer, **more) -> ServerConfig:
    return ServerConfig(base_url=server.url, model="m", backoff_seconds=0.0, **more)


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def asked(body: dict) -> str:
    return body["messages"][-1]["content"]


def rollout(text: str, kind: Kind = "judged", finish_reason: str = "stop") -> Rollout:
    problem = Problem(
        id="p",
        kind=kind,
        messages=({"role": "user", "content": "Why is the sky blue?"},),
        reference="Rayleigh scattering" if kind == "judged" else None,
    )
    return Rollout(problem, 0, 0, 0, 0, (1,), Completion((2,), (0.0,), text, finish_reason, 0))


def test_replies_come_back_in_order_whatever_the_concurrency() -> None:
    barrier = threading.Barrier(4, timeout=10)

    def answer(body: dict) -> str:
        if asked(body) < "4":
            barrier.wait()  # only reached together if four requests are in flight at once
        return asked(body)

    with chat_server(answer) as server:
        replies = ChatClient(config(server, concurrency=4))([user(str(i)) for i in range(10)])
    assert [reply.content for reply in replies] == [str(i) for i in range(10)]


@pytest.mark.parametrize("fault", [500, 503, 429, b'{"choices": [', b"", "not a completion"])
def test_what_may_pass_is_tried_again_and_is_none_at_last(fault: object) -> None:
    seen: list[str] = []

    def answer(body: dict) -> object:
        seen.append(asked(body))
        if asked(body) == "always" or seen.count("once") == 1:
            return {"content": None} if fault == "not a completion" else fault
        return "fine"

    with chat_server(answer) as server:
        client = ChatClient(config(server, retries=2, concurrency=1))
        replies = client([user("once"), user("always")])
    assert replies[0].content == "fine"
    assert replies[1] is None
    assert seen == ["once", "once", "always", "always", "always"]
    assert client.num_failed == 1


def test_a_request_that_the_server_refuses_is_none_without_asking_again() -> None:
    with chat_server(lambda body: 400 if asked(body) == "too long" else "ok") as server:
        replies = ChatClient(config(server))([user("too long"), user("short")])
    assert (replies[0], replies[1].content) == (None, "ok")
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_can_not_pass_ends_the_run_with_one_clear_sentence(status: int) -> None:
    with (
        chat_server(lambda body: status) as server,
        pytest.raises(RecipeError, match=f"refuses model 'm': {status}"),
    ):
        ChatClient(config(server))([user(str(i)) for i in range(3)])


def test_a_server_that_is_not_there_is_none() -> None:
    gone = ServerConfig(base_url="http://127.0.0.1:9/v1", model="m", retries=1, backoff_seconds=0.0)
    assert ChatClient(gone)([user("hello")]) == [None]


def test_reasoning_that_is_sent_apart_is_kept_apart() -> None:
    with chat_server(lambda body: {"content": "4", "reasoning_content": "2+2"}) as server:
        (reply,) = ChatClient(config(server))([user("2+2?")], temperature=1.0, seeds=[2**40 + 3])
    assert (reply.reasoning, reply.content) == ("2+2", "4")
    assert (server.requests[0]["temperature"], server.requests[0]["seed"]) == (1.0, 3)


def test_correctness_is_asked_with_the_ground_truth_and_the_prediction() -> None:
    def answer(body: dict) -> str:
        text = asked(body)
        right = "[Answer]\nblue" in text and "[Reference answer]\nBlue." in text
        return json.dumps({"analysis": "compared", "correctness": "correct" if right else "incorrect"})

    with chat_server(answer) as server:
        verdicts = OpenAIJudge(config(server))(
            [JudgeRequest("correctness", "Colour?", text, reference="Blue.") for text in ("blue", "red")]
        )
    assert verdicts == [Verdict(1.0, "compared"), Verdict(0.0, "compared")]


def test_a_verdict_that_can_not_be_read_is_asked_for_again_and_is_none_at_last() -> None:
    counts = {"mends": 0, "never": 0}

    def answer(body: dict) -> str:
        name = "mends" if "mends" in asked(body) else "never"
        counts[name] += 1
        return '{"correctness": "correct"}' if name == "mends" and counts[name] == 2 else "I can't say."

    with chat_server(answer) as server:
        judge = OpenAIJudge(config(server))
        verdicts = judge([JudgeRequest("correctness", "?", name, reference="x") for name in counts])
    assert [verdict.score for verdict in verdicts] == [1.0, None]
    assert counts == {"mends": 2, "never": 3}
    assert judge.num_failed == 1


@pytest.mark.parametrize(
    ("task", "text", "score"),
    [
        ("correctness", 'Sure.\n```json\n{"analysis": "a {b}", "correctness": "Correct"}\n```', 1.0),
        ("correctness", '{"correctness": "correct"} ... {"correctness": "incorrect"}', 0.0),
        ("correctness", '<think>{"correctness": "correct"}</think>', None),
        ("correctness", '{"analysis": "two\nlines", "correctness": true}', 1.0),
        ("correctness", '{"correctness": "perhaps"}', None),
        ("correctness", "correct", None),
        ("correctness", "{" * 5000, None),
        ("quality", '{"score": 10}', 1.0),
        ("quality", '{"score": "5.5"}', 0.5),
        ("quality", '{"score": 11}', None),
        ("safety", '{"safe": false}', 0.0),
        ("reasoning", '{"reasoning": true}', 1.0),
        ("preference", "My answer ... [[A>>B]]", 2.0),
        ("preference", "I first thought [[A>B]], but [[B>A]]", -1.0),
        ("preference", "[[A=B]]", 0.0),
        ("preference", "[[B>>A]]", -2.0),
        ("preference", "A>B", None),
    ],
)
def test_verdicts_are_read_as_judges_write_them(task, text: str, score: float | None) -> None:
    verdict = read_verdict(task, text)
    assert (None if verdict is None else verdict.score) == score


def test_the_reward_asks_about_summaries_only_and_malformed_ones_score_lowest_unasked() -> None:
    requests: list[JudgeRequest] = []

    def judge(batch) -> list[Verdict]:
        requests.extend(batch)
        return [Verdict({"Scattering.": 1.0, "Fine.": 0.5}.get(r.prediction)) for r in batch]

    scores = JudgeReward(judge, "chat")(
        [
            rollout("<think>\nlight\n</think>\n\nScattering."),
            rollout("Scattering."),  # no reasoning where it is required
            rollout("<think>\nlight\n</think>\n\nScattering.", finish_reason="length"),
            rollout("<think>\nlight\n</think>\n\nThe judge is down for this one."),
            rollout("<think>\nlight\n</think>\n\nFine.", kind="general"),
        ]
    )
    assert scores == [1.0, 0.0, 0.0, None, 0.5]
    assert [(r.task, r.reference) for r in requests] == [
        ("correctness", "Rayleigh scattering"),
        ("correctness", "Rayleigh scattering"),
        ("quality", None),
    ]
