"""One row per step, whatever was killed and resumed."""

import math

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from r1kit.training.metrics_log import MetricsWriter, read_metrics


def test_rows_are_read_back_and_non_finite_numbers_left_out(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": 0.1, "grad_norm": math.nan})
    writer.write(2, {"loss": 1 / 3})
    writer.close()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1 / 3}]


def test_a_resumed_run_cuts_off_what_it_does_again(tmp_path):
    first = MetricsWriter(tmp_path)
    for step in (1, 2, 3, 4):
        first.write(step, {"loss": float(step)})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    second = MetricsWriter(tmp_path)
    second.write(3, {"loss": 30.0})
    second.write(4, {"loss": 40.0})
    second.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [
        (1, 1),
        (2, 2),
        (3, 30),
        (4, 40),
    ]


def test_tensorboard_shows_the_same_numbers(tmp_path):
    for start, factor in ((1, 1.0), (2, 10.0)):
        writer = MetricsWriter(tmp_path)
        for step in range(start, 4):
            writer.write(step, {"reward/mean": factor * step})
        writer.close()
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [
        (1, 1.0),
        (2, 20.0),
        (3, 30.0),
    ]


def test_nothing_written_is_nothing_to_read(tmp_path):
    assert read_metrics(tmp_path) == []
