"""Models of other people as reward models: heads with one label and several, encoders and decoders."""

import json
import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from r1kit.errors import ModelError
from r1kit.model.scorers import classifier_labels, load_classifier
from r1kit.rewards.build import build_rewards
from r1kit.rewards.classifiers import (
    Classifier,
    ClassifierConfig,
    EncodedText,
    label_index,
    label_log_odds,
    score_rows,
)
from r1kit.rewards.model_rewards import RewardModelReward
from r1kit.text.template import format_chat
from tests.bounds import FEW, relative_error
from tests.making import make_problem, make_rollout
from tests.tiny_models import CHAT_TEMPLATE, tiny_model

GENERAL = make_problem("general", None, wants_reasoning=False)
LABELS = {0: "toxic", 1: "dull", 2: "kind"}
# like many: of a finished turn the reasoning is dropped
DROPS_REASONING = CHAT_TEMPLATE.replace("m['content']", "m['content'].split('</think>')[-1]")


def encoder(folder: Path, *, labels: dict[int, str], roberta: bool = False, **more: object) -> Path:
    """A random BERT, or RoBERTa, of 40 positions, without a chat template or an end token."""
    raw = Tokenizer(models.BPE(unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["what is this"], trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", *([] if roberta else ["token_type_ids"]), "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=names,
    ).save_pretrained(folder)
    shape = {
        "vocab_size": 270, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "id2label": labels, "label2id": {v: k for k, v in labels.items()},
        "pad_token_id": 0, "initializer_range": 0.5, **more,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (
            RobertaForSequenceClassification(RobertaConfig(max_position_embeddings=41, **shape))
            if roberta
            else BertForSequenceClassification(BertConfig(max_position_embeddings=40, **shape))
        )
    model.save_pretrained(folder)
    return folder


def decoder(folder: Path, *, labels: dict[int, str], template: str = CHAT_TEMPLATE) -> Path:
    """A random decoder with a head, and a chat template."""
    tiny_model(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def test_the_log_odds_of_one_label_by_hand() -> None:
    # weights 1, 2 and 5 of 8: odds 1/7, 2/6, 5/3
    logits = torch.tensor([[math.log(1.0), math.log(2.0), math.log(5.0)]])
    for index, odds in enumerate((1 / 7, 2 / 6, 5 / 3)):
        found = label_log_odds(logits, index, "single_label_classification").item()
        assert found == pytest.approx(math.log(odds), abs=FEW)
        independent = label_log_odds(logits, index, "multi_label_classification").item()
        assert independent == pytest.approx(math.log((1.0, 2.0, 5.0)[index]), abs=FEW)
    assert label_log_odds(torch.tensor([[0.25]]), 0, "regression").item() == 0.25


@pytest.mark.numerical
def test_an_encoder_reads_question_and_text_as_a_pair(tmp_path: Path) -> None:
    folder = encoder(tmp_path, labels=LABELS)
    text = "It is 51."
    score_of = {}
    for label in LABELS.values():
        table = ClassifierConfig(model=str(folder), label=label)
        [score_of[label]] = RewardModelReward("helpful", table).score_texts([(GENERAL, text)])
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("What is 45 + 6?", text, return_tensors="pt")
    assert inputs["token_type_ids"].tolist()[0][-1] == 1
    with torch.no_grad():
        probabilities = model(**inputs).logits.softmax(dim=1)[0].tolist()
    assert [score_of[LABELS[i]] for i in range(3)] == pytest.approx(probabilities, abs=relative_error(model))
    assert max(probabilities) - min(probabilities) > 0.05
    # what is not wanted: all else
    table = ClassifierConfig(model=str(folder), label="Toxic", negate=True)
    [safe] = RewardModelReward("safety", table).score_texts([(GENERAL, text)])
    assert safe == pytest.approx(1 - probabilities[0], abs=relative_error(model))


@pytest.mark.numerical
def test_labels_that_do_not_exclude_each_other_are_scored_one_by_one(tmp_path: Path) -> None:
    folder = encoder(tmp_path, labels=LABELS, problem_type="multi_label_classification")
    table = ClassifierConfig(model=str(folder), label=2)
    [score] = RewardModelReward("helpful", table).score_texts([(GENERAL, "It is 51.")])
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)("What is 45 + 6?", "It is 51.", return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits[0, 2].sigmoid().item()
    assert score == pytest.approx(expected, abs=relative_error(model))


@pytest.mark.parametrize("roberta", [False, True])
def test_of_what_an_encoder_can_not_hold_the_end_is_read(tmp_path: Path, roberta: bool) -> None:
    folder = encoder(tmp_path, labels={0: "good"}, roberta=roberta)
    classifier = Classifier(str(folder))
    end = " and this is how it ends, which is longer than all 40 positions"
    rows = [classifier.encode(GENERAL, start * 30 + end) for start in ("one", "two")]
    # RoBERTa's positions begin behind its padding id, 0: 41 - 0 - 1
    assert [len(row.token_ids) for row in rows] == [40, 40]
    assert rows[0] == rows[1]
    assert (rows[0].types is None) == roberta
    assert classifier.log_odds(rows).shape == (2,)
    tokens = classifier.tokenizer.convert_ids_to_tokens(rows[0].token_ids)
    # "tions" and the end, behind all of the question
    assert (tokens[0], tokens[-3:], tokens.count("[SEP]")) == ("[CLS]", ["n", "s", "[SEP]"], 2)


@pytest.mark.numerical
def test_a_decoder_reads_a_finished_turn_of_its_template(tmp_path: Path) -> None:
    folder = decoder(tmp_path, labels={0: "reward"}, template=CHAT_TEMPLATE + "{{ '\n' }}")
    classifier = Classifier(str(folder))
    row = classifier.encode(GENERAL, "Hi")
    assert classifier.tokenizer.decode(row.token_ids) == (
        "<|user|>What is 45 + 6?<|assistant|>Hi<|endoftext|>\n"
    )
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logit = model(input_ids=torch.tensor([row.token_ids])).logits.item()
    assert classifier.log_odds([row, row]).tolist() == pytest.approx(
        [logit, logit], abs=relative_error(model) * max(1, abs(logit))
    )


def test_a_template_that_drops_the_reasoning_is_gone_round(tmp_path: Path) -> None:
    folder = decoder(tmp_path, labels={0: "reward"}, template=DROPS_REASONING)
    text = format_chat("use a rope", "No.")
    classifier = Classifier(str(folder))
    seen = classifier.tokenizer.decode(classifier.encode(GENERAL, text).token_ids)
    assert seen == f"<|user|>What is 45 + 6?<|assistant|>{text}<|endoftext|>"


def test_a_model_of_several_labels_needs_one_to_be_named(tmp_path: Path) -> None:
    folder = decoder(tmp_path, labels=LABELS)
    reward = build_rewards(["helpful"], style="chat", seed=0, reward_models={"helpful": str(folder)})
    with pytest.raises(ModelError, match=r"several labels \(0 'toxic', 1 'dull', 2 'kind'\): say whose"):
        reward["helpful"]([make_rollout(GENERAL, "Hi")])
    with pytest.raises(ModelError, match=r"no label 'kinds'; it has .*; did you mean `kind`\?"):
        label_index(LABELS, "kinds", "x")
    with pytest.raises(ModelError, match="no label 3"):
        label_index(LABELS, 3, "x")
    assert label_index(LABELS, "KIND", "x") == label_index(LABELS, 2, "x") == 2


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    with pytest.raises(ModelError, match=r"score\.weight\); they would be random"):
        RewardModelReward("helpful", folder).score_texts([(GENERAL, "Hi")])
    with pytest.raises(ModelError, match=r"is a Qwen3ForCausalLM, which has no trained head"):
        classifier_labels(str(folder))


def test_a_decoder_without_padding_is_read_at_the_last_token_of_each_row(tmp_path: Path) -> None:
    folder = decoder(tmp_path, labels={0: "score"})
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        config = json.loads((folder / name).read_text())
        config[key] = None
        (folder / name).write_text(json.dumps(config))
    model, tokenizer = load_classifier(str(folder))
    assert model.config.pad_token_id is None
    end = tokenizer.eos_token_id
    rows = [EncodedText((5, 6, end)), EncodedText((7, 8, 9, 10, end)), EncodedText((0, 1, 2, 3))]
    with torch.no_grad():
        alone = [float(model(input_ids=torch.tensor([row.token_ids])).logits) for row in rows]
        shorter = float(model(input_ids=torch.tensor([[5, 6]])).logits)
    assert score_rows(model, rows)[:, 0].tolist() == pytest.approx(alone, abs=1e-5)
    assert abs(alone[0] - shorter) > 1e-3, "it makes no difference where this model is read"
