from collections import Counter

import pytest

from r1kit.errors import DataError
from r1kit.grpo.stream import ProblemStream, mix
from tests.grpo.scripted import problems


def ids(taken):
    return [problem.id for problem in taken]


def test_every_epoch_visits_every_problem_once_in_another_order():
    stream = ProblemStream({"a": problems(20)}, seed=1)
    first, second = ids(stream.take(["a"] * 20)), ids(stream.take(["a"] * 20))
    assert sorted(first) == sorted(second) == sorted(ids(problems(20)))
    assert first != second
    assert first != ids(problems(20))


def test_the_order_is_a_function_of_seed_set_and_position_alone():
    whole = ProblemStream({"a": problems(7), "b": problems(5, name="q")}, seed=1)
    taken = ids(whole.take(["a", "b"] * 12))
    resumed = ProblemStream({"a": problems(7), "b": problems(5, name="q")}, seed=1)
    resumed.skip(["a", "b"] * 5)
    assert resumed.positions == {"a": 5, "b": 5}
    assert ids(resumed.take(["a", "b"] * 7)) == taken[10:]
    assert ids(ProblemStream({"a": problems(7)}, seed=1).take(["a"] * 12)) == taken[::2]
    assert ids(ProblemStream({"a": problems(7)}, seed=2).take(["a"] * 12)) != taken[::2]


def test_going_back_to_an_earlier_epoch_gives_the_same_problems():
    stream = ProblemStream({"a": problems(4)}, seed=1)
    first = [stream.problem("a", i).id for i in range(16)]
    assert [stream.problem("a", i).id for i in range(16)] == first


def test_an_empty_set_is_refused_by_name():
    with pytest.raises(DataError, match="problem set 'general' is empty"):
        ProblemStream({"general": []}, seed=0)


def test_a_mixture_is_exact_on_average_and_off_by_less_than_one_in_a_step():
    shares = {"reasoning": 5.0, "general": 3.0, "harmful": 2.0}
    total: Counter[str] = Counter()
    for seed in range(2000):
        counts = Counter(mix(shares, 8, seed=seed))
        # 8 x (.5, .3, .2) = 4, 2.4, 1.6
        assert counts["reasoning"] in (3, 4, 5)
        assert counts["general"] in (2, 3)
        assert counts["harmful"] in (1, 2)
        total += counts
    assert total["general"] / 2000 == pytest.approx(2.4, abs=0.05)
    assert total["harmful"] / 2000 == pytest.approx(1.6, abs=0.05)
    assert mix({"a": 0.1}, 3, seed=0) == ["a", "a", "a"]
