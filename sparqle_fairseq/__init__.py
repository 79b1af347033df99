"""SparQLe for fairseq: speech translation by a Q-Former between a frozen speech encoder and a frozen LLM.

A fairseq command imports this module for `--user-dir sparqle_fairseq`, and it registers the tasks, models and
criterions. Imported before fairseq (by the `sparqle` command, or by a script that wants one module of it) it loads
nothing heavy; such a script calls `register()` where it wants fairseq to know the plugin, or gives a fairseq command
`--user-dir` as ever.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import Any

__version__ = "0.1.0"


def register() -> None:
    """Apply the workarounds of `fairseq_fixes`, show errors as sentences, register with fairseq. Twice is harmless."""
    from sparqle_fairseq import errors, fairseq_fixes

    fairseq_fixes.apply()
    _let_user_dir_follow()
    errors.install_hook()

    from sparqle_fairseq.tasks import registration as _registration  # noqa: F401


def _let_user_dir_follow() -> None:
    from sparqle_fairseq.fairseq_fixes.user_dir import let_user_dir_follow

    let_user_dir_follow(sys.modules["fairseq.utils"], __path__[0], register)


class _WhenFairseqComes(MetaPathFinder):
    """Waits for fairseq, and loads nothing itself: a later `--user-dir` must find out that the plugin is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "fairseq.utils":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_follow(module: Any) -> None:
                load(module)
                _let_user_dir_follow()

            spec.loader.exec_module = load_and_follow  # type: ignore[method-assign]
        return spec


if "fairseq" in sys.modules:
    register()
else:
    sys.meta_path.insert(0, _WhenFairseqComes())
