"""A setting in words."""

from typing import Any

from dampen.engine.knobs import Setting


def setting_text(setting: Setting) -> str:
    """Return a setting in words."""

    def value(v: Any) -> str:
        if isinstance(v, tuple):
            return "(" + ", ".join(f"{p[0]}: {p[1]:.3g}" if isinstance(p, tuple) else f"{p:.3g}" for p in v) + ")"
        return f"{v:.3g}" if isinstance(v, int | float) else str(v)

    return ", ".join(f"{name.replace('_', ' ')} {value(v)}" for name, v in setting.items()) or "the network as it is"
