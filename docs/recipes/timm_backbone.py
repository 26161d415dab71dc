"""timm: how much regularisation a backbone with a new head needs on small images, and when to trust it."""

import timm
import timm.optim
import torch
from sklearn.datasets import load_digits
from torch import nn

import dampen

images, targets = load_digits(return_X_y=True)  # yours: [rows, channels, height, width]
data = dampen.from_arrays(images[:400].reshape(-1, 1, 8, 8), targets[:400], pixel_max=16)


def make(outputs):
    backbone = timm.create_model("test_resnet", pretrained=False, in_chans=1, num_classes=0)  # or a larger one
    return nn.Sequential(backbone, nn.Dropout(0.2), nn.Linear(backbone.num_features, outputs))


space = {
    "weight_decay": dampen.LogUniform(1e-4, 1, zero=0.1),
    "dropout": dampen.Uniform(0.1, 0.5),
    "lr": dampen.LogUniform(3e-4, 3e-3),
}
study = dampen.tune(make, data, space, n_settings=2, n_seeds=1, epochs=2, n_confirm_seeds=2)  # take more
print(study.verdict)
network = study.model()  # plain PyTorch
network[1].p = max(network[1].p, 0.1)  # dropout that can be sampled, where 0 is recommended
found = dampen.mc_dropout(network, data.train.features[:8], samples=20, task="classification")
print(found.probabilities, found.mutual_information)

groups = timm.optim.param_groups_weight_decay(network, study.setting["weight_decay"])  # to train on by yourself
optimizer = torch.optim.AdamW(groups, lr=study.setting["lr"])
print(dampen.diagnose(network, optimizer, data.train.features[:8], steps=1000))
