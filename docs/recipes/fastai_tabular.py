"""fastai: tune a tabular learner's network, train it with the doctor as a callback, then sample its dropout."""

from functools import partial

import torch
from fastai.callback.core import Callback
from fastai.optimizer import OptimWrapper
from fastai.tabular.all import CategoryBlock, Normalize, TabularDataLoaders, TabularModel, tabular_learner
from sklearn.datasets import load_wine
from torch import nn

import dampen


class Numbers(nn.Sequential):
    def forward(self, x):
        return self[0](x[:, :0].long(), x)  # fastai's networks take categories, too


class Doctor(Callback):
    def before_fit(self):
        batch, steps = self.dls.one_batch()[:-1], self.n_epoch * len(self.dls.train)
        print(dampen.diagnose(self.model, self.opt.opt, tuple(batch), steps=steps))


frame = load_wine(as_frame=True).frame.sample(frac=1, random_state=0)  # or yours, with cat_names= below
data = dampen.load(frame[:130], target="target")
net = partial(TabularModel, [], 13, 3, [32], ps=[0.5])
study = dampen.tune(lambda: Numbers(net()), data, n_settings=4, n_seeds=1, epochs=4, n_confirm_seeds=2)
best, adamw = study.setting, partial(OptimWrapper, opt=torch.optim.AdamW)
how = {"procs": [Normalize], "cont_names": list(frame)[:-1], "y_names": "target", "y_block": CategoryBlock(), "bs": 32}
loaders = TabularDataLoaders.from_df(frame, valid_idx=range(130, 178), device="cpu", **how)
some = {"ps": [max(best.get("dropout", 0.5), 0.1)]}  # dropout that can be sampled, where 0 is recommended
learner = tabular_learner(loaders, layers=[32], config=some, opt_func=adamw, cbs=Doctor())
with learner.no_bar(), learner.no_logging():
    learner.fit(study.recommended.epochs, best["lr"], wd=best.get("weight_decay", 0.0))
found = dampen.mc_dropout(Numbers(learner.model), loaders.valid.one_batch()[1], samples=100, task="classification")
print(found.probabilities[:3], found.mutual_information[:3])
