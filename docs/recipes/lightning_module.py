"""Lightning: tune a LightningModule's network, train it with a Trainer, then ask when to trust it."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dampen


class Wine(L.LightningModule):
    def __init__(self, dropout=0.5, lr=1e-3, weight_decay=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)


class Doctor(L.Callback):
    def on_train_start(self, trainer, module):
        print(dampen.diagnose(module, trainer.optimizers, steps=trainer.estimated_stepping_batches))


data = dampen.load("wine")
study = dampen.tune(lambda: Wine().net, data, n_settings=4, n_seeds=1, epochs=4, n_confirm_seeds=2)
best = Wine(**{knob: study.setting[knob] for knob in ("dropout", "lr", "weight_decay") if knob in study.setting})
loader = DataLoader(TensorDataset(data.train.features, data.train.targets), batch_size=32, shuffle=True)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
L.Trainer(max_epochs=study.recommended.epochs, callbacks=[Doctor()], **quiet).fit(best, loader)
found = dampen.mc_dropout(best, data.test.features, samples=100, task="classification")
print(found.probabilities[:3], found.mutual_information[:3])
