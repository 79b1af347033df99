"""Every change to fairseq and to the torch, torchaudio and numpy under it: `apply` is the list.

One function a change, beside its kin in a file. Each says what goes wrong without it, why, and when it can be deleted;
each changes something only where its symptom is present, and may be called any number of times. `register()` and the
tasks apply them; nothing else needs this folder. Only `user_dir` is no part of the list: the package itself makes that
change, as soon as fairseq is there.
"""

from __future__ import annotations

from sparqle_fairseq.errors import need_fairseq

need_fairseq("sparqle_fairseq.fairseq_fixes")


def apply() -> None:
    """Make every change that must hold for the whole process; twice is harmless."""
    from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
    from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio

    ensure_torchaudio()
    allow_fairseq_checkpoints()

    from sparqle_fairseq.fairseq_fixes import (
        background,
        before_training,
        checkpoint_reading,
        cpu,
        empty_batches,
        finished,
        flags,
        gradient_norm,
        half_precision,
        nan_detector,
        numpy_names,
        optimizers,
        overflow,
        remarks,
        resuming,
        root_logger,
        scorers,
        stopping,
        waveforms,
        writing,
    )

    # The command line
    flags.fix_bf16_flag()
    root_logger.hide_debugging_lines()
    # Data
    numpy_names.ensure_numpy_aliases()
    numpy_names.seed_masks()
    waveforms.keep_waveforms_whole()
    background.end_reading_first()
    # Checkpoints
    checkpoint_reading.name_bad_checkpoints()
    writing.write_checkpoints_whole()
    resuming.resume_from_the_newest_whole()
    half_precision.keep_half_precision_whole()
    # Training
    before_training.let_tasks_look_first()
    before_training.name_unused_validation_sets()
    empty_batches.pass_over_empty_batches()
    finished.keep_finished_runs()  # around what resuming found
    stopping.pass_signals_on()
    optimizers.leave_the_compiler_unloaded()
    cpu.let_ddp_run_on_cpu()
    cpu.let_overflow_pass_on_cpu()
    overflow.name_overflows()
    nan_detector.look_into_nested_outputs()
    gradient_norm.read_norms_once()
    # Generation
    remarks.print_remarks()
    scorers.let_dictionaries_score()
