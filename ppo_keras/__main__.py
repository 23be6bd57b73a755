"""`python -m ppo_keras` is `ppo-keras`."""

import sys

from ppo_keras.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
