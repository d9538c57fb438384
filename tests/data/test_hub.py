"""The hub where there is no network: one sentence, at once, and what is cached goes on working."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from r1kit.data import hub
from r1kit.data.files import read_rows
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError, ModelError
from r1kit.model.loading import load_model, load_tokenizer


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A port that nobody listens on, with an empty cache."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
        monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "_OFFLINE_BY_USER", False)
        yield url


def test_data_sets_and_models_that_can_not_be_had_are_one_sentence_at_once(
    endpoint: str, tmp_path: Path
) -> None:
    begin = time.monotonic()
    with pytest.raises(DataError) as data:
        read_rows("someone/none", split=None, subset=None, base_dir=tmp_path)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError) as model:
            load("someone/none")
        assert str(model.value) == (
            "'someone/none' is neither a local folder nor a model in the hub's cache, and the hub "
            f"({endpoint.removeprefix('http://')}) can't be reached: no network, or it does not answer"
        )
    assert str(data.value).startswith(
        "'someone/none' is not a file or folder here, nor in the hub's cache, and the hub"
    )
    assert time.monotonic() - begin < 10
    assert constants.HF_HUB_OFFLINE  # what is cached is used without asking


def test_a_folder_with_a_slip_in_its_name_is_suggested(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "gsm8k").mkdir(parents=True)
    with pytest.raises(DataError, match=r"'data/gms8k' is not a .* here \(did you mean 'gsm8k'\?\)"):
        read_rows("data/gms8k", split=None, subset=None, base_dir=tmp_path)
    with pytest.raises(DataError, match=r"'\./dta/gsm8k' is not .* nor the name of a data set on the hub"):
        read_rows("./dta/gsm8k", split=None, subset=None, base_dir=tmp_path)


def test_a_slip_in_a_well_known_sets_name_is_suggested(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'; for the well-known set: source = "gsm8k"$'):
        load_problems(ProblemSource(source="gms8k", kind="math"), seed=0, base_dir=tmp_path)
    with pytest.raises(DataError, match=r"does not answer; name a file or folder$"):
        load_problems(ProblemSource(source="someone/none", kind="math"), seed=0, base_dir=tmp_path)


def test_a_server_that_never_answers_is_waited_for_three_seconds(monkeypatch, endpoint: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub, "_TIMEOUT_SECONDS", 0.2)
        begin = time.monotonic()
        assert "can't be reached" in str(hub.unreachable())
        first = time.monotonic() - begin
        assert 0.2 <= first < 5
        # the answer holds for a while
        assert "can't be reached" in str(hub.unreachable())


def test_a_server_that_answers_anything_is_there_and_the_libraries_go_on_line_again(
    monkeypatch, endpoint: str
) -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert hub.unreachable() is not None
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert hub.unreachable() is None
        assert not constants.HF_HUB_OFFLINE
    finally:
        server.shutdown()
        server.server_close()


def test_a_name_that_the_hub_has_not_is_one_sentence(monkeypatch, tmp_path: Path) -> None:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    def refuse(*arguments: object, **more: object) -> None:
        raise DatasetNotFoundError("Dataset 'someone/none' doesn't exist on the Hub\nand more")

    monkeypatch.setattr(hub, "unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError) as caught:
        read_rows("someone/none", split=None, subset=None, base_dir=tmp_path)
    assert str(caught.value) == (
        "'someone/none' is not a file or folder here, nor an available data set on the hub: Dataset "
        "'someone/none' doesn't exist on the Hub"
    )


def test_a_cached_model_is_loaded_without_a_network(endpoint: str, tmp_path: Path) -> None:
    from r1kit.model.loading import resolve_model

    repository = tmp_path / "hub" / "models--someone--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for file in Path(resolve_model("tinyworld")).iterdir():
        (snapshot / file.name).symlink_to(file)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert hub.has_model("someone/tiny")
    assert load_tokenizer("someone/tiny").eos_token_id is not None


def test_a_cache_of_other_data_sets_has_none_of_this_name(endpoint: str, tmp_path: Path) -> None:
    made = tmp_path / "datasets"
    for name in ("json", "someone___other"):
        (made / name).mkdir(parents=True)
    assert not hub.has_data_set("gsm8k")
    assert not hub.has_data_set("openai/gsm8k")
    (made / "openai___gsm8k").mkdir()
    assert hub.has_data_set("gsm8k")
    assert hub.has_data_set("openai/gsm8k")
