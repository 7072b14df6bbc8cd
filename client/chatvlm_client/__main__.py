import sys

from chatvlm_client.cli import main

sys.exit(main())
