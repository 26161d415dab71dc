"""MLflow: a run for each setting with its knobs as parameters, in a local file."""

import mlflow

import dampen

mlflow.set_tracking_uri("sqlite:///mlflow.db")
settings = [dampen.Setting(weight_decay=decay) for decay in (0.0, 0.1)]
client = mlflow.MlflowClient()
runs = [client.create_run("0").info.run_id for _ in settings]
for run, setting in zip(runs, settings, strict=True):
    for knob, value in setting.items():
        client.log_param(run, knob, value)


def log(event):
    if isinstance(event, dampen.Epoch):  # the other events are chunks of members
        for name, values in event.metrics.items():  # [seeds, settings]
            for run, value in zip(runs, values.mean(axis=0), strict=True):
                client.log_metric(run, name, float(value), step=event.epoch)


dampen.Population(dampen.mlp(16), settings, seeds=range(3)).fit(dampen.load("wine"), epochs=5, callback=log)
for run in runs:
    client.set_terminated(run)
