"""Accuracy and loss against weight decay; the one that validation rows choose, and how much the choice matters."""

from dampen.engine.knobs import Setting
from dampen.experiments._answer import Answer, Line, Panel, ends, word_of
from dampen.experiments._setup import Ground

DECAYS = (0.0, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def answer(ground: Ground) -> Answer:
    """Choose a decay on the selection rows; train it and no decay again, and compare both on the evaluation rows."""
    settings = {decay: Setting(weight_decay=decay) for decay in DECAYS}
    tried = ground.trained(list(settings.values()))
    best, none, worst = tried.best(), settings[0.0], settings[DECAYS[-1]]
    again = ground.trained(list(dict.fromkeys([best, none, settings[0.01], worst])), fresh=True)
    main = {"too much minus chosen": again.difference(worst, best)} if best != worst else {}
    sentences = [f"Validation rows choose weight decay {best['weight_decay']:g}."]
    if best == none:
        verdict = "no decay"
        sentences.append("That is no decay: none of those tried is better.")
    else:
        main = {"chosen minus none": again.difference(best, none)} | main
        gain = main["chosen minus none"]
        verdict = word_of(gain, "decay helps", "decay hurts")
        sentences.append(
            f"Against no decay it changes the {ground.metric.name} by {ends(gain)}"
            + (
                ": decay helps here."
                if verdict == "decay helps"
                else ": decay hurts here, though validation rows choose it."
                if verdict == "decay hurts"
                else "; not significant."
            )
        )
    if best != worst:
        cost = main["too much minus chosen"]
        word = word_of(cost, "better", "worse")
        sentences.append(
            f"Decay {DECAYS[-1]:g} instead of the chosen one changes the {ground.metric.name} by {ends(cost)}"
            + (
                ": too much hurts."
                if word == "worse"
                else ": it is better than the one that validation rows choose."
                if word == "better"
                else "; not significant."
            )
        )
    metrics = [("loss", ground.metric.name)] + [("accuracy", "accuracy")] * ("train_accuracy" in tried.history.metrics)
    fitted = tried.population.evaluate(ground.data.train)
    panels = [
        Panel(
            word,
            "weight decay (leftmost: none)",
            word,
            [
                Line("training rows", DECAYS, fitted[name].T),
                Line("validation rows", DECAYS, tried.history.final(f"validation_{name}").T, True, 1),
            ],
            log_x=True,
            log_y=name == "loss",
        )
        for name, word in metrics
    ]
    norms = Line("L2 norm", DECAYS, tried.history.final("weight_norm").T)
    panels.append(Panel("norm of the weights", "weight decay (leftmost: none)", "L2 norm", [norms], log_x=True))
    more = {"chosen": best["weight_decay"]}
    return Answer("decay", ground.data.name, verdict, tuple(sentences), main, tuple(panels), more)
