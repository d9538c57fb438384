"""Skip, redo with the reason, resume, interrupt: with stages whose work is faked."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from r1kit.errors import StageHalted, UserError
from r1kit.pipeline import manifest as manifest_module
from r1kit.pipeline.interrupt import RunInterrupted
from r1kit.pipeline.manifest import read_manifest
from r1kit.pipeline.run import open_run
from r1kit.pipeline.status import run_status
from r1kit.stage import StageContext
from tests.pipeline.fakes import World, make_world

ALL = ["zero", "cold", "dev1", "dev2"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def states(world: World) -> dict[str, tuple[str, str]]:
    return {row.name: (row.state, row.why) for row in run_status(open_run(world.recipe))}


def test_stages_run_in_the_order_of_dependence_not_of_the_file(world: World) -> None:
    result = world.run()
    assert world.made == ALL  # the file has dev2 first
    assert [row.state for row in result.rows] == ["done"] * 4
    manifest = read_manifest(world.out / "dev1")
    assert manifest is not None
    assert manifest.key.config["epochs"] == 2
    assert manifest.key.config["optimizer"]["learning_rate"] == 5e-5  # defaults are filled in
    assert sorted(manifest.key.inputs) == ["model base", "sft data cold"]
    assert manifest.key.settings == {"run": {"seed": 0}, "model": {"dtype": "float32", "device": "cpu"}}
    assert manifest.environment["threads"] >= 1
    assert manifest.environment["world_size"] == 1
    assert manifest.outputs == ("model",)
    assert manifest.metrics == {"accuracy": 0.5}
    assert manifest.finished is not None
    assert manifest.started <= manifest.finished
    assert not (world.out / ".work").exists()


def test_what_is_done_is_skipped(world: World) -> None:
    world.run()
    world.run()
    assert world.made == []
    assert world.progress.notes == [f"{name}: done" for name in ALL]


def test_a_change_remakes_what_depends_on_it_and_says_why(world: World) -> None:
    world.run()
    world.edit("epochs = 2", "epochs = 3")
    assert states(world)["dev1"] == ("stale", "stages.dev1.epochs was 2, is 3")
    assert states(world)["dev2"] == ("stale", "after dev1")
    world.run()
    assert world.made == ["dev1", "dev2"]
    assert world.progress.notes == [
        "zero: done",
        "cold: done",
        "dev1 again: stages.dev1.epochs was 2, is 3.",
        "dev2 again: its model dev1 changed.",
    ]
    # one generation back is kept
    old = read_manifest(world.out / ".old" / "dev1")
    assert old is not None
    assert old.key.config["epochs"] == 2
    assert (world.out / ".old" / "dev1" / "model" / "model.safetensors").is_file()


def test_a_stage_that_comes_out_the_same_leaves_what_depends_on_it(world: World) -> None:
    world.run()
    world.edit("epochs = 2", "epochs = 2\ncheckpoint_every = 7")
    world.run()
    assert world.made == ["dev1"]


def test_an_edited_problem_file_base_or_data_file_is_a_change(world: World) -> None:
    world.run()
    with (world.folder / "sums.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"q": "What is 7 + 1?", "a": "8"}\n')
    world.run()
    assert world.made == ALL
    assert "zero again: its problems sums changed." in world.progress.notes

    (world.folder / "base_model" / "model.safetensors").write_text("another", encoding="utf-8")
    world.run()
    assert "zero again: its model base changed." in world.progress.notes

    # cold-start data that people went over by hand: the stage stays done, what reads it is made again
    (world.out / "cold" / "data.jsonl").write_text('{"edited": 1}\n', encoding="utf-8")
    world.run()
    assert world.made == ["dev1", "dev2"]
    assert "dev1 again: its sft data cold changed." in world.progress.notes


def test_another_seed_is_another_run_in_the_same_folder_or_its_own(world: World) -> None:
    world.run()
    world.run(seed=1, output_dir=world.folder / "other")
    assert world.made == ALL
    world.run(seed=1)
    assert world.made == ALL
    assert world.progress.notes[0] == "zero again: run.seed was 0, is 1."


def test_only_the_stages_asked_for_and_those_they_need(world: World) -> None:
    world.run(stages=["cold"])
    assert world.made == ["zero", "cold"]
    with pytest.raises(UserError, match=r"no stage `dve1` in the recipe; did you mean `dev1`\?"):
        world.run(stages=["dve1"])


def test_a_lost_output_is_made_again(world: World) -> None:
    world.run()
    (world.out / "cold" / "data.jsonl").unlink()
    world.run()
    assert world.made == ["cold"]
    assert any("cold again: data.jsonl is missing from" in note for note in world.progress.notes)


def test_code_that_changed_is_a_warning_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    monkeypatch.setattr(manifest_module, "code_version", lambda: {"version": "9.9", "sources": "f" * 32})
    world.run()
    assert world.made == []
    assert all(
        "made by r1kit 0." in note and "this is 9.9 (ffffffff); kept" in note for note in world.progress.notes
    )


def interrupt_once(world: World, stage: str, how: BaseException | int) -> list[bool]:
    """Stop the stage when it first runs, after it wrote something; whether it found that again, each time."""
    found: list[bool] = []

    def stop(context: StageContext) -> None:
        partial = context.work_dir / "partial"
        found.append(partial.exists())
        partial.write_text("half", encoding="utf-8")
        context.progress.start(context.name, 9, "steps")
        context.progress.step(4, {})
        if len(found) == 1:
            if isinstance(how, int):
                os.kill(os.getpid(), how)
            else:
                raise how

    world.before[stage] = stop
    return found


@pytest.mark.parametrize("how", [KeyboardInterrupt(), signal.SIGTERM])
def test_a_stopped_run_says_where_and_goes_on(world: World, how: BaseException | int) -> None:
    found = interrupt_once(world, "dev1", how)
    with pytest.raises(RunInterrupted, match=r"^Stopped in dev1 \(dev1: 4 of 9 steps\)\.$"):
        world.run()
    assert states(world)["dev1"] == ("in progress", "dev1: 4 of 9 steps")
    assert states(world)["dev2"] == ("to do", "")
    world.run()
    assert world.made == ["dev1", "dev2"]
    assert found == [False, True]


def test_an_unfinished_stage_is_begun_anew_where_its_inputs_changed(world: World) -> None:
    found = interrupt_once(world, "dev1", KeyboardInterrupt())
    with pytest.raises(RunInterrupted):
        world.run()
    world.edit("epochs = 2", "epochs = 5")
    world.run()
    assert found == [False, False]
    assert (
        "dev1: the unfinished attempt was put aside: stages.dev1.epochs was 2, is 5." in world.progress.notes
    )
    assert (world.out / ".old" / "dev1.unfinished" / "partial").is_file()


def test_going_on_with_other_ranks_or_threads_is_said_in_one_sentence(world: World) -> None:
    interrupt_once(world, "dev1", KeyboardInterrupt())
    with pytest.raises(RunInterrupted):
        world.run()
    path = world.out / ".work" / "dev1" / "manifest.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    now = row["environment"]
    row["environment"] = {**now, "world_size": 3, "threads": now["threads"] + 6}
    path.write_text(json.dumps(row), encoding="utf-8")
    world.run()
    said = [note for note in world.progress.notes if "begun" in note]
    assert said == [
        f"dev1 was begun with 3 ranks (now 1) and {now['threads'] + 6} threads (now {now['threads']}): it "
        "resumes, and its result will equal that of an uninterrupted run up to rounding, not to the bit."
    ]


def test_going_on_with_what_it_was_begun_with_needs_no_word(world: World) -> None:
    interrupt_once(world, "dev1", KeyboardInterrupt())
    with pytest.raises(RunInterrupted):
        world.run()
    world.run()
    assert not [note for note in world.progress.notes if "begun" in note]


def test_a_stage_that_fails_leaves_the_others_done_and_itself_resumable(world: World) -> None:
    found = interrupt_once(world, "dev1", StageHalted("three updates in a row were not finite"))
    with pytest.raises(UserError, match="not finite"):
        world.run()
    world.run()
    assert found == [False, True]


def test_while_a_stage_is_made_again_the_old_one_stays_in_place(world: World) -> None:
    world.run()
    world.edit("epochs = 2", "epochs = 3")
    interrupt_once(world, "dev1", KeyboardInterrupt())
    with pytest.raises(RunInterrupted):
        world.run()
    manifest = read_manifest(world.out / "dev1")
    assert manifest is not None
    assert manifest.key.config["epochs"] == 2
    # back to the old recipe: the old stage is done again, the attempt is of no use
    world.edit("epochs = 3", "epochs = 2")
    world.run()
    assert world.made == []


def test_the_time_of_all_attempts_is_counted(world: World) -> None:
    interrupt_once(world, "dev1", KeyboardInterrupt())
    with pytest.raises(RunInterrupted):
        world.run()
    path = world.out / ".work" / "dev1" / "progress.json"
    reached = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**reached, "seconds": 100.0}), encoding="utf-8")
    world.run()
    manifest = read_manifest(world.out / "dev1")
    assert manifest is not None
    assert 100 <= manifest.seconds < 130


def test_what_was_whole_when_the_machine_stopped_is_put_into_place(world: World) -> None:
    world.run()
    (world.out / ".work").mkdir(exist_ok=True)
    (world.out / "dev1").rename(world.out / ".work" / "dev1")  # as if the rename had not happened
    world.run()
    assert world.made == []


KILLED = """
    import os, sys
    from pathlib import Path
    from tests.pipeline.fakes import World

    world = World(Path(sys.argv[1]))
    def die(context):
        (context.work_dir / "partial").write_text("half")
        os._exit(9)
    world.before["cold"] = die
    world.run()
"""


def test_a_killed_process_leaves_a_run_that_goes_on(world: World) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(world.folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr
    assert (world.out / ".lock").read_text(encoding="utf-8")  # it could not clean up
    partial: list[bool] = []
    world.before["cold"] = lambda context: partial.append((context.work_dir / "partial").is_file())
    world.run()
    assert world.made == ["cold", "dev1", "dev2"]
    assert partial == [True]


def test_two_runs_on_one_folder_do_not_collide(world: World) -> None:
    world.run()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        lock = world.out / ".lock"
        started = Path(f"/proc/{other.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19]
        holder = {"pid": other.pid, "host": os.uname().nodename, "started": started}
        lock.write_text(json.dumps(holder), encoding="utf-8")
        with pytest.raises(UserError, match=rf"another run is using this folder \(process {other.pid} on"):
            world.run()
        # the same process id, but another process: it was reused
        lock.write_text(json.dumps({**holder, "started": "1"}), encoding="utf-8")
        world.run()
        other.communicate(b"\n")


def test_a_problem_that_can_not_be_verified_is_refused_with_its_line(world: World) -> None:
    with (world.folder / "sums.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"q": "What is 7 + 1?", "a": ""}\n')
    with pytest.raises(UserError, match=r"problems\.sums: .*sums\.jsonl:4: "):
        world.run()


def test_evaluations_are_cached_like_stages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def evaluate_model(
        model_path: str, problem_sets: object, config: object, **options: object
    ) -> dict[str, object]:
        work_dir = options["work_dir"]
        assert isinstance(work_dir, Path)
        asked.append(f"{work_dir.name} {options['style']}")
        (work_dir / "summary.json").write_text("{}", encoding="utf-8")
        return {"pass@1": 0.5, "reasoning": {"nested": 1}}

    monkeypatch.setattr("r1kit.pipeline.run.evaluate_model", evaluate_model)
    with world.recipe.open("a", encoding="utf-8") as file:
        file.write('[eval]\nproblems = ["sums"]\nsamples = 2\n')
    world.run()
    assert asked == ["base zero", "dev2 chat", "zero zero", "dev1 chat"]
    manifest = read_manifest(world.out / "eval" / "dev2")
    assert manifest is not None
    assert manifest.metrics == {"pass@1": 0.5}
    asked.clear()
    world.edit("epochs = 2", "epochs = 3")
    world.run()
    assert asked == ["dev2 chat", "dev1 chat"]
    assert "eval/dev1 again: its model dev1 changed." in world.progress.notes
    asked.clear()
    world.edit("samples = 2", "samples = 4")
    world.run()
    assert len(asked) == 4
    assert "eval/base again: eval.samples was 2, is 4." in world.progress.notes
