"""The client against a server that misbehaves: slow, busy, broken, mute, without schemas."""

import json
import threading
import time
from email.utils import formatdate

import pytest

from r1kit.errors import RecipeError, StageHalted
from r1kit.judges.chat_client import ChatClient, ChatReply, ChatRequest, ServerConfig, retry_after
from r1kit.judges.ledger import Ledger
from tests.judges.chat_server import ChatServer, Raw, chat_server

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def config(server: ChatServer, **more) -> ServerConfig:
    return ServerConfig(base_url=server.url, model="m", **({"backoff_seconds": 0.0} | more))


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def asked(body: dict) -> str:
    return body["messages"][-1]["content"]


def ask(client: ChatClient, *texts: str, schema: dict | None = None) -> list[ChatReply | None]:
    replies: list[ChatReply | None] = [None] * len(texts)
    requests = [ChatRequest(tuple(user(text)), 0.0, 50, schema=schema) for text in texts]
    client.ask(requests, replies.__setitem__)
    return replies


def test_replies_come_back_in_order_whatever_the_concurrency() -> None:
    barrier = threading.Barrier(4, timeout=10)

    def answer(body: dict) -> str:
        if asked(body) < "4":
            barrier.wait()  # only reached together if four requests are in flight at once
        return asked(body)

    with chat_server(answer) as server:
        replies = ChatClient(config(server, concurrency=4))([user(str(i)) for i in range(10)])
    assert [reply.content for reply in replies] == [str(i) for i in range(10)]


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


MISBEHAVIOURS = {
    "429": 429,
    "429, retry after": Raw(429, b"{}", {"Retry-After": "0.01"}),
    "500": 500,
    "503": 503,
    "JSON that breaks off": b'{"choices": [',
    "nothing at all": b"",
    "a connection that closes": Raw(hangs_up=True),
    "no choices": Raw(200, b'{"id": "x", "choices": []}'),
    "choices that are none": Raw(200, b'{"id": "x", "choices": null}'),
    "a page": Raw(200, b"<html>Gateway</html>", {"Content-Type": "text/html"}),
    "JSON of something else": Raw(200, b'["hello"]'),
    "content that is none": {"content": None},
}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_what_may_pass_is_tried_again_and_is_none_at_last(name: str) -> None:
    seen: list[str] = []

    def answer(body: dict) -> object:
        seen.append(asked(body))
        if asked(body) == "always" or seen.count("once") == 1:
            return MISBEHAVIOURS[name]
        return "fine"

    with chat_server(answer) as server:
        client = ChatClient(config(server, retries=2, concurrency=1))
        replies = client([user("once"), user("always")])
    assert replies[0].content == "fine"
    assert replies[1] is None
    assert seen == ["once", "once", "always", "always", "always"]
    # one retry mends the first, two do not mend the second
    assert client.counts == {"asked": 2, "retried": 3, "failed": 1}


def test_a_server_that_is_too_slow_is_given_up_after_the_time_out() -> None:
    is_over = threading.Event()
    with chat_server(lambda body: "late" if is_over.wait(120) else "") as server:
        client = ChatClient(config(server, retries=1, timeout_seconds=0.2))
        start = time.monotonic()
        assert client([user("hello")]) == [None]
        assert time.monotonic() - start < 60  # twice 0.2 and what a busy machine adds, and not once 120
        is_over.set()
    assert client.counts == {"asked": 1, "retried": 1, "failed": 1}


def test_as_long_is_waited_as_the_server_says_and_by_everyone() -> None:
    times: list[float] = []

    def answer(body: dict) -> object:
        times.append(time.monotonic())
        return Raw(429, b"{}", {"Retry-After": "0.5"}) if len(times) == 1 else "fine"

    with chat_server(answer) as server:
        client = ChatClient(config(server, concurrency=1))
        assert [reply.content for reply in client([user("a"), user("b")])] == ["fine", "fine"]
    assert times[1] - times[0] >= 0.49


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("", 0.0),
        ("soon", 0.0),
        ("-3", 0.0),
        (formatdate(1_000_020.0, usegmt=True), 20.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float) -> None:
    assert retry_after({"retry-after": value}, 1_000_000.0) == seconds


def test_a_server_that_asks_for_more_than_ten_minutes_is_not_waited_for() -> None:
    with chat_server(lambda body: Raw(429, b"{}", {"Retry-After": "3600"})) as server:
        start = time.monotonic()
        assert ChatClient(config(server))([user("hello")]) == [None]
        assert len(server.requests) == 1
    assert time.monotonic() - start < 300  # however busy the machine is; 3600 were asked for


def test_pauses_grow() -> None:
    times: list[float] = []

    def answer(body: dict) -> int:
        times.append(time.monotonic())
        return 500

    with chat_server(answer) as server:
        ChatClient(config(server, retries=2, backoff_seconds=0.2))([user("hello")])
    first, second = times[1] - times[0], times[2] - times[1]
    # from half of 0.2 and of 0.4 on; upper bounds would be the machine's
    assert first >= 0.1
    assert second >= 0.2


def test_a_schema_is_asked_for_and_a_server_that_refuses_it_is_asked_once() -> None:
    def answer(body: dict) -> object:
        time.sleep(0.02)  # so that others are on their way meanwhile
        return 400 if "response_format" in body else '{"n": 1}'

    with chat_server(answer) as server:
        client = ChatClient(config(server, concurrency=4))
        replies = ask(client, *map(str, range(8)), schema=SCHEMA)
    assert [reply.content for reply in replies] == ['{"n": 1}'] * 8
    refused = [body for body in server.requests if "response_format" in body]
    assert len(refused) == 1
    assert refused[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "judgment", "schema": SCHEMA, "strict": True},
    }
    assert client.counts == {"asked": 8, "retried": 1}


def test_a_server_that_takes_schemas_gets_one_with_every_question() -> None:
    with chat_server(lambda body: '{"n": 1}') as server:
        ask(ChatClient(config(server)), "a", "b", "c", schema=SCHEMA)
        assert all("response_format" in body for body in server.requests)
        ask(ChatClient(config(server), structured=False), "a", schema=SCHEMA)
        assert "response_format" not in server.requests[-1]


def test_a_question_that_is_refused_either_way_says_nothing_about_schemas() -> None:
    with chat_server(lambda body: 400 if asked(body) == "too long" else "ok") as server:
        client = ChatClient(config(server, concurrency=1))
        assert ask(client, "too long", "short", schema=SCHEMA)[1].content == "ok"
        # with, without; and the next one with a schema again
        assert ["response_format" in body for body in server.requests] == [True, False, True]


def test_no_more_than_so_many_requests_are_in_flight_whoever_asks() -> None:
    lock, flying, most = threading.Lock(), 0, 0

    def answer(body: dict) -> str:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        time.sleep(0.02)
        with lock:
            flying -= 1
        return "ok"

    with chat_server(answer) as server:
        client = ChatClient(config(server, concurrency=3))
        askers = [threading.Thread(target=ask, args=(client, *"abcdef")) for _ in range(3)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert len(server.requests) == 18
    assert most == 3


def test_a_rate_spreads_requests_evenly() -> None:
    times: list[float] = []
    start = time.monotonic()
    with chat_server(lambda body: times.append(time.monotonic()) or "ok") as server:
        ChatClient(config(server, requests_per_minute=600))([user(str(i)) for i in range(5)])
    # 600 a minute is one in 0.1 s: five take 0.4 s at least, sixteen in flight or not
    assert max(times) - start >= 0.4


def test_a_spent_budget_halts_or_leaves_out_as_it_is_told() -> None:
    with chat_server(lambda body: "ok") as server:
        account = Ledger(max_requests=3)
        client = ChatClient(config(server, concurrency=1), ledger=account, when_spent="missing")
        replies = client([user(str(i)) for i in range(5)])
        assert [reply is not None for reply in replies] == [True, True, True, False, False]
        assert client.counts == {"asked": 5, "over_budget": 2}
        with pytest.raises(StageHalted, match=r"m at http.* has spent its budget: 3 of budget_requests = 3"):
            ChatClient(config(server), ledger=account)([user("one more")])
        assert len(server.requests) == 3
        # a reply costs 100 tokens, as the server says: the third one is not asked for
        by_tokens = ChatClient(config(server, concurrency=1), ledger=Ledger(max_tokens=200))
        with pytest.raises(StageHalted, match="200 of budget_tokens = 200"):
            by_tokens([user(str(i)) for i in range(5)])
        assert len(server.requests) == 5


def test_tokens_are_estimated_where_the_server_reports_none() -> None:
    body = {"id": "x", "choices": [{"index": 0, "message": {"content": "x" * 40}, "finish_reason": "stop"}]}
    account = Ledger()
    with chat_server(lambda _: Raw(200, json.dumps(body).encode())) as server:
        ChatClient(config(server), ledger=account)([user("y" * 20)])
    assert account.spent() == (1, 15)  # 60 characters, four to a token


def test_what_ends_the_run_does_not_wait_for_pauses() -> None:
    both = threading.Barrier(2, timeout=20)

    def answer(body: dict) -> object:
        both.wait()  # both are on their way before one is told to wait
        if asked(body) == "patient":
            return Raw(503, b"{}", {"Retry-After": "300"})
        time.sleep(0.3)  # until that one waits
        return 404

    with chat_server(answer) as server:
        start = time.monotonic()
        with pytest.raises(RecipeError):
            ChatClient(config(server))([user("patient"), user("fatal")])
    assert time.monotonic() - start < 30
