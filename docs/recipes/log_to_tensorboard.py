"""TensorBoard: a curve for each setting, while the population trains."""

from torch.utils.tensorboard import SummaryWriter

import dampen

settings = [dampen.Setting(weight_decay=decay) for decay in (0.0, 0.1)]
with SummaryWriter("runs") as writer:

    def log(event):
        if isinstance(event, dampen.Epoch):  # the other events are chunks of members
            for name, values in event.metrics.items():  # [seeds, settings]
                of_settings = {str(dict(s)): v for s, v in zip(settings, values.mean(axis=0), strict=True)}
                writer.add_scalars(name, of_settings, event.epoch)

    dampen.Population(dampen.mlp(16), settings, seeds=range(3)).fit(dampen.load("wine"), epochs=5, callback=log)
