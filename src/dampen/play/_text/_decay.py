"""Texts of the page on weight decay."""

from collections.abc import Mapping

DECAY: Mapping[str, Mapping[str, str]] = {
    "decay.title": {"en": "Weight decay", "zh": "权重衰减"},
    "decay.about": {
        "en": "Linear regression with 200 inputs and 20 training rows: infinitely many weights fit them perfectly. "
        "SGD (learning rate 0.003, batches of 5 rows, 100 epochs) starts from random weights, once without a penalty "
        "and once with λ/2 · ‖w‖².",
        "zh": "200 个输入、20 个训练点的线性回归：有无穷多组权重可以完美拟合。SGD（学习率 0.003，批大小 5，100 轮）"
        "从随机权重出发，一次不加惩罚，一次加惩罚 λ/2 · ‖w‖²。",
    },
    "decay.lambda": {"en": "weight decay λ", "zh": "权重衰减 λ"},
    "decay.start": {"en": "Start", "zh": "开始"},
    "decay.pause": {"en": "Pause", "zh": "暂停"},
    "decay.again": {"en": "Train again", "zh": "重新训练"},
    "decay.none": {"en": "without decay", "zh": "无衰减"},
    "decay.chosen": {"en": "with decay", "zh": "有衰减"},
    "decay.epoch": {"en": "epoch", "zh": "轮"},
    "decay.loss": {"en": "Loss", "zh": "损失"},
    "decay.loss.note": {
        "en": "Half the mean squared error, on a logarithmic axis; mean of {n_seeds} seeds, the band is one standard "
        "deviation.",
        "zh": "均方误差的一半，对数坐标；{n_seeds} 个种子的均值，色带为一个标准差。",
    },
    "decay.norm": {"en": "Norm of the weights ‖w‖", "zh": "权重范数 ‖w‖"},
    "decay.norm.note": {
        "en": "Dots: gradient descent's closed form at the same step. Dashed: ridge regression, where training with "
        "this λ ends if it never stops.",
        "zh": "圆点：同一步数下梯度下降的闭式解。虚线：岭回归，即以此 λ 无限训练下去的终点。",
    },
    "decay.along.test": {"en": "Test loss along λ", "zh": "测试损失随 λ 的变化"},
    "decay.along.norm": {"en": "Norm along λ", "zh": "范数随 λ 的变化"},
    "decay.along.note": {
        "en": "The two lines meet where λ is strong enough to forget the random initial weights within 400 steps.",
        "zh": "两条线相遇之处，λ 足以在 400 步内忘掉随机初始权重。",
    },
    "decay.descent": {"en": "closed form, gradient descent", "zh": "闭式解（梯度下降）"},
    "decay.ridge": {"en": "ridge regression", "zh": "岭回归"},
    "decay.now": {"en": "this training", "zh": "当前训练"},
    "decay.progress": {"en": "Epoch {epoch} of {epochs}", "zh": "第 {epoch} 轮，共 {epochs} 轮"},
    "decay.figures": {"en": "Figures", "zh": "数值"},
    "decay.figures.train": {"en": "training loss", "zh": "训练损失"},
    "decay.figures.test": {"en": "test loss", "zh": "测试损失"},
    "decay.figures.norm": {"en": "‖w‖", "zh": "‖w‖"},
    "decay.result.better": {
        "en": "Decay lowers the test loss by {mean} ({low} to {high}, 95 % interval over {n_seeds} seeds): "
        "significant.",
        "zh": "衰减使测试损失降低 {mean}（{low} 至 {high}，{n_seeds} 个种子的 95 % 区间）：显著。",
    },
    "decay.result.worse": {
        "en": "Decay raises the test loss by {mean} ({low} to {high}, 95 % interval over {n_seeds} seeds): "
        "significant.",
        "zh": "衰减使测试损失升高 {mean}（{low} 至 {high}，{n_seeds} 个种子的 95 % 区间）：显著。",
    },
    "decay.result.same": {
        "en": "No significant difference in test loss: {mean} ({low} to {high}, 95 % interval over {n_seeds} seeds).",
        "zh": "测试损失无显著差异：{mean}（{low} 至 {high}，{n_seeds} 个种子的 95 % 区间）。",
    },
    "decay.result.untrained": {"en": "Not trained yet: press Start.", "zh": "尚未训练：点击“开始”。"},
    "decay.result.unknown": {"en": "Not known: a network has diverged.", "zh": "无法判断：有网络发散。"},
}
