"""Hugging Face Trainer: the doctor looks at model and optimizer, then the text classifier's dropout is sampled."""

import tempfile

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

import dampen

torch.manual_seed(0)
words = torch.randint(5, 100, (64, 12))
rows = [{"input_ids": row, "labels": int(row[0] > 50)} for row in words]  # your tokenised texts
size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
model = BertForSequenceClassification(BertConfig(vocab_size=100, num_labels=2, **size))  # or from_pretrained(...)


class Doctor(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        optimizer = getattr(optimizer, "optimizer", optimizer)  # that Accelerate wraps
        print(dampen.diagnose(model, optimizer, {"input_ids": words[:4]}, steps=state.max_steps))


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids).logits


with tempfile.TemporaryDirectory() as folder:
    how = TrainingArguments(folder, num_train_epochs=1, weight_decay=0.1, use_cpu=True, report_to=[], disable_tqdm=True)
    Trainer(model, how, train_dataset=rows, callbacks=[Doctor()]).train()
found = dampen.mc_dropout(Logits(model), words[:8], samples=30, task="classification")
print(found.probabilities, found.mutual_information)
