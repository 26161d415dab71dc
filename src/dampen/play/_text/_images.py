"""Texts of the page on dropout and its Monte-Carlo samples."""

from collections.abc import Mapping

IMAGES: Mapping[str, Mapping[str, str]] = {
    "images.title": {"en": "Dropout", "zh": "暂退（dropout）"},
    "images.about": {
        "en": "A network of 256 and 128 hidden units with dropout beside the same one without: the same initial "
        "weights and batches, Adam with learning rate 0.001, batches of 128, {n_seeds} seeds.",
        "zh": "一个有 256 和 128 个隐藏单元、带暂退（dropout）的网络，与不带暂退的同一网络并排：初始权重与批次相同，"
        "Adam，学习率 0.001，批大小 128，{n_seeds} 个种子。",
    },
    "images.data": {"en": "Images", "zh": "图像"},
    "images.data.digits": {"en": "Digits, 8 x 8", "zh": "手写数字，8 x 8"},
    "images.data.fashion-mnist": {"en": "Fashion-MNIST", "zh": "Fashion-MNIST"},
    "images.data.mnist": {"en": "MNIST", "zh": "MNIST"},
    "images.rate_1": {"en": "Dropout, first layer", "zh": "第一层暂退率"},
    "images.rate_2": {"en": "Dropout, second layer", "zh": "第二层暂退率"},
    "images.rows": {"en": "Training images at most", "zh": "训练图像数上限"},
    "images.epochs": {"en": "Epochs", "zh": "轮数"},
    "images.progress": {
        "en": "Epoch {epoch} of {epochs}, {n_train} training images",
        "zh": "第 {epoch} 轮，共 {epochs} 轮，{n_train} 张训练图像",
    },
    "images.with": {"en": "with", "zh": "有暂退"},
    "images.without": {"en": "without", "zh": "无暂退"},
    "images.lines": {"en": "Epoch by epoch, with dropout", "zh": "逐轮结果（有暂退）"},
    "images.accuracy": {"en": "Accuracy", "zh": "准确率"},
    "images.loss": {"en": "Loss", "zh": "损失"},
    "images.note": {
        "en": "Training figures are means over the epoch's batches, with dropout active: they may be worse than those "
        "of the test images, which are measured without. The band is one standard deviation over {n_seeds} seeds.",
        "zh": "训练数值是一轮中各批次的均值，暂退处于开启状态，因此可能差于关闭暂退时测得的测试数值。"
        "色带为 {n_seeds} 个种子的一个标准差。",
    },
    "images.difference": {"en": "Does dropout help?", "zh": "暂退有帮助吗？"},
    "images.difference.better": {
        "en": "Test accuracy is higher by {mean} with dropout ({low} to {high}): significant.",
        "zh": "有暂退时测试准确率高 {mean}（{low} 至 {high}）：显著。",
    },
    "images.difference.worse": {
        "en": "Test accuracy is lower by {mean} with dropout ({low} to {high}): significant.",
        "zh": "有暂退时测试准确率低 {mean}（{low} 至 {high}）：显著。",
    },
    "images.difference.same": {
        "en": "No significant difference in test accuracy: {mean} ({low} to {high}).",
        "zh": "测试准确率无显著差异：{mean}（{low} 至 {high}）。",
    },
    "images.difference.unknown": {"en": "Not known: a network has diverged.", "zh": "无法判断：有网络发散。"},
    "images.difference.none": {"en": "Train at least one epoch.", "zh": "请至少训练一轮。"},
    "images.single": {"en": "When to believe it: one image", "zh": "何时可信：单张图像"},
    "images.single.note": {
        "en": "The network answers {samples} times, each time with other units dropped (Monte-Carlo dropout).",
        "zh": "网络回答 {samples} 次，每次丢弃不同的单元（蒙特卡洛暂退）。",
    },
    "images.number": {
        "en": "Image {number} of {n_images}, class {label}",
        "zh": "第 {number} 张，共 {n_images} 张，类别 {label}",
    },
    "images.previous": {"en": "Previous", "zh": "上一张"},
    "images.next": {"en": "Next", "zh": "下一张"},
    "images.uncertain": {"en": "Least certain", "zh": "最不确定"},
    "images.wrong": {"en": "Classified wrongly", "zh": "分类错误"},
    "images.rotation": {"en": "Turned by (degrees)", "zh": "旋转（度）"},
    "images.histogram": {"en": "Sampled probabilities", "zh": "采样得到的概率"},
    "images.probability": {"en": "probability", "zh": "概率"},
    "images.samples": {"en": "samples", "zh": "样本数"},
    "images.entropy": {"en": "Predictive entropy", "zh": "预测熵"},
    "images.mutual_information": {"en": "Mutual information", "zh": "互信息"},
    "images.nats": {"en": "{value} nats", "zh": "{value} 奈特"},
    "images.prediction": {"en": "Prediction", "zh": "预测"},
    "images.plain": {"en": "Without dropout, one pass", "zh": "无暂退，单次前向"},
    "images.answer": {"en": "{name} ({probability})", "zh": "{name}（{probability}）"},
    "images.believe": {
        "en": "Believe it: its entropy is within {threshold}. Of the {n} test images with no higher entropy, "
        "{share} are right.",
        "zh": "可信：熵不超过 {threshold}。在不超过该值的 {n} 张测试图像中，{share} 分类正确。",
    },
    "images.doubt": {
        "en": "Do not rely on it: its entropy is above {threshold}. Of the {n} test images with a higher entropy, "
        "{share} are right.",
        "zh": "不可信：熵高于 {threshold}。在高于该值的 {n} 张测试图像中，{share} 分类正确。",
    },
    "images.threshold": {
        "en": "The threshold is the entropy within which 90 % of the other half of the test images lie.",
        "zh": "阈值取自另一半测试图像：其中 90 % 的熵不超过该值。",
    },
    "images.picture": {"en": "The image, class {label}", "zh": "图像，类别 {label}"},
}
