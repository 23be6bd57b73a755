"""`python -m ppo_keras` is `ppo-keras`."""

import sys

from ppo_keras.cli import main

if __name__ == "__main__":
    sys.exit(main())
