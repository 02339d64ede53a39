"""`python -m flash_kv.cli`: the same program as the installed command `flash-kv`."""

import sys

from flash_kv.cli.main import main

sys.exit(main())
