"""``python -m maxca`` is the command ``maxca``."""

import sys

from maxca.cli.main import main

sys.exit(main())
