"""Installation of the package `sparqle-fairseq`."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
DOCS = ["properdocs>=1.6.7", "properdocs-theme-mkdocs>=1.6.7"]

setup(
    name="sparqle-fairseq",
    version="0.1.0",
    description="SparQLe for fairseq: speech translation by a Q-Former between a frozen speech encoder and an LLM",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["sparqle_fairseq", "sparqle_fairseq.*"]),
    package_data={"sparqle_fairseq": ["data/templates/*.yaml"]},
    install_requires=[
        # Any distribution that provides `fairseq` will do; this one installs on Python 3.11 and later.
        "ve-fairseq>=0.12.3",
        "torch>=2.6",
        "torchaudio>=2.6",
        "transformers>=5.0",
        "sentencepiece>=0.2",
        "soundfile>=0.12",
        # What soundfile does not read whole (m4a, webm, chained Ogg, damaged files, …); its wheels bring FFmpeg.
        "av>=14",
        "sacrebleu>=2.4",
        "editdistance>=0.8",
        "hydra-core>=1.3",
        "omegaconf>=2.3",
        "numpy>=1.26",
        "regex>=2023.12",
        "langcodes>=3.4",
        "language_data>=1.2",
        "PyYAML>=6.0",
        "tensorboardX>=2.6",
        "tqdm>=4.60",
        "click>=8.1",
        "rich>=13",
        # Voice activity of `sparqle translate`: 11 MB with its model; wants nothing but torch.
        "silero-vad>=6.2",
    ],
    entry_points={"console_scripts": ["sparqle = sparqle_fairseq.cli.main:main"]},
    extras_require={
        # Pictures: `sparqle inspect`, --visualize-interval.
        "plots": ["matplotlib>=3.8"],
        # Pictures of `sparqle report`, and which language a hypothesis is in (140 of them, 4.6 MB, offline, BSD).
        "report": ["matplotlib>=3.8", "py3langid>=0.4"],
        # `sparqle report --controls --asr` over Whisper in CTranslate2's format; 43 MB, MIT.
        "cascade": ["faster-whisper>=1.1", "ctranslate2>=4.7"],
        # `--speech-encoder s3prl:NAME`. The fork, because s3prl 0.4.18 cannot be imported with torchaudio 2.11.
        "s3prl": ["espnet-s3prl>=2026.5.14"],
        # `sparqle extract-units`. The last two it imports, but does not ask for.
        "speechtokenizer": ["speechtokenizer>=1.0.1", "beartype>=0.18", "tensorboard>=2.16"],
        # BLEU of Japanese and of Korean by words; without them by characters.
        "ja": ["sacrebleu[ja]>=2.4"],
        "ko": ["sacrebleu[ko]>=2.4"],
        "microphone": ["sounddevice>=0.4.6"],
        # `sparqle page`. Each release before 6.31 has a known open advisory.
        "page": ["gradio>=6.31,<7", "matplotlib>=3.8"],
        # `examples/huggingface/train.py`: transformers' Trainer runs on it.
        "trainer": ["accelerate>=1.1", "transformers>=5.23"],
        # `examples/huggingface/from_datasets.py`.
        "datasets": ["datasets>=4.0"],
        # `--lora-rank`, `sparqle export-llm`.
        "lora": ["peft>=0.17"],
        # `--llm FILE.gguf`.
        "gguf": ["gguf>=0.10"],
        # `--llm-quantization`.
        "quantized": ["bitsandbytes>=0.49"],
        "demo": ["hibari-tts>=0.2", "matplotlib>=3.8", "py3langid>=0.4", "scikit-learn>=1.4"],
        # `make docs`; ProperDocs goes on with MkDocs 1.x.
        "docs": DOCS,
        "dev": [
            *DOCS,
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "scipy>=1.13",
            "ruff>=0.12",
            "mypy>=1.15",
            "types-PyYAML",
            "pysubs2>=1.7",
            # Word error rates of `sparqle score` are held against it.
            "jiwer>=4",
            # The cascade of `sparqle report` over CTranslate2's Whisper.
            "faster-whisper>=1.1",
            # Cuts texts of talks for `sparqle report`. GPL-3: run as a program, never imported.
            "mweralign>=1.4",
            # Drives Debian's chromium in the tests of the page, and takes one again where chromium has crashed.
            "selenium>=4.40",
            "pytest-rerunfailures>=15",
        ],
    },
)
