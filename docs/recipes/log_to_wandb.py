"""Weights & Biases, offline: a run for each setting; `wandb sync` sends them later."""

import wandb

import dampen

settings = [dampen.Setting(weight_decay=decay) for decay in (0.0, 0.1)]
how = {"project": "dampen", "mode": "offline", "reinit": "create_new"}
runs = [wandb.init(config=dict(setting), **how) for setting in settings]


def log(event):
    if isinstance(event, dampen.Epoch):  # the other events are chunks of members
        for i, run in enumerate(runs):
            of_setting = {name: values[:, i].mean() for name, values in event.metrics.items()}  # [seeds, settings]
            run.log(of_setting, step=event.epoch)


dampen.Population(dampen.mlp(16), settings, seeds=range(3)).fit(dampen.load("wine"), epochs=5, callback=log)
for run in runs:
    run.finish()
