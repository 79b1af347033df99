"""Every configuration is read strictly, and each kind of them runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.training import parse_run, train

CONFIGS = sorted((Path(__file__).parents[3] / "examples" / "huggingface" / "config").glob("*.yaml"))
KINDS = ["librispeech_stage1", "covost2_tr_stage1", "covost2_de_adversary_stage1", "covost2_fr_stage2"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_read_strictly(path):
    run = parse_run([str(path), "--bf16", "false"])
    assert run.stage == int(path.stem[-1])
    assert path.stem == "demo_stage2" or Path(run.training.output_dir).name == path.stem
    if run.stage == 2:
        first = path.with_name(path.name.replace("stage2", "stage1"))
        assert run.model.pretrained_adapter in (
            f"checkpoints/{first.stem}/checkpoint.pt",
            "build/demo/stage1/adopted.pt",
        )
    assert run.training.metric_for_best_model in (None, "loss", "wer", "bleu")


def test_there_is_one_for_every_corpus_and_variant_of_the_published_half():
    text = "".join(path.read_text() for path in CONFIGS)
    for part in ("whisper-large-v3", "bert-base-multilingual-uncased", "adversarial", "Qwen2", "hubert-large"):
        assert part in text
    assert {"librispeech", "covost2_de", "covost2_tr", "covost2_fr"} <= {
        path.stem.rpartition("_")[0] for path in CONFIGS
    }


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("stage: 2\nlearning_rat: 1\n", [], "unknown key 'learning_rat'; did you mean learning_rate?"),
        ("stage: 1\nllm_sharding: none\n", [], "unknown key 'llm_sharding'"),
        ("stage: 3\n", [], "stage 3 is neither 1 nor 2"),
        ("stage: 2\nlearning_rate: quick\n", [], "argument --learning_rate"),
        ("stage: 2\nprojector: round\n", [], "argument --projector"),
        ("- stage\n", [], "expected lines of the form"),
        ("stage: [1\n", [], "cannot be read as YAML"),
        ("stage: 2\n", ["--learning_rat", "1"], "unknown option --learning_rat; did you mean learning_rate?"),
        ("stage: 2\n", ["--label_smoothing_factor", "0.1"], "label_smoothing_factor 0.1 has no effect here"),
        ("stage: 2\ntrain_sampling_strategy: batch_rebalance\n", [], "argument --train_sampling_strategy"),
    ],
)
def test_what_cannot_be_is_one_sentence(text, more, said, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(SparqleError) as caught:
        parse_run([str(path), "--output_dir", str(tmp_path), *more])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_goes_before_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text('seed: 4\nlr_scheduler_kwargs: {"num_cycles": 2}\nlearning_rate: 1e-4\n')
    run = parse_run([str(path), "--output_dir", "out", "--seed", "5", "--lr_scheduler_type", "cosine_with_restarts"])
    assert (run.training.seed, run.training.learning_rate) == (5, 1e-4)
    assert run.training.lr_scheduler_kwargs == {"num_cycles": 2}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"data": None}, "no data folder was given"),
        ({"output_dir": None}, "no folder was given for the model"),
        ({"train_subset": "nothing"}, "there is no such manifest"),
        ({"valid_subset": None, "eval_strategy": "epoch"}, "no valid_subset is named"),
        ({"metric_for_best_model": "wer", "load_best_model_at_end": "true", "save_strategy": "epoch",
          "eval_strategy": "epoch"}, "eval_generate adds scores of text"),
        ({"llm_sharding": "machine"}, "here give accelerate's fsdp"),
        ({"source": "units"}, "train it with fairseq-train"),
        ({"resume_from_checkpoint": "true"}, "holds no checkpoint to go on from"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_is_one_sentence(more, said, hub_world, tmp_path):
    from runs import options

    with pytest.raises(SparqleError) as caught:
        train(parse_run(options(hub_world, tmp_path / "out", 2, **more)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "run.json").exists()


def test_rows_without_what_a_stage_needs_are_named(hub_world, tmp_path):
    from runs import trainer_run

    table = (hub_world.data / "train2.tsv").read_text().splitlines()
    head = table[0].split("\t")
    for stage, column in ((1, "src_text"), (2, "tgt_text")):
        place = head.index(column)
        rows = [table[0], *[line.split("\t") for line in table[1:]]]
        rows[3][place] = ""
        text = "\n".join(row if isinstance(row, str) else "\t".join(row) for row in rows)
        (tmp_path / "broken.tsv").write_text(text + "\n")
        with pytest.raises(SparqleError, match=f"broken.tsv:4 .*{column}"):
            trainer_run(hub_world, tmp_path / "out", stage, data=tmp_path, train_subset="broken", valid_subset="broken")
    with pytest.raises(SparqleError, match="reads transcripts and their translations"):
        trainer_run(hub_world, tmp_path / "out", 1, objective="stc+0.4*adversarial", train_subset="train")


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_runs_with_tiny_models(name, hub_world, tmp_path):
    from factories import save_tiny_whisper
    from runs import SHAPE, trainer_run
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = next(path for path in CONFIGS if path.stem == name)
    stage = int(name[-1])
    encoder = hub_world.encoder
    if "covost2" in name:
        encoder = tmp_path / "whisper"
        save_tiny_whisper(encoder, whole=True, positions=100)
    tokenizer = BertTokenizerFast.from_pretrained(hub_world.tokenizer)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    small = {name: str(value) for name, value in SHAPE.items()} if stage == 1 else {}
    words = {
        "data": hub_world.data, "train_subset": "train2", "valid_subset": "dev2", "output_dir": tmp_path / "out",
        "max_steps": 2, "eval_steps": 2, "save_steps": 2, "bf16": "false", "use_cpu": "true", "warmup_steps": 1,
        "dataloader_num_workers": 0, "per_device_train_batch_size": 4, "disable_tqdm": "true", **small,
    }  # fmt: skip
    if stage == 1:
        words |= {"speech_encoder": encoder, "encoder_dtype": "fp32", "bert": tmp_path / "bert"}
    else:
        trainer_run(type(hub_world)(**{**vars(hub_world), "encoder": encoder}), tmp_path / "first", 1, max_steps=1)
        words |= {"pretrained_adapter": tmp_path / "first" / "checkpoint.pt", "llm": hub_world.llm, "llm_dtype": "fp32"}
        words["eval_max_new_tokens"] = 4
    trainer = train(
        parse_run([str(path), *[str(word) for name, value in words.items() for word in (f"--{name}", value)]])
    )
    assert trainer.state.global_step == 2
    metric = trainer.args.metric_for_best_model
    assert any(f"eval_{metric}" in entry for entry in trainer.state.log_history)
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["best_global_step"] == 2
