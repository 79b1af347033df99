"""`sparqle launch`: a fairseq command in several processes."""

from __future__ import annotations

import sys

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a fairseq command in several processes.",
)
@click.option("-n", "--processes", type=click.IntRange(1), help="processes to start on this machine")
@click.option(
    "--device",
    type=click.Choice(["gpu", "cpu"]),
    default="gpu",
    help="cpu: run without GPUs, over gloo, whatever the machine has (the same as fairseq's --cpu)",
)
@click.argument("name", metavar="FAIRSEQ-COMMAND")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(processes: int | None, device: str, name: str, arguments: tuple[str, ...]) -> None:
    """Run fairseq-train, fairseq-hydra-train, fairseq-validate or fairseq-generate in several processes.

    \b
    sparqle launch -n 8 fairseq-train …           8 processes on this machine
    torchrun … -m sparqle_fairseq.cli.main launch fairseq-train …
    srun --ntasks 64 sparqle launch fairseq-train …

    Scripts for one GPU, one machine and SLURM are in examples/launch. Each process of fairseq-generate takes its share
    of the rows and writes it below --results-path; `sparqle merge-results` puts the shares together.
    """
    from sparqle_fairseq.tools.launch import check_command, on_cpu, run_here, start_processes

    check_command(name)
    words = on_cpu(name, arguments) if device == "cpu" else list(arguments)
    if processes is not None and processes > 1:
        sys.exit(start_processes(processes, name, words))
    run_here(name, words, alone=processes == 1)
