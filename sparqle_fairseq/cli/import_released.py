"""`sparqle import`: a published SparQLe checkpoint as one of this plugin, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sparqle_fairseq.errors import SparqleError

_PRECISIONS = click.Choice(["fp32", "fp16", "bf16"])


@click.command(short_help="A published SparQLe checkpoint into ours, or back.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the checkpoint to write")
@click.option("--speech-encoder", help="the encoder it was trained with")
@click.option("--llm", help="the LLM it was trained with (stage 2)")
@click.option("--text-tokenizer", help="the tokenizer it was trained with (stage 1)")
@click.option("--heads", type=click.IntRange(1), help="attention heads; default: one for every 64 of the width")
@click.option("--encoder-layer", default="last", show_default=True, help="layer of the encoder that it reads")
@click.option("--encoder-dtype", type=_PRECISIONS, default="fp32", show_default=True)
@click.option("--llm-dtype", type=_PRECISIONS, default="bf16", show_default=True)
@click.option("--check-frozen", is_flag=True, help="stop unless the encoder and LLM inside FILE are the given ones")
@click.option(
    "--export-speech-encoder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="write the encoder inside FILE to a folder, configured as the given one",
)
@click.option(
    "--export-llm",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="the same of the LLM, with the given one's tokenizer",
)
@click.option("--reverse", is_flag=True, help="FILE is a checkpoint of this plugin; write the published layout")
@click.option(
    "--spelling",
    type=click.Choice(["llama", "llm"]),
    help="with --reverse: llama_proj and itm_head, or llm_proj and stm_head; default: as imported, else llama",
)
@click.option(
    "--layout",
    type=click.Choice(["fairseq", "huggingface"]),
    help="with --reverse: a fairseq checkpoint, or bare tensors as the Hugging Face trainer saved them",
)
@click.pass_context
def command(
    context: click.Context,
    file: Path,
    output: Path,
    reverse: bool,
    spelling: str | None,
    layout: str | None,
    **choices: Any,
) -> None:
    """Turn FILE, in the published layout (stage 1 or 2), into a checkpoint for fairseq-generate and fairseq-train.

    Its frozen speech encoder and LLM, if it holds them, are left out: a checkpoint here only names them.
    With --reverse the other way: no encoder, LLM or tokenizer is needed.
    """
    if reverse:
        _refuse(context, (name for name in choices), "with --reverse")
        _publish(file, output, spelling, layout)
        return
    _refuse(context, ("spelling", "layout"), "without --reverse")
    if not choices["speech_encoder"]:
        raise SparqleError(f"{file}: no encoder was named; give the one it was trained with (--speech-encoder)")
    from sparqle_fairseq.tools.exchange.released import import_released

    done = import_released(file, output, **choices)
    click.echo(f"{output}: stage {done.stage}, {done.tensors} tensors")
    if done.options:
        click.echo("as the Hugging Face trainer does: " + " ".join(f"--{k} {v}" for k, v in done.options.items()))
    for part in done.compared:
        also = f"; {part.only_given} more tensors are in the given one alone" if part.only_given else ""
        click.echo(f"the same {part.part}: {part.tensors} tensors are equal{also}")
    for folder in done.exported:
        click.echo(f"exported: {folder}")
    if done.left_out_bytes:
        click.echo(
            f"left out: {done.left_out_bytes} bytes of frozen weights, which a checkpoint names and does not hold"
        )


def _publish(file: Path, output: Path, spelling: str | None, layout: str | None) -> None:
    import sparqle_fairseq

    sparqle_fairseq.register()
    from sparqle_fairseq.tools.exchange.publish import publish

    done = publish(file, output, spelling=spelling, layout=layout)
    click.echo(
        f"{output}: stage {done.stage} in the published layout ({done.layout}), {done.tensors} tensors; not in it: the "
        f"optimizer, the training options, encoder and LLM, and that it has {done.heads} attention heads"
    )


def _refuse(context: click.Context, names: Any, when: str) -> None:
    """An option that would not be read is an error."""
    for name in names:
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} means nothing {when}; leave it out")
