"""Every planted bug."""

from __future__ import annotations

from tests.faults.plants.calling import CALLING
from tests.faults.plants.keeping import KEEPING
from tests.faults.plants.leasing import LEASING
from tests.faults.plants.serving import SERVING
from tests.faults.plants.watching import WATCHING

PLANTS = (*LEASING, *KEEPING, *WATCHING, *SERVING, *CALLING)
