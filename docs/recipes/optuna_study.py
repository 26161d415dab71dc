"""Optuna: 64 trials of your own study train as one population and are told back."""

import optuna

import dampen


def suggest(trial):
    return {
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1, log=True),
        "dropout": trial.suggest_float("dropout", 0, 0.7),
        "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
    }


data = dampen.load("wine").with_validation(0.3)
objective = dampen.objective(dampen.mlp(32, dropout=0.5), data, suggest, epochs=10, batch_size=32)
study = optuna.create_study()  # any sampler, pruner and storage
objective.optimize(study, n_trials=64, at_once=32)  # TPE learns after each 32
study.optimize(objective, n_trials=2)  # one by one, as ever
print(study.best_params, study.best_value)
