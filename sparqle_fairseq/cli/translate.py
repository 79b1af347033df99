"""`sparqle translate`: a person's own recordings into text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class Number(click.ParamType):
    """A number from `least` to `most`. click's own range lets NaN pass and fills the help with its bounds."""

    name = "number"

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self.least <= number <= self.most:
            self.fail(f"{value} is not a number from {self.least:g} to {self.most:g}.", param, ctx)
        return number


FORMATS = click.Choice(["txt", "srt", "vtt", "tsv", "json"])
CUTS = click.Choice(["vad", "fixed", "none"])


@click.command(short_help="Translate recordings of any length.")
@click.argument("audio", nargs=-1)
@click.option("--model", metavar="CKPT", help="checkpoint of fairseq-train, or a folder of export-hf")
@click.option("--hf", metavar="DIR", help="folder of export-hf or its hub id; needs no fairseq")
@click.option("--to", metavar="LANGS", help="languages to translate into, such as fr,de")
@click.option("--task", type=click.Choice(["translate", "transcribe"]), default="translate")
@click.option("--from", "spoken", metavar="LANG", help="language that is spoken")
@click.option("--format", "form", type=FORMATS, help="default: txt")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="file or folder to write")
@click.option("--force", is_flag=True, help="replace output that exists")
@click.option("--cues/--no-cues", default=True, help="srt, vtt: cut texts into cues of two lines (on)")
@click.option("--cue-width", type=click.IntRange(10, 200), metavar="N", help="letters of a cue's line (42)")
@click.option("--cue-seconds", type=Number(1, 60), metavar="S", help="longest cue (7)")
@click.option("--strict-audio/--no-strict-audio", default=False, help="refuse damaged recordings (they are read)")
@click.option("--microphone", is_flag=True, help="record first, until Enter")
@click.option("--seconds", type=Number(0.1, 3600), metavar="S", help="record for so long")
@click.option("--segment", type=CUTS, default="vad", help="cut at pauses, at fixed times, not at all")
@click.option("--max-segment-seconds", type=Number(1, 600), default=30, metavar="S", help="longest segment (30)")
@click.option("--pause-seconds", type=Number(0.1, 60), default=0.5, metavar="S", help="a pause that cuts (0.5)")
@click.option("--vad-threshold", type=Number(0.05, 0.95), default=0.5, metavar="P", help="higher hears less (0.5)")
@click.option("--beam", type=click.IntRange(1, 64), default=5, metavar="N", help="hypotheses that are followed (5)")
@click.option("--nbest", type=click.IntRange(1, 64), default=1, metavar="N", help="so many texts of each segment (1)")
@click.option("--lenpen", type=Number(-10, 10), default=1, metavar="X", help="above 1: longer texts (1)")
@click.option(
    "--no-repeat-ngram-size", type=click.IntRange(0), default=0, metavar="N", help="no N tokens twice (0: off)"
)
@click.option("--tokens-per-second", type=Number(1, 1000), default=20, metavar="N", help="longest text (20)")
@click.option("--min-tokens-per-second", type=Number(0, 1000), default=0, metavar="N", help="shortest text (0)")
@click.option("--repetition-penalty", type=Number(1, 10), default=1, metavar="X", help="above 1: repeats less (1)")
@click.option("--prefix", default="", metavar="TEXT", help="what every text begins with")
@click.option("--stop", multiple=True, metavar="TEXT", help="end every text before this, such as \\n; repeatable")
@click.option("--mbr", is_flag=True, help="of the beams the one that is most like the others")
@click.option("--flag-unheard", is_flag=True, help="note texts that are as likely without the speech")
@click.option("--sampling", is_flag=True, help="draw tokens at random; of --beam texts the likeliest")
@click.option("--temperature", type=Number(0.05, 10), default=1, metavar="X", help="above 1: bolder draws (1)")
@click.option("--top-p", type=Number(0, 1), default=0, metavar="P", help="draw from the likeliest P of all (0: off)")
@click.option("--top-k", type=click.IntRange(0), default=0, metavar="N", help="draw from the N likeliest (0: off)")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="of the draws; default: that of the training")
@click.option("--wording", type=click.IntRange(1), metavar="N", help="ask in the N-th wording of the templates")
@click.option("--instruction", metavar="TEXT", help="ask in these words; {speech} is where the speech goes")
@click.option("--no-repetition-guard", is_flag=True, help="leave texts that loop as they are")
@click.option("--batch-seconds", type=Number(1, 36000), default=120, metavar="S", help="audio at a time (120)")
@click.option("--speech-encoder", metavar="PATH", help="where it is now, if it has moved")
@click.option("--llm", metavar="PATH", help="the same of the LLM")
@click.option("--text-tokenizer", metavar="PATH", help="the same of stage 1's tokenizer")
@click.option("--without-lora", is_flag=True, help="run the LLM as it was before LoRA")
@click.option("--prompt-templates", metavar="FILE", help="own instructions")
@click.option("--progress/--no-progress", default=None, help="bar on stderr")
@click.option("--cpu", is_flag=True, help="do not use a GPU")
def command(
    audio: tuple[str, ...],
    model: str | None,
    hf: str | None,
    as_json: bool,
    form: str | None,
    output: Path | None,
    cues: bool,
    cue_width: int | None,
    cue_seconds: float | None,
    max_segment_seconds: float,
    pause_seconds: float,
    vad_threshold: float,
    beam: int,
    nbest: int,
    lenpen: float,
    no_repeat_ngram_size: int,
    tokens_per_second: float,
    no_repetition_guard: bool,
    min_tokens_per_second: float,
    repetition_penalty: float,
    prefix: str,
    mbr: bool,
    flag_unheard: bool,
    sampling: bool,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int | None,
    stop: tuple[str, ...],
    **options: Any,
) -> int:
    """Translate AUDIO: files of any format and length, folders, or - for standard input.

    \b
      sparqle translate talk.mp3 --to fr --model CKPT
      sparqle translate talks/ --to fr,de --format srt -o subtitles/ --hf DIR
    """
    if as_json and (form not in (None, "json") or output is not None):
        raise click.UsageError("--json is JSON on standard output; leave out --format and --output")
    if not cues and (cue_width or cue_seconds):
        raise click.UsageError("--cue-width and --cue-seconds say how to cut cues; leave out --no-cues")
    if (model is None) == (hf is None):
        raise click.UsageError("give a checkpoint with --model, or a folder of export-hf with --hf")
    if hf is None and not Path(str(model)).is_dir():
        from sparqle_fairseq import register

        register()
    from sparqle_fairseq.data.segments import SpeechRule
    from sparqle_fairseq.tools.translate.cues import CueRule
    from sparqle_fairseq.tools.translate.run import Request, run
    from sparqle_fairseq.tools.translate.translator import Settings

    failed = run(
        Request(
            audio=audio,
            model=model or "",
            hf=hf,
            form="json" if as_json else form,
            output=output,
            cues=CueRule(cue_width or CueRule.width, cue_seconds or CueRule.seconds) if cues else None,
            rule=SpeechRule(threshold=vad_threshold, pause=pause_seconds, longest=max_segment_seconds),
            settings=Settings(
                beam,
                lenpen,
                no_repeat_ngram_size,
                tokens_per_second,
                not no_repetition_guard,
                min_tokens_per_second,
                repetition_penalty,
                prefix,
                mbr,
                flag_unheard,
                sampling,
                temperature,
                top_p,
                top_k,
                seed,
                nbest,
                stop,
            ),
            **options,
        )
    )
    return 1 if failed else 0
