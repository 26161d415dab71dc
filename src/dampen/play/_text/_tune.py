"""Texts of the page on whole studies."""

from collections.abc import Mapping

TUNE: Mapping[str, Mapping[str, str]] = {
    "tune.title": {"en": "Tune", "zh": "调优"},
    "tune.about": {
        "en": "Finds how much weight decay and dropout a network needs for these data, whether they help, and how sure "
        "that is: the same as dampen tune.",
        "zh": "找出网络在这份数据上需要多少权重衰减和暂退、它们是否有帮助、有多大把握：与 dampen tune 相同。",
    },
    "tune.budget": {"en": "Time limit", "zh": "时间上限"},
    "tune.budget.seconds": {"en": "{n} seconds", "zh": "{n} 秒"},
    "tune.budget.minutes": {"en": "{n} minutes", "zh": "{n} 分钟"},
    "tune.budget.minute": {"en": "1 minute", "zh": "1 分钟"},
    "tune.budget.hour": {"en": "1 hour", "zh": "1 小时"},
    "tune.budget.none": {"en": "as long as it takes", "zh": "不限时间"},
    "tune.start": {"en": "Start", "zh": "开始"},
    "tune.stop": {"en": "Stop", "zh": "停止"},
    "tune.stopped": {
        "en": "Stopped. What {name} has found is kept: Resume goes on from there.",
        "zh": "已停止。{name} 已得到的结果都已保存：点击“继续”可从此处继续。",
    },
    "tune.starting": {"en": "{name}: starting…", "zh": "{name}：正在启动……"},
    "tune.idle": {
        "en": "No study runs. Choose data and a time, or open a study.",
        "zh": "没有正在进行的研究。请选择数据和时间，或打开一项研究。",
    },
    "tune.progress": {"en": "Progress", "zh": "进度"},
    "tune.now": {
        "en": "{phase}: {members} networks to epoch {epochs}; {seconds} s so far",
        "zh": "{phase}：{members} 个网络训练至第 {epochs} 轮；已用 {seconds} 秒",
    },
    "tune.left": {"en": ", about {left} s left", "zh": "，约剩 {left} 秒"},
    "tune.best": {"en": ", best so far {best}", "zh": "，目前最好 {best}"},
    "tune.phase.search": {"en": "Search, references included", "zh": "搜索（含参照设置）"},
    "tune.phase.confirmation": {"en": "Confirmation with fresh seeds", "zh": "用新种子确认"},
    "tune.phase.test": {"en": "Test rows", "zh": "测试样本"},
    "tune.search": {"en": "The settings tried", "zh": "尝试过的设置"},
    "tune.search.note": {
        "en": "Each point is a setting. Its colour is its loss on the selection rows; a faded one has been dropped, "
        "the ring is recommended. A weight decay of 0 is drawn at the left edge.",
        "zh": "每个点是一个设置。颜色表示它在选择样本上的损失；变淡的已被淘汰，圆环为推荐设置。"
        "权重衰减为 0 的点画在左边缘。",
    },
    "tune.waiting": {"en": "not ranked yet", "zh": "尚未排名"},
    "tune.dropped": {"en": "faded: dropped", "zh": "变淡：已淘汰"},
    "tune.alive": {"en": "still in it", "zh": "仍在竞争"},
    "tune.chosen": {"en": "recommended", "zh": "推荐"},
    "tune.cost.high": {"en": "worse", "zh": "较差"},
    "tune.cost.low": {"en": "better", "zh": "较好"},
    "tune.verdict": {"en": "Verdict", "zh": "结论"},
    "tune.report": {"en": "Open the report", "zh": "打开报告"},
    "tune.runs": {"en": "Studies in dampen-runs", "zh": "dampen-runs 中的研究"},
    "tune.runs.none": {"en": "None yet.", "zh": "还没有。"},
    "tune.open": {"en": "Open", "zh": "打开"},
    "tune.resume": {"en": "Resume", "zh": "继续"},
    "tune.finished": {"en": "finished", "zh": "已完成"},
    "tune.running": {"en": "running", "zh": "运行中"},
    "tune.busy": {
        "en": "A study runs, and this would end it: stop it first, Resume then goes on in either language.",
        "zh": "研究正在进行，切换语言会使其停止：请先点击“停止”，之后在任一语言下都可“继续”。",
    },
    "tune.unfinished": {"en": "not finished", "zh": "未完成"},
}
