"""FedStale keeps the rules of aflctl: one test per check of its conformance kit."""

from aflctl.testing import parametrize_checks
from aflctl_fedstale import FedStale

test_conformance = parametrize_checks([FedStale])
