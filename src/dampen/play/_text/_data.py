"""Texts of the page on the reader's own data."""

from collections.abc import Mapping

DATA: Mapping[str, Mapping[str, str]] = {
    "data.title": {"en": "Your data", "zh": "自己的数据"},
    "data.columns": {"en": "Columns that are drawn", "zh": "图面上的列"},
    "data.x": {"en": "Horizontal axis", "zh": "横轴"},
    "data.y": {"en": "Vertical axis", "zh": "纵轴"},
    "data.others": {
        "en": "The network trains on all columns; in the picture the others are at their median, or at their most "
        "frequent category.",
        "zh": "网络在所有列上训练；图中其余各列取中位数，或取最常见的类别。",
    },
    "data.legend.mean": {
        "en": " Blue: low; orange: high. The target has mean 0 and deviation 1 here.",
        "zh": "蓝：低；橙：高。此处目标已标准化为均值 0、标准差 1。",
    },
    "data.legend.spread": {
        "en": " White: standard deviation 0; darkest: 1, that of the target.",
        "zh": "白色：标准差为 0；最深：1，即目标的标准差。",
    },
    "data.cut": {
        "en": "The table is large: {n_train} of its training rows and {n_test} of its test rows are used here. Tune "
        "uses all.",
        "zh": "表格较大：此处使用其中 {n_train} 个训练点和 {n_test} 个测试点。“调优”会使用全部数据。",
    },
}
