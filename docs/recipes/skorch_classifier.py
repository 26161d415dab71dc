"""skorch: what a study recommends as parameters of a NeuralNetClassifier, the doctor as a callback, sampled dropout."""

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

import dampen


class Net(nn.Module):
    def __init__(self, dropout=0.5):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 3))

    def forward(self, x):
        return self.layers(x)


class Doctor(Callback):
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        print(dampen.diagnose(net.module_, net.optimizer_))


data = dampen.load("wine")
study = dampen.tune(Net, data, n_settings=4, n_seeds=1, epochs=4, n_confirm_seeds=2)
places = {"dropout": "module__dropout", "lr": "lr", "weight_decay": "optimizer__weight_decay"}
best = {places[knob]: value for knob, value in study.setting.items()}
length = {"max_epochs": study.recommended.epochs, "batch_size": 32}
net = NeuralNetClassifier(
    Net, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, callbacks=[Doctor()], verbose=0, **length, **best
)
net.fit(data.train.features.numpy(), data.train.targets.numpy())
found = dampen.mc_dropout(net.module_, data.test.features, samples=100, task="classification")
print(net.score(data.test.features.numpy(), data.test.targets.numpy()), found.mutual_information[:3])
