"""`python -m commands` is `chatvlm-server`."""

from commands.cli import main

raise SystemExit(main())
