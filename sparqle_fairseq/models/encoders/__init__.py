"""Speech encoders of every kind, one file each. Whatever module is in this folder is imported, and so registered."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
