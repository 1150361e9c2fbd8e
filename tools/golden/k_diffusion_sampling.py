"""k_diffusion.sampling without the packages that only its training code needs."""

import importlib
import importlib.machinery
import sys
import types

_package = importlib.machinery.PathFinder.find_spec("k_diffusion")
_root = types.ModuleType("k_diffusion")
_root.__path__ = list(_package.submodule_search_locations)
_utils = types.ModuleType("k_diffusion.utils")
_utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
_ode = types.ModuleType("torchdiffeq")
_ode.odeint = None
sys.modules.update({"k_diffusion": _root, "k_diffusion.utils": _utils})
sys.modules.setdefault("torchdiffeq", _ode)
_root.utils = _utils
sampling = importlib.import_module("k_diffusion.sampling")
