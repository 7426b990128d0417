"""nearvote's version, as it is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("nearvote")
except PackageNotFoundError:  # run from a source tree that is not installed
    VERSION = "0+unknown"
