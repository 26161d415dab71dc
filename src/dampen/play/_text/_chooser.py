"""Texts of the choice of data."""

from collections.abc import Mapping

CHOOSER: Mapping[str, Mapping[str, str]] = {
    "chooser.title": {"en": "Data", "zh": "数据"},
    "chooser.set": {"en": "Data set", "zh": "数据集"},
    "chooser.upload": {
        "en": "Or a table of your own (.csv, .xlsx, .parquet; {size} MB)",
        "zh": "或上传自己的表格（.csv、.xlsx、.parquet；{size} MB）",
    },
    "chooser.rejected": {
        "en": "The file is not taken: one table, {size} MB at most, ending in .csv, .tsv, .txt, .parquet, .feather or "
        ".xlsx.",
        "zh": "文件未被接受：请上传一个表格，不超过 {size} MB，扩展名为 .csv、.tsv、.txt、.parquet、.feather "
        "或 .xlsx。",
    },
    "chooser.target": {"en": "Column to predict", "zh": "要预测的列"},
    "chooser.aim": {"en": "Choose the column to predict.", "zh": "请选择要预测的列。"},
    "chooser.about": {
        "en": "{name}: {task}, {n_train} training and {n_test} test rows, {inputs}",
        "zh": "{name}：{task}，{n_train} 个训练点，{n_test} 个测试点，{inputs}",
    },
    "chooser.inputs": {"en": "inputs {shape}", "zh": "输入 {shape}"},
    "chooser.images": {
        "en": "images of {height} x {width} pixels (channels: {channels})",
        "zh": "{height} x {width} 像素的图像（通道数：{channels}）",
    },
    "chooser.classification": {"en": "classification", "zh": "分类"},
    "chooser.regression": {"en": "regression", "zh": "回归"},
    "chooser.columns": {"en": "How the columns are read", "zh": "各列的读取方式"},
    "chooser.columns.column": {"en": "column", "zh": "列"},
    "chooser.columns.read": {"en": "read as", "zh": "读作"},
    "chooser.columns.becomes": {"en": "becomes", "zh": "变为"},
    "chooser.columns.note": {"en": "note", "zh": "说明"},
}
