"""`python -m chatvlm_client` runs the same command line as `chatvlm`."""

import sys

from chatvlm_client.cli import main

sys.exit(main())
