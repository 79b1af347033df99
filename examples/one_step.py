r"""One update of both stages in plain PyTorch: what a batch is, what is frozen, and where each loss comes from.

After `make demo`:

    python examples/one_step.py build/demo/manifests/train_stage1.tsv --updates 10 --llm build/demo/llm \
        --speech-encoder build/demo/hubert/checkpoint_last.pt --tokenizer build/demo/tokenizer

B = 3 utterances, S samples, T frames, W width of the encoder, Q queries, L tokens, P prompt ids, M width of the LLM.
"""

import argparse

import torch
from torch.nn.functional import cross_entropy

from sparqle_fairseq.data.dataset import load_waveform, pad_ids, pad_sources
from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.prompts import PromptBuilder
from sparqle_fairseq.data.text import TranscriptTokenizer
from sparqle_fairseq.keyed_random import text_key
from sparqle_fairseq.models.encoders import load_speech_encoder
from sparqle_fairseq.models.llm.llm import load_llm
from sparqle_fairseq.models.qformer.qformer import QFormerConfig
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Stage1Text
from sparqle_fairseq.models.stage2.adapter import Stage2Adapter
from sparqle_fairseq.models.stage2.prompted import splice

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("manifest", help="with src_text; its first three rows are the batch")
parser.add_argument("--speech-encoder", required=True, help="checkpoint, folder or hub id")
parser.add_argument("--llm", required=True, help="folder, GGUF file or hub id")
parser.add_argument("--tokenizer", required=True, help="of transcripts: a folder of a BERT-like tokenizer")
parser.add_argument("--updates", type=int, default=1, help="on the same three utterances")
args = parser.parse_args()
torch.manual_seed(1)

# The frozen parts: no parameter of theirs asks for a gradient.
encoder, llm = load_speech_encoder(args.speech_encoder), load_llm(args.llm)

# Three utterances, padded at their right to the longest. A mask is True at padding.
manifest = read_manifest(args.manifest)
rows = [manifest.row(i) for i in range(3)]
waves = [load_waveform(row, row.id, encoder.sample_rate, encoder.normalize) for row in rows]
speech = encoder(*pad_sources(waves))  # (B, S) -> values (B, T, W), padding_mask (B, T); 50 frames a second

# Stage 1: the Q-Former learns to listen. It reads the speech, and the transcript between [CLS] and [SEP].
tokenizer = TranscriptTokenizer.load(args.tokenizer)
tokens, padding = pad_ids([tokenizer.encode(row.src_text) for row in rows], tokenizer.pad)  # (B, L), (B, L)
identity = torch.tensor([text_key(row.src_text) for row in rows])  # equal transcripts are no negatives of each other
utterance = torch.tensor([text_key(row.id) for row in rows])  # keys of all random draws
text = Stage1Text(tokens, padding, identity, utterance)

size = {"hidden_size": 64, "layers": 2, "heads": 4, "ffn_size": 128, "queries": 12, "dropout": 0.0}
config = QFormerConfig(tokenizer.vocab_size, encoder.width, **size)
stage1 = Stage1Adapter(config, decode_token=tokenizer.decode_token, pad_token=tokenizer.pad)  # stc + stm + stg
optimizer = torch.optim.Adam([weight for weight in stage1.parameters() if weight.requires_grad], lr=1e-3)
for update in range(args.updates):
    sums = stage1(speech.values, speech.padding_mask, text, update)  # of each objective its sum and what it counts
    losses = {name: each["sum"] / each["count"] for name, each in sums.items()}
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    print(f"stage 1, update {update + 1}:", *(f"{name} {loss:.3f}" for name, loss in losses.items()))

# Stage 2: the same Q-Former without its text branch, and a projector into the LLM's space.
stage2 = Stage2Adapter(config, llm.width)
shared = stage2.qformer.state_dict().keys()
stage2.qformer.load_state_dict({name: value for name, value in stage1.qformer.state_dict().items() if name in shared})

# The prompt holds the place of the speech once. It is padded at its left, so that all answers start in one column.
builder = PromptBuilder(llm.tokenizer)
around = builder.encode("{speech} Transcribe the speech.")
prompt, prompt_padding = pad_ids([[*around.before, SPEECH_PLACE, *around.after]] * 3, llm.pad, left=True)  # (B, P)
answer, answer_padding = pad_ids([builder.encode_answer(row.src_text) for row in rows], llm.pad)  # (B, L)

optimizer = torch.optim.Adam(stage2.parameters(), lr=1e-3)
for update in range(args.updates):
    queries, beyond = stage2(speech.values, speech.padding_mask)  # (B, Q, M)
    before, seen = splice(llm.embed(prompt), prompt, prompt_padding, queries, beyond)  # (B, P - 1 + Q, M)
    inputs = torch.cat([before, llm.embed(answer[:, :-1])], dim=1)
    seen = torch.cat([seen, ~answer_padding[:, :-1]], dim=1)
    columns = torch.arange(before.size(1) - 1, inputs.size(1))  # where a token of the answer follows
    logits = llm(inputs, seen, logits_to_keep=columns)[0]  # (B, L, V)
    loss = cross_entropy(logits[~answer_padding], answer[~answer_padding])  # of the answer alone, its end among it
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"stage 2, update {update + 1}: answer {loss:.3f}")
